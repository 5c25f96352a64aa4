"""robosuite's manipulation tasks (Panda arms, OSC_POSE deltas, 20 Hz) with robomimic's names, limits and success.

Two things differ from robomimic's roll-outs, to make a reset cheap (0.01 s against seconds): the simulation is built
once for each environment, so Lift's cube keeps one size (robomimic draws 20 to 22 mm anew), and physics runs
robosuite's ``lite_physics``. Both are the same for every seed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import weakref
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.tasks.mujoco_camera import Camera, choose_renderer
from onedp.tasks.task import StepResult, Task
from onedp.types import FieldSpec, PolicySpec

RATE_HZ = 20.0
CONSTRUCTION_SEED = 0
"""What robosuite draws while it builds a model (the size of Lift's cube) is the same in every environment."""

ACTIONS_PER_ARM = 7
"""Six pose deltas and the gripper, for each arm."""

HUMAN_DATA = "robomimic HDF5 of the task (Mandlekar et al., arXiv 2108.03298), or scripted: onedp collect"


@dataclass(frozen=True)
class Scene:
    """What a task is called in robosuite, and how large its observation of the objects is."""

    environment: str
    object_size: int
    """Numbers in robomimic's ``object``: positions [m], quaternions (x, y, z, w), relative positions [m]. In Lift
    the last three are cube minus gripper, as robosuite 1.5 has them (recordings of other versions: check the sign)."""
    max_steps: int
    """robomimic's time limit [control steps]."""
    quaternions: tuple[int, ...] = ()
    """Where in ``object`` they begin."""
    arms: int = 1
    camera: str = "agentview"
    module: str = ""
    """Where the environment is defined, if not in robosuite."""
    horizon: int = 16
    """Steps that policies of the task predict."""
    n_obs_steps: int = 2
    """Observations that they see."""

    def for_reaction(self, n_obs_steps: int = 2) -> Scene:
        """The same with chunks so long that some are left when 14 ticks of one are late, as after 669 ms.

        ``n_obs_steps``: more where a motion must be seen.
        """
        return replace(self, horizon=32, n_obs_steps=n_obs_steps)


SCENES = {
    "lift": Scene("Lift", object_size=10, max_steps=400, quaternions=(3,)),
    "can": Scene("PickPlaceCan", object_size=14, max_steps=400, quaternions=(3, 10)),
    "pnp-milk": Scene("PickPlaceMilk", object_size=14, max_steps=400, quaternions=(3, 10)).for_reaction(),
    "square": Scene("NutAssemblySquare", object_size=14, max_steps=400, quaternions=(3, 10)),
    "tool-hang": Scene(
        "ToolHang", object_size=44, max_steps=700, quaternions=(3, 10, 17, 24, 31, 38), camera="sideview"
    ),
    "transport": Scene(
        "TwoArmTransport",
        object_size=41,
        max_steps=700,
        quaternions=(3, 10, 17),
        arms=2,
        camera="shouldercamera0",
    ),
}


def observation_fields(scene: Scene) -> tuple[FieldSpec, ...]:
    """robomimic's low-dimensional observations, in its order."""
    fields = [FieldSpec("object", (scene.object_size,), "m and quaternions", quaternions=scene.quaternions)]
    for arm in range(scene.arms):
        fields += [
            FieldSpec(f"robot{arm}_eef_pos", (3,), "m"),
            FieldSpec(f"robot{arm}_eef_quat", (4,), "1", quaternions=(0,)),
            FieldSpec(f"robot{arm}_gripper_qpos", (2,), "m"),
        ]
    return tuple(fields)


_idle: defaultdict[tuple[type, Scene], list[Any]] = defaultdict(list)
"""Simulators of environments that are gone, for the next ones of their kind: building one takes 0.7 s, and a reset
forgets all that was before. Kinds that change the model do not lend it to others."""


class RobosuiteEnvironment:
    """A robosuite simulation behind our environment protocol. It is built at the first reset, or used again."""

    def __init__(self, scene: Scene):
        if importlib.util.find_spec("robosuite") is None:
            raise OneDPError(
                "The simulator robosuite is not installed. Install it with: make simulators "
                "(or pip install 'onedp[robosuite]', which needs a C compiler and kernel headers)."
            )
        self._scene = scene
        self._fields = observation_fields(scene)
        self._made: Any = None
        self._camera: Camera | None = None
        self._renderers: dict[int, Any] = {}

    @property
    def simulator(self) -> Any:
        """robosuite's own environment: what a scripted expert looks at, and no policy sees."""
        if self._made is None:
            idle = _idle[type(self), self._scene]
            self._made = idle.pop() if idle else make_simulator(self._scene)
            weakref.finalize(self, idle.append, self._made)
        return self._made

    def reset(self, seed: int) -> dict[str, ndarray]:
        """Poses of arm and objects drawn from ``seed``, whatever ran before."""
        # Every sampler of robosuite holds this very generator, so its state is set and no new one is made.
        self.simulator.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.simulator.reset()
        return self._observe_now()  # what reset() returns has zeros where positions are relative to the hand

    def step(self, action: ndarray) -> StepResult:
        """For each arm 6 pose deltas in the world's frame, 1 for 0.05 m or 0.5 rad, and the gripper (1 closes it)."""
        obs, *_ = self.simulator.step(np.clip(np.asarray(action, dtype=np.float64), -1, 1))
        if self._fell_apart:
            return StepResult(self._observe(obs), 0.0, success=False, done=True)
        success = bool(self.simulator._check_success())
        return StepResult(self._observe(obs), float(success), success, success)

    def flat_state(self) -> ndarray:
        """Time, joint positions and velocities of the whole simulation, as robomimic's ``states``."""
        return np.asarray(self.simulator.sim.get_state().flatten(), dtype=np.float64)

    def render(self, size: int) -> ndarray:
        """The scene from the task's camera."""
        if self._camera is None:
            self._camera = self.camera(self._scene.camera)
        return self._camera.picture(size)

    def camera(self, name: str) -> Camera:
        """A camera of the scene that does not see the shapes which only collide."""
        simulation = self.simulator.sim
        return Camera(simulation.model._model, simulation.data._data, name, (0,), self._renderers)

    @property
    def gripper(self) -> tuple[ndarray, ndarray]:
        """Position [m] and rotation matrix of the gripper."""
        site = self.simulator.robots[0].eef_site_id["right"]
        return np.array(self.data.site_xpos[site]), np.array(self.data.site_xmat[site]).reshape(3, 3)

    @property
    def data(self) -> Any:
        """State of the simulation."""
        return self.simulator.sim.data

    @property
    def _fell_apart(self) -> bool:
        """Whether the physics became unstable in this episode.

        MuJoCo then puts every joint to 0 and goes on from there, which must not pass for what the policy did: a lid
        whose hinge is at 0 is closed.
        """
        import mujoco

        kinds = mujoco.mjtWarning
        found = self.data._data.warning.number
        return any(found[int(kind)] for kind in (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC))

    def _observe_now(self) -> dict[str, ndarray]:
        """What is observed in the state the simulation was put in, by a reset or by hand.

        A forced update moves the clocks of robosuite's sensors on by 2 ms; from the second one on they would be read so
        much before the end of each control step. So the clocks start again.
        """
        for observable in self.simulator._observables.values():
            observable.reset()
        return self._observe(self.simulator._get_observations(force_update=True))

    def _observe(self, obs: Mapping[str, Any]) -> dict[str, ndarray]:
        found = {field.name: obs["object-state" if field.name == "object" else field.name] for field in self._fields}
        return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}


def make_simulator(scene: Scene) -> Any:
    """robosuite's environment of ``scene``, without cameras; raises ``OneDPError`` when its packages do not fit."""
    choose_renderer()
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)  # it warns of its own missing optional parts
    try:
        with contextlib.redirect_stdout(None):
            import robosuite
            from robosuite.controllers import load_composite_controller_config

            if scene.module:
                importlib.import_module(scene.module)
            controller = load_composite_controller_config(controller="BASIC", robot="Panda")
    except ImportError as error:
        raise OneDPError(
            f"The simulator robosuite cannot be imported ({error}). Expected robosuite 1.5.2 with mujoco 3.3.0 and "
            "numpy 1.26; on a bare Debian or Ubuntu also: apt-get install libosmesa6 libgl1 libglib2.0-0"
        ) from error
    controller["body_parts"] = {"right": {**controller["body_parts"]["right"], "input_ref_frame": "world"}}
    return robosuite.make(
        scene.environment,
        robots=["Panda"] * scene.arms,
        controller_configs=controller,
        control_freq=int(RATE_HZ),
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        use_object_obs=True,
        ignore_done=True,
        hard_reset=False,
        reward_shaping=False,
        seed=CONSTRUCTION_SEED,
        **({"env_configuration": "opposed"} if scene.arms == 2 else {}),
    )


def robosuite_features(scene: Scene, arrays: Mapping[str, ndarray]) -> dict[str, ndarray]:
    """The spec's fields are robomimic's own arrays: only the type changes."""
    names = [field.name for field in observation_fields(scene)] + (["action"] if "action" in arrays else [])
    return {name: np.asarray(arrays[name], dtype=np.float32) for name in names}


def rest(scene: Scene, obs: Mapping[str, ndarray]) -> ndarray:
    """Zero deltas; a gripper command of 0 leaves the fingers as they are."""
    return np.zeros(ACTIONS_PER_ARM * scene.arms, dtype=np.float32)


def hold(last: ndarray) -> ndarray:
    """Zero deltas, and the grippers go on with what they were told last."""
    held = np.zeros_like(last)
    grippers = slice(ACTIONS_PER_ARM - 1, None, ACTIONS_PER_ARM)
    held[grippers] = last[grippers]
    return held


def robosuite_task(name: str, scene: Scene) -> Task:
    """The row of the task table for ``scene``."""
    fields = observation_fields(scene)
    action = FieldSpec("action", (ACTIONS_PER_ARM * scene.arms,), "1")
    return Task(
        name=name,
        spec=PolicySpec(
            observations=fields,
            action=action,
            action_low=(-1.0,) * action.size,
            action_high=(1.0,) * action.size,
            rate_hz=RATE_HZ,
            horizon=scene.horizon,
            n_obs_steps=scene.n_obs_steps,
        ),
        make_env=partial(RobosuiteEnvironment, scene),
        features=partial(robosuite_features, scene),
        raw_arrays=tuple(field.name for field in fields),
        max_steps=scene.max_steps,
        demonstrations=HUMAN_DATA,
        raw_fields=fields,
        rest_action=partial(rest, scene),
        hold_action=hold,
    )


ROBOSUITE_TASKS = tuple(robosuite_task(name, scene) for name, scene in SCENES.items())
