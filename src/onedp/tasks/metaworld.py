"""Eight tasks of Meta-World (its MT10 without reach and drawer-close), state observations with the goal in them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.tasks.mujoco_camera import Camera, choose_renderer
from onedp.tasks.task import StepResult, Task
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


def _features(arrays: Mapping[str, ndarray]) -> dict[str, ndarray]:
    names = [STATE.name] + ([ACTION.name] if ACTION.name in arrays else [])
    return {name: np.asarray(arrays[name], dtype=np.float32) for name in names}


def metaworld_task(name: str) -> Task:
    """The row of the task table for Meta-World's ``name`` (without -v3)."""
    return Task(
        name=PREFIX + name,
        spec=PolicySpec(
            observations=(STATE,),
            action=ACTION,
            action_low=(-1.0,) * 4,
            action_high=(1.0,) * 4,
            rate_hz=RATE_HZ,
        ),
        make_env=partial(MetaworldEnvironment, name),
        features=_features,
        raw_arrays=(STATE.name,),
        max_steps=MAX_STEPS,
        demonstrations="none of people; scripted: onedp collect",
        raw_fields=(STATE,),
    )


METAWORLD_TASKS = tuple(metaworld_task(name) for name in NAMES)
