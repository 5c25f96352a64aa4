"""Eight tasks of Meta-World (its MT10 without reach and drawer-close), state observations with the goal in them.

Each alone, and all as one task that tells its policy by an index which of them it is in.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.tasks.mujoco_camera import Camera, choose_renderer
from onedp.tasks.task import Environment, StepResult, Task
from onedp.types import FieldSpec, PolicySpec

NAMES = (
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)
STATE = FieldSpec("state", (39,), "m and quaternions")
"""Hand, gripper opening, objects; the same one step ago; the goal. Unused entries are 0."""
RATE_HZ = 80.0
MAX_STEPS = 500
PREFIX = "metaworld-"
TASK_INDEX = FieldSpec("task", (1,), "1", "int64", classes=len(NAMES))
"""Place of the task in ``NAMES``; the state alone does not always tell (open or close the window)."""
ACTION = FieldSpec("action", (4,), "1")

_MODEL_ARRAYS = ("body_pos", "body_quat", "site_pos", "site_quat", "geom_pos", "geom_quat")


class MetaworldEnvironment:
    """A Meta-World simulation behind our environment protocol. It is built at the first reset."""

    def __init__(self, name: str):
        if importlib.util.find_spec("metaworld") is None:
            raise OneDPError(
                "The simulator metaworld is not installed. Install it with: make simulators "
                "(or pip install 'onedp[metaworld]')."
            )
        self.name = name
        self._made: Any = None
        self._model: dict[str, ndarray] = {}
        self._camera: Camera | None = None
        self.observation: ndarray = np.zeros(STATE.shape)
        """The newest observation, float64: what a scripted policy reads."""

    @property
    def simulator(self) -> Any:
        """Meta-World's own environment."""
        if self._made is None:
            self._made = _make(self.name)
            self._model = {name: getattr(self._made.model, name).copy() for name in _MODEL_ARRAYS}
        return self._made

    def reset(self, seed: int) -> dict[str, ndarray]:
        """A layout drawn from ``seed``, whatever ran before."""
        simulator = self.simulator
        import mujoco  # after the simulator, which chooses the renderer first

        for name, values in self._model.items():  # a layout is written into the model, and moves the next reset's hand
            getattr(simulator.model, name)[:] = values
        mujoco.mj_resetData(simulator.model, simulator.data)  # its own reset moves the hand once before it does this
        simulator._prev_obs = np.zeros_like(simulator._prev_obs)
        simulator.seed(seed)
        return self._observe(simulator.reset()[0])

    def step(self, action: ndarray) -> StepResult:
        """Move the hand by up to 1 cm along x, y, z (actions -1 to 1) and press the fingers with the fourth number."""
        obs, _, _, _, info = self.simulator.step(np.clip(np.asarray(action, dtype=np.float64), -1, 1))
        success = bool(info["success"])
        return StepResult(self._observe(obs), float(success), success, success)

    def render(self, size: int) -> ndarray:
        """The scene from a corner of the table."""
        if self._camera is None:
            self._camera = Camera(self.simulator.model, self.simulator.data, "corner2")
        return self._camera.picture(size)

    def _observe(self, obs: ndarray) -> dict[str, ndarray]:
        self.observation = np.asarray(obs, dtype=np.float64)
        return {STATE.name: self.observation.astype(np.float32)}


class EightTasks:
    """The task with the index ``seed % 8`` in each episode; the simulations are built when they are needed."""

    def __init__(self) -> None:
        self._environments = [MetaworldEnvironment(name) for name in NAMES]
        self._index = 0

    @property
    def current(self) -> MetaworldEnvironment:
        """The simulation of this episode."""
        return self._environments[self._index]

    def reset(self, seed: int) -> dict[str, ndarray]:
        """A layout of the task ``seed % 8``, the one that this task alone has with the same seed."""
        self._index = seed % len(NAMES)
        return self._with_index(self.current.reset(seed))

    def step(self, action: ndarray) -> StepResult:
        """As in the task alone."""
        result = self.current.step(action)
        return replace(result, obs=self._with_index(result.obs))

    def render(self, size: int) -> ndarray:
        """The scene of this episode."""
        return self.current.render(size)

    def _with_index(self, obs: dict[str, ndarray]) -> dict[str, ndarray]:
        return {**obs, TASK_INDEX.name: np.array([self._index], dtype=np.int64)}


def _make(name: str) -> Any:
    choose_renderer()
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ImportError as error:
        raise OneDPError(
            f"The simulator metaworld cannot be imported ({error}). Expected metaworld 3.1.1 with mujoco 3.3.0; on a "
            "bare Debian or Ubuntu also: apt-get install libosmesa6 libgl1"
        ) from error
    simulator = ALL_V3_ENVIRONMENTS[f"{name}-v3"]()
    simulator._partially_observable = False  # the goal is in the observation ...
    vars(simulator).pop("sawyer_observation_space", None)  # ... and not clipped to 0 by limits cached before that
    simulator._freeze_rand_vec = False  # draw a layout at each reset ...
    simulator.seeded_rand_vec = True  # ... from the generator that seed() sets
    simulator._set_task_called = True
    return simulator


def _features(fields: tuple[FieldSpec, ...], arrays: Mapping[str, ndarray]) -> dict[str, ndarray]:
    present = [*fields, *([ACTION] if ACTION.name in arrays else [])]
    return {field.name: np.asarray(arrays[field.name], dtype=field.dtype) for field in present}


def rest(obs: Mapping[str, ndarray]) -> ndarray:
    """The hand stays where it is, and so do the fingers."""
    return np.zeros(ACTION.size, dtype=np.float32)


def hold(last: ndarray) -> ndarray:
    """The hand stays where it is, and the fingers do what they were told last."""
    return np.array([0.0, 0.0, 0.0, last[3]], dtype=last.dtype)


def _task(name: str, make_env: Callable[[], Environment], fields: tuple[FieldSpec, ...]) -> Task:
    return Task(
        name=PREFIX + name,
        spec=PolicySpec(
            observations=fields,
            action=ACTION,
            action_low=(-1.0,) * 4,
            action_high=(1.0,) * 4,
            rate_hz=RATE_HZ,
        ),
        make_env=make_env,
        features=partial(_features, fields),
        raw_arrays=tuple(field.name for field in fields),
        max_steps=MAX_STEPS,
        demonstrations="none of people; scripted: onedp collect",
        raw_fields=fields,
        rest_action=rest,
        hold_action=hold,
    )


METAWORLD_TASKS = (
    *(_task(name, partial(MetaworldEnvironment, name), (STATE,)) for name in NAMES),
    _task("eight", EightTasks, (STATE, TASK_INDEX)),
)
"""Each of Meta-World's tasks (their names there without -v3), and all eight for one policy."""
