"""Picking an object up and, where there is a goal, putting it there: what scripted experts of robosuite share.

Each is a feedback law: what it does follows from where gripper and object are now and from a phase that falls back when
the object was lost. So after a push it does what a policy should do in the state it finds, and no wait is counted in
steps: the fingers tell when they have closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.collect.arm import CLOSE, OPEN, Arm, Pose, upwards
from onedp.tasks.robosuite import RobosuiteEnvironment

CLOSED_BELOW_M = 0.065
"""Opening at which fingers that touch the object have closed on it; wider, they have not begun. Cube, can and handle
are 0.03 to 0.05 m thick, the open hand is 0.08."""
HOVER_M = (0.04, 0.10)
"""From where the approach may come in above the grasp."""


class Phase(Enum):
    """Where an episode is."""

    REACH = "reach"
    CLOSE = "close"
    CARRY = "carry"
    PLACE = "place"
    RELEASE = "release"


@dataclass(frozen=True)
class Style:
    """How one demonstration is done; drawn anew for each."""

    speed: float
    """Largest action of the position."""
    hover: float
    """How far above the grasp the approach comes in [m]."""
    carry_height: float
    """Height of the gripper while it carries [m]."""
    along: float
    """Offset of the grasp along the fingers' plane [m]."""
    depth: float
    """Offset of the grasp downwards [m]."""
    turn: float
    """Wish about the yaw, in units the task gives a meaning."""
    yaw_slack: float = 0.15
    """Yaw error at which the gripper goes down [rad]."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Style:
        """A random style."""
        return cls(
            speed=rng.uniform(0.6, 1.0),
            hover=rng.uniform(*HOVER_M),
            carry_height=rng.uniform(0.0, 0.05),
            along=rng.uniform(-1, 1),
            depth=rng.uniform(-0.004, 0.004),
            turn=rng.uniform(-1, 1),
        )


class PickAndPlace(ABC):
    """The phases; a task says where to grasp, where to bring it, and when to let go."""

    def __init__(self, env: RobosuiteEnvironment):
        self.arm = Arm(env)
        self.env = env
        self.style = Style.draw(np.random.default_rng(0))
        self.phase = Phase.REACH

    def start(self, rng: np.random.Generator) -> None:
        """A new style; the yaw of the grasp is chosen when the object has come to rest."""
        self.style = Style.draw(rng)
        self.phase = Phase.REACH
        self._grasp_yaw: float | None = None

    def noise_share(self) -> float:
        """All of the noise, always."""
        return 1.0

    def act(self) -> ndarray:
        """What to do now."""
        self.phase = self.next_phase()
        return {
            Phase.REACH: self.reach,
            Phase.CLOSE: self.close,
            Phase.CARRY: self.carry,
            Phase.PLACE: self.place,
            Phase.RELEASE: self.release,
        }[self.phase]()

    # --- what a task says

    @property
    @abstractmethod
    def body(self) -> str:
        """The object's body in the simulation."""

    @property
    @abstractmethod
    def geoms(self) -> Any:
        """Shapes of the object."""

    @abstractmethod
    def grasp(self) -> Pose:
        """Where the gripper must be to close."""

    def aim(self) -> ndarray:
        """Where to steer so as to arrive at the grasp [m]; ahead of an object that moves."""
        return self.grasp().position

    @abstractmethod
    def next_after_carry(self) -> Phase:
        """CARRY until the object is where it should be, then PLACE or RELEASE."""

    @abstractmethod
    def carry(self) -> ndarray:
        """The object is held: bring it to its goal."""

    def place(self) -> ndarray:
        """It is over its goal: lower it. Experts that let go from above, or have no goal, never come here."""
        return self.release()

    # --- phases

    def next_phase(self) -> Phase:
        """The phase of the state the simulation is in now."""
        held = self.arm.holds(self.geoms)
        if self.phase is Phase.REACH:
            return Phase.CLOSE if self._at_grasp() else Phase.REACH
        if self.phase is Phase.CLOSE:
            if held and self.arm.finger_speed < 0.02 and self.arm.opening < CLOSED_BELOW_M:
                return Phase.CARRY
            slipped = self._distance() > 0.03 or (self.arm.opening < 0.004 and not held)
            return self._again() if slipped else Phase.CLOSE
        if self.phase in (Phase.CARRY, Phase.PLACE):
            if not held and (self._distance() > 0.03 or self.arm.opening < 0.004):
                return self._again()
            return self.next_after_carry()
        return self.phase if self._distance() < 0.15 else self._again()

    def _again(self) -> Phase:
        self._grasp_yaw = None
        return Phase.REACH

    def _distance(self) -> float:
        return float(np.linalg.norm(self.grasp().position - self.arm.position))

    def _at_grasp(self) -> bool:
        grasp = self.grasp()
        error = np.abs(grasp.position - self.arm.position)
        return bool(
            np.linalg.norm(error[:2]) < 0.008
            and error[2] < 0.008
            and self.arm.yaw_error(grasp.yaw) < self.style.yaw_slack
        )

    def reach(self) -> ndarray:
        """Come in from above: the height follows how far the gripper is from standing over the grasp."""
        grasp = self.grasp()
        side = float(np.linalg.norm(grasp.position[:2] - self.arm.position[:2]))
        yaw_error = self.arm.yaw_error(grasp.yaw)
        height = self.approach(side)
        turning = float(np.clip(0.3 * (yaw_error - self.style.yaw_slack), 0, self.style.hover))
        target = Pose(self.aim() + upwards(max(height, min(height + turning, self.style.hover))), grasp.yaw)
        return self.arm.towards(target, OPEN, self.style.speed)

    def approach(self, side: float) -> float:
        """Height above the grasp [m] where the gripper is ``side`` [m] from standing over it."""
        return float(np.clip(4 * (side - 0.006), 0, self.style.hover))

    def close(self) -> ndarray:
        """Stay and close the fingers."""
        return self.arm.towards(Pose(self.aim(), self.grasp().yaw), CLOSE, 0.3)

    def release(self) -> ndarray:
        """Open the fingers, and rise once they are open."""
        up = upwards(0.1 if self.arm.opening > 0.07 else 0.0)
        return self.arm.towards(Pose(self.arm.position + up, self.carried_yaw()), OPEN, self.style.speed)

    def carried_yaw(self) -> float:
        """Yaw of the gripper while it carries."""
        return self._chosen_yaw()

    def _chosen_yaw(self) -> float:
        if self._grasp_yaw is None:
            self._grasp_yaw = self.choose_yaw()
        return self._grasp_yaw

    @abstractmethod
    def choose_yaw(self) -> float:
        """Yaw of the gripper for this grasp."""
