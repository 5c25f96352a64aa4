"""Steering a robosuite arm with OSC_POSE deltas: the same law for all scripted experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.tasks.robosuite import RobosuiteEnvironment

POSITION_STEP_M = 0.05
"""What an action of 1 means, and the next line for rotations [rad]."""
ROTATION_STEP_RAD = 0.5
OPEN, CLOSE = -1.0, 1.0


@dataclass(frozen=True)
class Pose:
    """A position [m] and a yaw [rad] in the world; the gripper points down."""

    position: ndarray
    yaw: float


class Arm:
    """What an expert needs to know of the first arm and the objects, read from the simulation when asked."""

    def __init__(self, env: RobosuiteEnvironment):
        self._env = env

    @property
    def _simulation(self) -> Any:
        return self._env.simulator.sim

    @property
    def position(self) -> ndarray:
        """Between the finger tips [m]."""
        return np.array(self._simulation.data.site_xpos[self._site])

    @property
    def rotation(self) -> ndarray:
        """Gripper's axes as columns: z along the fingers, y from finger to finger."""
        return np.array(self._simulation.data.site_xmat[self._site]).reshape(3, 3)

    @property
    def _site(self) -> int:
        return int(self._env.simulator.robots[0].eef_site_id["right"])

    @property
    def opening(self) -> float:
        """Distance of the fingers [m], 0.08 when open."""
        left, right = (self._simulation.data.qpos[i] for i in self._finger_joints)
        return float(left - right)

    @property
    def finger_speed(self) -> float:
        """How fast the fingers close or open [m/s]."""
        robot = self._env.simulator.robots[0]
        left, right = (self._simulation.data.qvel[i] for i in robot._ref_gripper_joint_vel_indexes["right"])
        return float(abs(left - right))

    @property
    def _finger_joints(self) -> Any:
        return self._env.simulator.robots[0]._ref_gripper_joint_pos_indexes["right"]

    def body(self, name: str) -> tuple[ndarray, ndarray]:
        """Position [m] and rotation matrix of a body of the simulation."""
        index = self._simulation.model.body_name2id(name)
        data = self._simulation.data
        return np.array(data.body_xpos[index]), np.array(data.body_xmat[index]).reshape(3, 3)

    def holds(self, geoms: Any) -> bool:
        """Whether both fingers touch one of ``geoms`` (a robosuite object, or names of shapes)."""
        simulator = self._env.simulator
        return bool(simulator._check_grasp(gripper=simulator.robots[0].gripper["right"], object_geoms=geoms))

    def towards(self, pose: Pose, grip: float, speed: float, gain: float = 1.5) -> ndarray:
        """The action (7,) that moves the gripper towards ``pose`` in a straight line, slower when it is near.

        ``speed``: largest action of the position, 1 for 0.05 m a step.
        """
        move = gain * (pose.position - self.position) / POSITION_STEP_M
        turn = gain * rotation_vector(down(pose.yaw) @ self.rotation.T) / ROTATION_STEP_RAD
        return np.concatenate([shortened(move, speed), shortened(turn, 0.6), [grip]])

    def yaw_error(self, yaw: float) -> float:
        """Angle [rad] between the gripper and pointing down with ``yaw``."""
        return float(np.linalg.norm(rotation_vector(down(yaw) @ self.rotation.T)))


def upwards(height: float) -> ndarray:
    """A way of ``height`` [m] along the vertical."""
    return np.array([0.0, 0.0, height])


def down(yaw: float) -> ndarray:
    """Gripper pointing down, turned by ``yaw`` about the vertical from the Panda's neutral wrist; axes as columns."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[-sin, cos, 0], [cos, sin, 0], [0, 0, -1]])


def rotation_vector(matrix: ndarray) -> ndarray:
    """Axis times angle [rad] of a rotation matrix."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrix).as_rotvec()


def shortened(vector: ndarray, longest: float) -> ndarray:
    """``vector``, or the one of length ``longest`` in its direction."""
    length = float(np.linalg.norm(vector))
    return vector if length <= longest else vector * (longest / length)


def yaw_of(rotation: ndarray) -> float:
    """Direction of an object's x axis seen from above [rad]."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def nearest_turn(yaw: float, reference: float, period: float) -> float:
    """Of ``yaw`` plus multiples of ``period`` the one nearest to ``reference``."""
    return yaw + period * round((reference - yaw) / period)
