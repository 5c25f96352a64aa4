"""What a task is: an environment, the observations and actions a policy sees of it, and how an episode is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from numpy import ndarray

from onedp.errors import OneDPError
from onedp.types import FieldSpec, PolicySpec


@dataclass(frozen=True)
class StepResult:
    """What the environment answers to one action."""

    obs: dict[str, ndarray]
    """One time step of every observation field, ``(*shape)``."""
    reward: float
    """Instantaneous reward; the best one of an episode is its score."""
    success: bool
    """True when the episode's goal is reached."""
    done: bool
    """True when the episode ends here (success or failure, not the time limit)."""
    way: str | None = None
    """Which of several equally good ways the episode went, once that is known; None in tasks that have one."""


Features = Callable[[Mapping[str, Any]], dict[str, Any]]
"""From a data set's raw arrays ``(N, ...)`` to the fields of a spec, ``(N, *shape)`` each.

Pictures may be a ``LazyArray``, which is not in memory: pass it on as it is."""


Mirror = Callable[[Mapping[str, Any]], dict[str, Any]]
"""From raw arrays (and the action) to the same recording in a mirror, for tasks that look the same there."""


RestAction = Callable[[Mapping[str, ndarray]], ndarray]
"""From one observation ``{name: (*shape)}`` to the action ``(Da,)`` that keeps the robot where it is."""


RawObservations = Callable[[Any], dict[str, ndarray]]
"""From an environment of the task to its raw arrays at this moment, ``{name: (*shape)}``."""


HoldAction = Callable[[ndarray], ndarray]
"""From the last action ``(Da,)`` to the one that keeps the robot where that one brought it."""


@runtime_checkable
class Environment(Protocol):
    """One simulated robot. The same seed and actions give the same episode, bit for bit."""

    def reset(self, seed: int) -> dict[str, ndarray]:
        """Start the episode of ``seed``; returns the first observation."""
        ...

    def step(self, action: ndarray) -> StepResult:
        """Hold ``action`` ``(Da,)``, physical units, for one control period."""
        ...

    def render(self, size: int) -> ndarray:
        """The scene as an RGB picture, uint8 ``(size, size, 3)``."""
        ...


@dataclass(frozen=True)
class Task:
    """One row of the task table. Torch-free; simulators are imported when an environment is made."""

    name: str
    spec: PolicySpec
    make_env: Callable[[], Environment]
    features: Features
    """From a data set's raw arrays to every observation of ``spec``, and the action when it is among the arrays."""
    raw_arrays: tuple[str, ...]
    """Arrays that ``features`` reads; the action's name is always the spec's."""
    max_steps: int
    """Time limit [control ticks]."""
    demonstrations: str
    """Where the human data for it comes from."""
    raw_fields: tuple[FieldSpec, ...] = ()
    """Shapes and units of raw arrays, where they are known; data sets are checked against them before ``features``."""
    recorded_as: Mapping[str, str] = field(default_factory=dict)
    """Recorded array of a raw array or field where the usual names (``tasks.fields``) do not find it."""
    mirror: Mirror | None = None
    """Exact reflection of the task onto itself, where there is one: it doubles the demonstrations."""
    ticks_per_step: int = 1
    """Control ticks of the environment in one step of ``spec``: above 1 the robot reacts, and latency counts, between
    the steps of its policy."""
    raw_observations: RawObservations | None = None
    """Raw arrays that files of the environment's episodes keep beside the observations, where ``features`` needs them
    and they are something else."""
    rest_action: RestAction | None = None
    """What a robot does that has no action yet; needed where latency is charged."""
    hold_action: HoldAction | None = None
    """For actions that are deltas: what a robot does that waits for its next chunk, and then begins it with the first
    action. None: actions are positions, the last one holds, and those whose time has passed are dropped."""

    @property
    def control_hz(self) -> float:
        """Rate of the environment's control ticks [Hz]."""
        return self.spec.rate_hz * self.ticks_per_step

    def __post_init__(self) -> None:
        if self.ticks_per_step < 1:
            raise OneDPError(f"Task '{self.name}': ticks_per_step is {self.ticks_per_step}, expected 1 or more.")
        unknown = sorted({each.name for each in self.raw_fields} - set(self.raw_arrays))
        if unknown:
            raise OneDPError(f"Task '{self.name}': raw_fields {unknown} are not in raw_arrays {self.raw_arrays}.")
