"""robosuite scenes with an object that can be read and moved by hand: what tasks that move objects share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.tasks.robosuite import SCENES, RobosuiteEnvironment


class ObjectEnvironment(RobosuiteEnvironment, ABC):
    """A scene and the one object in it that matters."""

    @property
    @abstractmethod
    def object(self) -> Any:
        """robosuite's object."""

    @property
    def object_pose(self) -> ndarray:
        """Position [m] and quaternion (w, x, y, z) of the object, (7,)."""
        return np.array(self.data.get_joint_qpos(self._joint))

    def put_object(self, pose: ndarray) -> dict[str, ndarray]:
        """Put the object there at once, at rest; returns what is observed now."""
        self.data.set_joint_qpos(self._joint, pose)
        self.data.set_joint_qvel(self._joint, np.zeros(6))
        self.simulator.sim.forward()
        return self._observe_now()

    def push_object(self, velocity: ndarray) -> None:
        """Give the object a horizontal velocity [m/s], without any turning; its fall or rise stays as it is."""
        values = np.array(self.data.get_joint_qvel(self._joint))
        values[:2] = velocity
        values[3:] = 0.0
        self.data.set_joint_qvel(self._joint, values)

    @property
    def held(self) -> bool:
        """Whether both fingers touch the object."""
        robot = self.simulator.robots[0]
        return bool(self.simulator._check_grasp(gripper=robot.gripper["right"], object_geoms=self.object))

    @property
    def _joint(self) -> str:
        return str(self.object.joints[0])


class CubeEnvironment(ObjectEnvironment):
    """Lift and its cube."""

    def __init__(self) -> None:
        super().__init__(SCENES["lift"])

    @property
    def object(self) -> Any:
        """The cube."""
        return self.simulator.cube

    @property
    def rest_height(self) -> float:
        """Height of the middle of a cube that lies on the table [m]."""
        return float(self.simulator.table_offset[2] + self.simulator.cube.size[2])


class PickPlaceEnvironment(ObjectEnvironment):
    """PickPlace with one of its four objects, the others out of the scene."""

    def __init__(self) -> None:
        super().__init__(SCENES["pnp-milk"])

    @property
    def object(self) -> Any:
        """The object of this episode."""
        return self.simulator.objects[self.simulator.object_id]

    @property
    def in_bin(self) -> ndarray:
        """Where the object is, seen from the middle of the bin it starts in [m], (2,)."""
        return np.asarray(self.object_pose[:2] - self.simulator.bin1_pos[:2])

    @property
    def base(self) -> ndarray:
        """Where the arm stands [m], (2,)."""
        return np.array(self.data.get_body_xpos("robot0_base"))[:2]

    def room(self, margin: float) -> ndarray:
        """How far from the middle of that bin along x and y it is ``margin`` from the walls [m], (2,)."""
        return np.array(self.simulator.bin_size[:2]) / 2 - margin


def standing(position: ndarray, yaw: float) -> ndarray:
    """Pose (7,) of a cube that lies at ``position`` [m], turned by ``yaw`` [rad] about the vertical."""
    return np.array([*position, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def gripper_yaw(rotation: ndarray) -> float:
    """Turn about the vertical from the neutral wrist [rad], of a gripper that points down more or less."""
    return float(np.arctan2(rotation[1, 1], rotation[0, 1]))
