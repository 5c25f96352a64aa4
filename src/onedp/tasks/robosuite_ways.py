"""Lift with two equally good ways: the cube stands at 45 degrees, and the wrist may turn by 45 degrees either way.

What lies between the two, no turn at all, grasps the cube by its edges. The yaw of the gripper when it grasps says
which way an episode went.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy import ndarray

from onedp.tasks.robosuite import SCENES, robosuite_task
from onedp.tasks.robosuite_object import CubeEnvironment, gripper_yaw, standing
from onedp.tasks.task import StepResult, Task

WAY_RAD = np.pi / 4
"""Yaw of the cube, and of the gripper's two ways to either side of its neutral wrist."""


class Lift45Environment(CubeEnvironment):
    """Lift whose cube always stands at 45 degrees; it remembers the yaw at which it was grasped."""

    def __init__(self) -> None:
        super().__init__()
        self._grasp_yaw: float | None = None

    def reset(self, seed: int) -> dict[str, ndarray]:
        """The start of ``lift`` with this seed, but for the cube's yaw."""
        super().reset(seed)
        self._grasp_yaw = None
        return self.put_object(standing(self.object_pose[:3], WAY_RAD))

    def step(self, action: ndarray) -> StepResult:
        """See ``RobosuiteEnvironment``."""
        result = super().step(action)
        if self.held:
            self._grasp_yaw = gripper_yaw(self.gripper[1])
        return replace(result, way=self.way)

    @property
    def way(self) -> str | None:
        """To which side the wrist was turned when the gripper last held the cube; None without a clear turn."""
        if self._grasp_yaw is None or abs(self._grasp_yaw) < WAY_RAD / 2:
            return None
        return "left" if self._grasp_yaw > 0 else "right"

    @property
    def grasp_yaw(self) -> float | None:
        """Yaw of the gripper, 0 with a neutral wrist, when it last held the cube [rad]; None if it never did."""
        return self._grasp_yaw


LIFT_45: Task = replace(robosuite_task("lift-45", SCENES["lift"].for_reaction()), make_env=Lift45Environment)
