"""A hand that moves the T: never faster than a hand, never through a wall."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from onedp.tasks.pusht import T_CORNERS_PX, WORKSPACE_PX, PushTEnvironment

HAND_SPEED_PX = 900.0
"""[px/s]"""
HAND_TURN_RAD = 2 * np.pi
"""[rad/s]"""
WALL_PX = 8.0
"""The walls' inner faces are so far from the edge of the workspace, and a pixel nearer."""


def inside_walls(pose: Float[ndarray, " 3"]) -> Float[ndarray, " 3"]:
    """The nearest pose (x, y [px], angle [rad]) with this angle at which the whole T is between the walls."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    corners = T_CORNERS_PX @ np.array([[cos, sin], [-sin, cos]])  # (8, 2) around the T's origin
    low, high = WALL_PX - corners.min(axis=0), WORKSPACE_PX - WALL_PX - corners.max(axis=0)
    return np.array([*np.clip(pose[:2], low, high), pose[2]], dtype=np.float64)


def moved_towards(pose: Float[ndarray, " 3"], target: Float[ndarray, " 3"], seconds: float) -> Float[ndarray, " 3"]:
    """Where a hand that pulls the T from ``pose`` to ``target`` has it after ``seconds``, the short way round."""
    shift = target[:2] - pose[:2]
    far = float(np.linalg.norm(shift))
    reach = HAND_SPEED_PX * seconds
    turn = (target[2] - pose[2] + np.pi) % (2 * np.pi) - np.pi
    most = HAND_TURN_RAD * seconds
    shift = shift * min(1.0, reach / far) if far > 0 else shift
    return inside_walls(np.array([*(pose[:2] + shift), pose[2] + np.clip(turn, -most, most)]))


def pull(env: PushTEnvironment, target: Float[ndarray, " 3"], seconds: float) -> None:
    """Move the T of ``env`` towards ``target`` for ``seconds``; the physics resolves what it then overlaps."""
    pose = moved_towards(env.raw_state()[2:], target, seconds)
    env.put_block(pose[:2], float(pose[2]))
