"""Push-T (gym-pusht): push a T-shaped block onto its goal with a disc, watching keypoints, its pose or a picture.

Needs the extra ``pusht`` only when an environment is made; specs and features are plain numpy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from onedp.data.lazy import LazyArray, mapped
from onedp.errors import OneDPError
from onedp.tasks.task import Features, StepResult, Task
from onedp.types import FieldSpec, PolicySpec

WORKSPACE_PX = 512.0
RATE_HZ = 10.0
"""Of the human demonstrations."""
PICTURE_PX = 96  # of the human data
SMALLEST_PICTURE_PX = 96  # the simulator's marker of the target would have no thickness below

# Corners of the two rectangles of the T in its own frame, in the simulator's order [px].
T_CORNERS_PX = np.array(
    [[-60, 0], [60, 0], [60, 30], [-60, 30], [-15, 30], [15, 30], [15, 120], [-15, 120]], dtype=np.float64
)


def keypoints_in_world(state: Float[ndarray, "n 5"]) -> Float[ndarray, "n 16"]:
    """The simulator's eight keypoints, x0 y0 x1 y1 ... [px], from states (agent xy, block xy [px], block angle [rad]).

    The recorded ``keypoint`` array of the human data set holds other points in another order; do not use it.
    """
    angle = state[:, 4].astype(np.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # (N, 2, 2)
    points = np.einsum("nij,kj->nki", rotation, T_CORNERS_PX) + state[:, None, 2:4]  # (N, 8, 2)
    return points.reshape(len(state), 16)


def keypoint_features(arrays: Mapping[str, ndarray]) -> dict[str, ndarray]:
    """Observation fields of ``pusht-keypoints`` (and the action, if recorded) from the raw ``state``."""
    state = np.asarray(arrays["state"])
    return _with_action(arrays, {"keypoints": keypoints_in_world(state), "agent_pos": state[:, :2]})


def state_features(arrays: Mapping[str, ndarray]) -> dict[str, ndarray]:
    """Observation fields of ``pusht-state``; the angle becomes cosine and sine, so it has no jump at a full turn."""
    state = np.asarray(arrays["state"])
    rotation = np.stack([np.cos(state[:, 4]), np.sin(state[:, 4])], axis=-1)
    return _with_action(arrays, {"agent_pos": state[:, :2], "block_pos": state[:, 2:4], "block_cos_sin": rotation})


def image_features(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Observation fields of ``pusht-image``: the recorded pictures as they are, and the agent's position."""
    numbers = {name: values for name, values in arrays.items() if name != "img"}
    return {"image": arrays["img"], **_with_action(numbers, {"agent_pos": np.asarray(arrays["state"])[:, :2]})}


def mirrored(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """``state``, and ``action`` and ``img`` if there, reflected in the line x + y = 512, the T's long axis at its goal.

    The workspace, the goal, the T and the disc are their own mirror images there, so a reflected demonstration is one
    too. The T's frame turns the other way: the angle becomes pi/2 - angle.
    """
    state = np.asarray(arrays["state"], dtype=np.float64)
    agent, block, angle = _reflected(state[:, :2]), _reflected(state[:, 2:4]), np.pi / 2 - state[:, 4:]
    result: dict[str, Any] = {"state": np.concatenate([agent, block, angle], axis=1)}
    if "img" in arrays:
        pictures = arrays["img"]
        lazy = isinstance(pictures, LazyArray)
        result["img"] = mapped(pictures, _reflected_pictures, pictures.dtype) if lazy else _reflected_pictures(pictures)
    if "action" in arrays:
        result["action"] = _reflected(np.asarray(arrays["action"], dtype=np.float64))
    return result


def _reflected(points: Float[ndarray, "n 2"]) -> Float[ndarray, "n 2"]:
    return WORKSPACE_PX - points[:, ::-1]


def _reflected_pictures(pictures: ndarray) -> ndarray:
    """Pictures (n, H, W, C), H = W, with pixel (row, column) at (W - 1 - column, H - 1 - row)."""
    return pictures[:, ::-1, ::-1].transpose(0, 2, 1, 3)


def _with_action(arrays: Mapping[str, ndarray], fields: dict[str, ndarray]) -> dict[str, ndarray]:
    if "action" in arrays:
        fields["action"] = np.asarray(arrays["action"])
    return {name: values.astype(np.float32) for name, values in fields.items()}


def raw_observations(env: PushTEnvironment) -> dict[str, ndarray]:
    """The human data's ``state`` at this moment, which the observations of all Push-T tasks are made of."""
    return {"state": env.raw_state()}


def stay(obs: Mapping[str, ndarray]) -> ndarray:
    """The action that leaves the disc where it is."""
    return obs["agent_pos"]


class PushTEnvironment:
    """gym-pusht behind our environment protocol; ``features`` turns its five-number state into observation fields.

    With ``pictures`` they also get ``img``, the scene as the human data shows it: 96 x 96 pixels, without the target.
    """

    def __init__(self, features: Features, control_hz: float = RATE_HZ, pictures: bool = False):
        """``control_hz``: 100 over a whole number, since the physics runs at 100 Hz."""
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            from gym_pusht.envs.pusht import PushTEnv, pymunk_to_shapely
        except ImportError as error:
            raise OneDPError(
                f"The Push-T simulator cannot be imported ({error}). Install it with: pip install 'onedp[pusht]'; "
                "on a bare Debian or Ubuntu also: apt-get install libgl1 libglib2.0-0"
            ) from error
        self._env = PushTEnv(obs_type="state", render_mode="rgb_array")
        self._env.control_hz = control_hz
        self._env._get_coverage = self._coverage
        self._to_polygons = pymunk_to_shapely
        self._goal: Any = None
        self._features = features
        self._pictures = pictures

    def reset(self, seed: int) -> dict[str, ndarray]:
        """Random poses of agent and block, drawn by the simulator from ``seed``."""
        state, _ = self._env.reset(seed=seed)
        self._env._last_action = None  # the simulator would draw the last target of the episode before
        return self._observe(state)

    def reset_to(self, raw_state: Float[ndarray, " 5"], seed: int) -> dict[str, ndarray]:
        """``reset``, and then agent and block exactly at ``raw_state`` (see there), at rest."""
        self.reset(seed)
        self._env.agent.position = tuple(raw_state[:2])
        self.put_block(raw_state[2:4], float(raw_state[4]))
        return self._observe(self.raw_state())

    def step(self, action: ndarray) -> StepResult:
        """Move the agent towards the target position ``action`` (x, y) [px] for one control tick."""
        state, reward, success, _, _ = self._env.step(np.asarray(action, dtype=np.float64))
        return StepResult(self._observe(state), float(reward), bool(success), bool(success))

    def raw_state(self) -> ndarray:
        """Agent x, y, block x, y [px] and block angle [rad], float64: the human data's ``state``."""
        body = self._env.block
        return np.array([*self._env.agent.position, *body.position, body.angle % (2 * np.pi)], dtype=np.float64)

    def render(self, size: int) -> ndarray:
        """The scene from above with the last target marked."""
        drawn = max(size, SMALLEST_PICTURE_PX)
        self._env.visualization_width = self._env.visualization_height = drawn
        nearest = np.arange(size) * drawn // size
        return np.asarray(self._env.render(), dtype=np.uint8)[np.ix_(nearest, nearest)]

    @property
    def agent_position(self) -> Float[ndarray, " 2"]:
        """Of the disc [px]."""
        return np.array(self._env.agent.position)

    @property
    def block_position(self) -> Float[ndarray, " 2"]:
        """Of the T's origin [px]."""
        return np.array(self._env.block.position)

    def shift_block(self, shift: Float[ndarray, " 2"]) -> None:
        """Move the T by ``shift`` [px] from outside; its speed stays."""
        self._env.block.position = tuple(self.block_position + shift)
        self._env.space.reindex_shapes_for_body(self._env.block)

    def put_block(self, position: Float[ndarray, " 2"], angle: float) -> None:
        """Put the T at exactly this pose [px, rad], at rest."""
        block = self._env.block
        block.angle = angle  # before the position, which it would shift
        block.position = tuple(position)
        block.velocity, block.angular_velocity = (0.0, 0.0), 0.0
        self._env.space.reindex_shapes_for_body(block)

    def _coverage(self) -> float:
        """Share of the goal that the block covers, as the simulator's own but bit for bit the same in every process.

        The simulator takes the T's two rectangles from a set, whose order depends on memory addresses, so its rewards
        vary in the last bit. The goal never moves and is computed once.
        """
        shapes = self._env._block_shapes  # a list
        if self._goal is None:
            self._goal = self._to_polygons(self._env.get_goal_pose_body(self._env.goal_pose), shapes)
        return float(self._goal.intersection(self._to_polygons(self._env.block, shapes)).area / self._goal.area)

    def _observe(self, state: ndarray) -> dict[str, ndarray]:
        raw = {"state": state[None]}
        if self._pictures:
            raw["img"] = np.asarray(self._env._render(visualize=False), dtype=np.uint8)[None]
        return {name: values[0] for name, values in self._features(raw).items()}


def _make_keypoint_env() -> PushTEnvironment:
    return PushTEnvironment(keypoint_features)


def _make_state_env() -> PushTEnvironment:
    return PushTEnvironment(state_features)


def _make_image_env() -> PushTEnvironment:
    return PushTEnvironment(image_features, pictures=True)


def _spec(*observations: FieldSpec) -> PolicySpec:
    return PolicySpec(
        observations=observations,
        action=FieldSpec("action", (2,), "px"),
        action_low=(0.0, 0.0),
        action_high=(WORKSPACE_PX, WORKSPACE_PX),
        rate_hz=RATE_HZ,
    )


HUMAN_DATA = "pusht_cchi_v7_replay (Chi et al., arXiv 2303.04137), zarr or npz"
STATE = FieldSpec("state", (5,), "px px px px rad")  # agent xy, block xy, block angle

PUSHT_KEYPOINTS = Task(
    name="pusht-keypoints",
    spec=_spec(FieldSpec("keypoints", (16,), "px"), FieldSpec("agent_pos", (2,), "px")),
    make_env=_make_keypoint_env,
    features=keypoint_features,
    raw_arrays=("state",),
    max_steps=300,
    demonstrations=HUMAN_DATA,
    raw_fields=(STATE,),
    mirror=mirrored,
    raw_observations=raw_observations,
    rest_action=stay,
)

PUSHT_IMAGE = Task(
    name="pusht-image",
    spec=_spec(FieldSpec("image", (PICTURE_PX, PICTURE_PX, 3), "1", "uint8"), FieldSpec("agent_pos", (2,), "px")),
    make_env=_make_image_env,
    features=image_features,
    raw_arrays=("img", "state"),
    max_steps=300,
    demonstrations=HUMAN_DATA + ", or lerobot/pusht",
    raw_fields=(FieldSpec("img", (PICTURE_PX, PICTURE_PX, 3), "1", "uint8"), STATE),
    mirror=mirrored,
    raw_observations=raw_observations,
    rest_action=stay,
)

PUSHT_STATE = Task(
    name="pusht-state",
    spec=_spec(
        FieldSpec("agent_pos", (2,), "px"), FieldSpec("block_pos", (2,), "px"), FieldSpec("block_cos_sin", (2,), "1")
    ),
    make_env=_make_state_env,
    features=state_features,
    raw_arrays=("state",),
    max_steps=300,
    demonstrations=HUMAN_DATA,
    raw_fields=(STATE,),
    mirror=mirrored,
    raw_observations=raw_observations,
    rest_action=stay,
)
