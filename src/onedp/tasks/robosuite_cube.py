"""robosuite's Lift with a cube that can be read and moved by hand: what tasks that change Lift share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from onedp.tasks.robosuite import SCENES, RobosuiteEnvironment


class CubeEnvironment(RobosuiteEnvironment):
    """Lift itself."""

    def __init__(self) -> None:
        super().__init__(SCENES["lift"])

    @property
    def cube_pose(self) -> ndarray:
        """Position [m] and quaternion (w, x, y, z) of the cube, (7,)."""
        return np.array(self.data.get_joint_qpos(self._joint))

    def put_cube(self, pose: ndarray) -> dict[str, ndarray]:
        """Put the cube there at once, at rest; returns what is observed now."""
        self.data.set_joint_qpos(self._joint, pose)
        self.data.set_joint_qvel(self._joint, np.zeros(6))
        self.simulator.sim.forward()
        return self._observe(self.simulator._get_observations(force_update=True))

    def push_cube(self, velocity: ndarray) -> None:
        """Give the cube a horizontal velocity [m/s], without any turning; its fall or rise stays as it is."""
        values = np.array(self.data.get_joint_qvel(self._joint))
        values[:2] = velocity
        values[3:] = 0.0
        self.data.set_joint_qvel(self._joint, values)

    @property
    def held(self) -> bool:
        """Whether both fingers touch the cube."""
        robot = self.simulator.robots[0]
        return bool(self.simulator._check_grasp(gripper=robot.gripper["right"], object_geoms=self.simulator.cube))

    @property
    def gripper(self) -> tuple[ndarray, ndarray]:
        """Position [m] and rotation matrix of the gripper."""
        site = self.simulator.robots[0].eef_site_id["right"]
        return np.array(self.data.site_xpos[site]), np.array(self.data.site_xmat[site]).reshape(3, 3)

    @property
    def rest_height(self) -> float:
        """Height of the middle of a cube that lies on the table [m]."""
        return float(self.simulator.table_offset[2] + self.simulator.cube.size[2])

    @property
    def data(self) -> Any:
        """State of the simulation."""
        return self.simulator.sim.data

    @property
    def _joint(self) -> str:
        return str(self.simulator.cube.joints[0])


def standing(position: ndarray, yaw: float) -> ndarray:
    """Pose (7,) of a cube that lies at ``position`` [m], turned by ``yaw`` [rad] about the vertical."""
    return np.array([*position, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def gripper_yaw(rotation: ndarray) -> float:
    """Turn about the vertical from the neutral wrist [rad], of a gripper that points down more or less."""
    return float(np.arctan2(rotation[1, 1], rotation[0, 1]))
