"""Which action of which chunk a control tick executes.

A chunk computed from the observation of tick t has one action for each tick from t on. It is usable from tick
t + ceil(latency x rate), so the actions before that tick are late and dropped. Executors know ticks only, no clock and
no policy: the robot's loop and an evaluation with charged latency drive the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float32
from numpy import ndarray

from onedp.errors import SpecError
from onedp.types import PolicySpec


@dataclass
class Counters:
    """What an episode's timing cost."""

    executed: int = 0
    """Ticks with an action of their own."""
    dropped: int = 0
    """Actions that were late: their tick had passed when the chunk came."""
    repeated: int = 0
    """Ticks on which the last action was held, because there was no new one."""
    starved: int = 0
    """Ticks without any action: none had ever come."""
    deadline_misses: int = 0
    """Ticks skipped because the loop itself was busy until the next one began."""


@runtime_checkable
class ChunkExecutor(Protocol):
    """Says when a new chunk is wanted, takes chunks, gives the action of each tick. For one episode."""

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        ...

    def wants_chunk(self, tick: int) -> bool:
        """Whether the policy should be asked with the observation of ``tick``, if it is not thinking already."""
        ...

    def deliver(self, chunk: Float32[ndarray, "tc da"], observed: int, usable: int) -> None:
        """Take the chunk computed from the observation of tick ``observed``, usable from tick ``usable`` on."""
        ...

    def action(self, tick: int) -> Float32[ndarray, " da"] | None:
        """The action of ``tick``; None while there is none at all. Ask once a tick, in order."""
        ...


class SynchronousExecutor:
    """Executes Ta actions of a chunk, asks for the next, and holds the last action until it is usable."""

    def __init__(self, spec: PolicySpec):
        self.counters = Counters()
        self._n_action_steps = spec.n_action_steps
        self._chunk: ndarray | None = None
        self._observed = 0
        self._end = 0  # first tick the chunk is not meant for
        self._last: ndarray | None = None

    def wants_chunk(self, tick: int) -> bool:
        """When the actions to execute are used up."""
        return self._chunk is None or tick >= self._end

    def deliver(self, chunk: Float32[ndarray, "tc da"], observed: int, usable: int) -> None:
        """Late actions are dropped; Ta of the others, or as many as are left, will be executed."""
        if usable < observed:
            raise SpecError(f"A chunk observed at tick {observed} cannot be usable at tick {usable} before it.")
        self.counters.dropped += min(usable - observed, len(chunk))
        self._chunk, self._observed = chunk, observed
        self._end = min(usable + self._n_action_steps, observed + len(chunk))

    def action(self, tick: int) -> Float32[ndarray, " da"] | None:
        """The chunk's action for ``tick``, else the last one again, else None."""
        if self._chunk is not None and self._observed <= tick < self._end:
            self._last = self._chunk[tick - self._observed]
            self.counters.executed += 1
        elif self._last is None:
            self.counters.starved += 1
        else:
            self.counters.repeated += 1
        return self._last
