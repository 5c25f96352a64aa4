"""A lid that can be closed from the left or from the right: two equally good ways, and nothing good between them.

After the Coffee task of the paper's real robot (arXiv 2410.21257): there a machine, here a box with a hinged lid that
stands open between the gripper and the place behind it, from which alone it can be pushed shut. Straight ahead the
gripper meets the lid itself, which opens no further.
"""

from __future__ import annotations

from dataclasses import replace

from numpy import ndarray

from onedp.tasks.robosuite import RobosuiteEnvironment, Scene, robosuite_task
from onedp.tasks.task import StepResult, Task

SCENE = Scene("CoffeeLid", object_size=7, max_steps=300, module="onedp.tasks.robosuite_lid_scene").for_reaction(4)
"""``object``: angle of the lid [rad], 0 closed; the hinge's middle; hinge minus gripper [m]."""

BEHIND_M = 0.02
"""Further behind the hinge than this, the gripper has gone round the lid."""
LID_END_M = 0.06
"""The lid's edges are so far to the left and right of its middle."""


class CoffeeLidEnvironment(RobosuiteEnvironment):
    """It remembers on which side the gripper went round the lid."""

    def __init__(self) -> None:
        super().__init__(SCENE)
        self._way: str | None = None

    def reset(self, seed: int) -> dict[str, ndarray]:
        """Places of box and arm and the lid's angle drawn from ``seed``."""
        self._way = None
        return super().reset(seed)

    def step(self, action: ndarray) -> StepResult:
        """See ``RobosuiteEnvironment``; ``way`` is left or right as the robot sees it, or over the lid."""
        result = super().step(action)
        past = self.gripper[0] - self.simulator.hinge
        if self._way is None and past[0] > BEHIND_M:
            self._way = "over" if abs(past[1]) < LID_END_M else "left" if past[1] > 0 else "right"
        return replace(result, way=self._way)


COFFEE_LID: Task = replace(
    robosuite_task("coffee-lid", SCENE),
    make_env=CoffeeLidEnvironment,
    demonstrations="none of people; scripted, both ways: onedp collect",
)
