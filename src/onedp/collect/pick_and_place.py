"""Scripted experts of robosuite's lift, can and square: pick an object up and, where there is a goal, put it there.

Each is a feedback law: what it does follows from where gripper and object are now and from a phase that falls back when
the object was lost. So after a push it does what a policy should do in the state it finds, and no wait is counted in
steps: the fingers tell when they have closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.collect.arm import CLOSE, OPEN, Arm, Pose, gripper_yaw, nearest_turn, upwards, yaw_of
from onedp.tasks.robosuite import RobosuiteEnvironment

WRIST_REACH_RAD = 1.8
"""Yaw to either side that the Panda's last joint reaches from where it starts, with room to spare."""


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
            hover=rng.uniform(0.04, 0.10),
            carry_height=rng.uniform(0.0, 0.05),
            along=rng.uniform(-1, 1),
            depth=rng.uniform(-0.004, 0.004),
            turn=rng.uniform(-1, 1),
        )


class PickAndPlace:
    """The phases; a task says where to grasp, where to bring it, and when to let go."""

    body: str
    """The object's body in the simulation."""

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
    def geoms(self) -> Any:
        """Shapes of the object."""
        raise NotImplementedError

    def grasp(self) -> Pose:
        """Where the gripper must be to close."""
        raise NotImplementedError

    def next_after_carry(self) -> Phase:
        """CARRY until the object is where it should be, then PLACE or RELEASE."""
        raise NotImplementedError

    def carry(self) -> ndarray:
        """The object is held: bring it to its goal."""
        raise NotImplementedError

    def place(self) -> ndarray:
        """It is over its goal: lower it."""
        raise NotImplementedError

    # --- phases

    def next_phase(self) -> Phase:
        """The phase of the state the simulation is in now."""
        held = self.arm.holds(self.geoms)
        if self.phase is Phase.REACH:
            return Phase.CLOSE if self._at_grasp() else Phase.REACH
        if self.phase is Phase.CLOSE:
            if held and self.arm.finger_speed < 0.02:
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
        height = np.clip(4 * (side - 0.006), 0, self.style.hover) + np.clip(
            0.3 * (yaw_error - self.style.yaw_slack), 0, self.style.hover
        )
        target = Pose(grasp.position + upwards(min(height, self.style.hover)), grasp.yaw)
        return self.arm.towards(target, OPEN, self.style.speed)

    def close(self) -> ndarray:
        """Stay and close the fingers."""
        return self.arm.towards(self.grasp(), CLOSE, 0.3)

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

    def choose_yaw(self) -> float:
        """Yaw of the gripper for this grasp."""
        raise NotImplementedError


class LiftExpert(PickAndPlace):
    """Grasp the cube by any two faces and raise it."""

    body = "cube_main"

    @property
    def geoms(self) -> Any:
        """The cube."""
        return self.env.simulator.cube

    def choose_yaw(self) -> float:
        """The face nearest to the neutral wrist, or now and then the next one."""
        _, rotation = self.arm.body(self.body)
        wish = 0.5 * np.pi * np.sign(self.style.turn) if abs(self.style.turn) > 0.8 else 0.0
        return nearest_turn(yaw_of(rotation), wish, np.pi / 2)

    def grasp(self) -> Pose:
        """The cube's middle, a little aside along the faces."""
        position, rotation = self.arm.body(self.body)
        yaw = nearest_turn(yaw_of(rotation), self._chosen_yaw(), np.pi / 2)
        along = 0.006 * self.style.along * np.array([np.cos(yaw), np.sin(yaw), 0])
        return Pose(position + along + upwards(self.style.depth), yaw)

    def next_after_carry(self) -> Phase:
        """There is no goal but up."""
        return Phase.CARRY

    def carry(self) -> ndarray:
        """Straight up."""
        return self.arm.towards(Pose(self.arm.position + upwards(0.1), self._chosen_yaw()), CLOSE, self.style.speed)


class CanExpert(PickAndPlace):
    """Grasp the can from above, carry it over the wall of the bins and drop it in its compartment."""

    body = "Can_main"

    @property
    def geoms(self) -> Any:
        """The can."""
        return self.env.simulator.objects[3]

    @property
    def goal(self) -> ndarray:
        """Middle of the can's compartment, on its floor [m]."""
        simulator = self.env.simulator
        return np.array(simulator.target_bin_placements[3])

    def choose_yaw(self) -> float:
        """A can is round: near the neutral wrist."""
        return 0.4 * self.style.turn

    def grasp(self) -> Pose:
        """The can's middle, rather its upper half."""
        position, _ = self.arm.body(self.body)
        return Pose(position + upwards(0.015 + 2 * self.style.depth), self._chosen_yaw())

    def next_after_carry(self) -> Phase:
        """Let go over the compartment."""
        side = self.goal[:2] - self.arm.position[:2]
        return Phase.RELEASE if np.abs(side).max() < 0.04 else Phase.CARRY

    def carry(self) -> ndarray:
        """Up, then sideways as far as the height allows, so that the can clears the wall."""
        over = self.goal + upwards(0.17 + self.style.carry_height)
        rise = max(0.0, over[2] - self.arm.position[2])
        position = self.arm.position + (over - self.arm.position) * [*(2 * [np.clip(1 - rise / 0.08, 0, 1)]), 1]
        return self.arm.towards(Pose(position, self._chosen_yaw()), CLOSE, self.style.speed)

    def place(self) -> ndarray:
        """Never: it is dropped."""
        return self.release()


class SquareExpert(PickAndPlace):
    """Grasp the nut by its handle, turn it by the least angle that fits the peg, and lower it over the peg."""

    body = "SquareNut_main"
    handle = np.array([0.054, 0.0, 0.0])
    """Middle of the handle in the nut's frame [m]."""

    @property
    def geoms(self) -> Any:
        """The square nut."""
        return self.env.simulator.nuts[0]

    @property
    def peg(self) -> ndarray:
        """Middle of the square peg [m]."""
        return self.arm.body("peg1")[0]

    def choose_yaw(self) -> float:
        """Fingers on both sides of the handle, the wrist as neutral as can be."""
        _, rotation = self.arm.body(self.body)
        return nearest_turn(yaw_of(rotation), 0.0, np.pi)

    def grasp(self) -> Pose:
        """The middle of the handle, a little inwards or outwards."""
        position, rotation = self.arm.body(self.body)
        yaw = nearest_turn(yaw_of(rotation), self._chosen_yaw(), np.pi)
        handle = self.handle * (1 + 0.15 * self.style.along)
        return Pose(position + rotation @ handle + upwards(self.style.depth), yaw)

    def _fitting_yaw(self) -> float:
        """Yaw of the gripper with which the nut, as it is held now, stands square to the peg.

        The nearest within the wrist's reach whose handle does not point away from the robot: over the peg the arm is
        almost stretched, and does not reach 5 cm further (it stopped 3 cm short in every such try).
        """
        now = gripper_yaw(self.arm.rotation)
        nut = yaw_of(self.arm.body(self.body)[1])
        turns = [quarter * np.pi / 2 - self._twist() for quarter in (-1, 0, 1)]
        possible = [turn for turn in turns if abs(now + turn) < WRIST_REACH_RAD and np.cos(nut + turn) < 0.5]
        return now + min(possible or turns, key=abs)

    def _nut_to_peg(self) -> ndarray:
        position, _ = self.arm.body(self.body)
        return self.peg - position

    def next_after_carry(self) -> Phase:
        """Lower it when it stands over the peg; raise it again when it does not any more."""
        side = float(np.linalg.norm(self._nut_to_peg()[:2]))
        twist = abs(self._twist())
        inserted = -self._nut_to_peg()[2] < 0.09  # below the peg's top the peg holds it in place
        if self.phase is Phase.CARRY:
            return Phase.PLACE if side < 0.004 and twist < 0.06 else Phase.CARRY
        return Phase.PLACE if inserted or (side < 0.012 and twist < 0.15) else Phase.CARRY

    def _twist(self) -> float:
        _, rotation = self.arm.body(self.body)
        return nearest_turn(yaw_of(rotation), 0.0, np.pi / 2)

    def carry(self) -> ndarray:
        """Up, then over the peg and square to it; sideways only as far as the height allows."""
        position, _ = self.arm.body(self.body)
        over = self.peg + upwards(0.13 + 0.5 * self.style.carry_height)
        rise = max(0.0, over[2] - position[2])
        move = (over - position) * [*(2 * [np.clip(1 - rise / 0.06, 0, 1)]), 1]
        return self.arm.towards(Pose(self.arm.position + move, self._fitting_yaw()), CLOSE, self.style.speed)

    def place(self) -> ndarray:
        """Down along the peg."""
        to_peg = self._nut_to_peg()
        move = np.array([to_peg[0], to_peg[1], -0.06])
        return self.arm.towards(Pose(self.arm.position + move, self._fitting_yaw()), CLOSE, min(0.5, self.style.speed))
