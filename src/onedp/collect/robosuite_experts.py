"""Scripted experts of robosuite's lift, PickPlace and square: where each grasps, carries and lets go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.collect.arm import CLOSE, Pose, nearest_turn, shortened, upwards, yaw_of
from onedp.collect.pick_and_place import HOVER_M, Phase, PickAndPlace
from onedp.tasks.robosuite_moving import LiftMovingEnvironment
from onedp.tasks.robosuite_object import gripper_yaw
from onedp.tasks.robosuite_ways import WAY_RAD

PEG_YAW_RAD = -np.pi / 2
"""Yaw of the gripper over the peg of ``square``. The nut's handle is then at the robot's left or right: over the peg
the arm is almost stretched, and does not reach 5 cm further for a handle that points away from it."""

ARM_LAG_S = 0.15
"""How far the arm is behind where it is steered to, at a constant speed: measured at 0.04 to 0.1 m/s."""


class LiftExpert(PickAndPlace):
    """Grasp the cube by two faces and raise it."""

    body = "cube_main"

    @property
    def geoms(self) -> Any:
        """The cube."""
        return self.env.simulator.cube

    def choose_yaw(self) -> float:
        """The face nearest to the neutral wrist."""
        _, rotation = self.arm.body(self.body)
        return nearest_turn(yaw_of(rotation), 0.0, np.pi / 2)

    def grasp(self) -> Pose:
        """The cube's middle: a policy cannot see a choice of millimetres, so it would waver between them."""
        position, rotation = self.arm.body(self.body)
        yaw = nearest_turn(yaw_of(rotation), self._chosen_yaw(), np.pi / 2)
        return Pose(position + upwards(0.25 * self.style.depth), yaw)

    def next_after_carry(self) -> Phase:
        """There is no goal but up."""
        return Phase.CARRY

    def carry(self) -> ndarray:
        """Straight up."""
        return self.arm.towards(Pose(self.arm.position + upwards(0.1), self._chosen_yaw()), CLOSE, self.style.speed)


class Lift45Expert(LiftExpert):
    """Turns the wrist by 45 degrees one way or the other, as the toss of a coin says."""

    def choose_yaw(self) -> float:
        """One of the two ways that are as near to the neutral wrist."""
        _, rotation = self.arm.body(self.body)
        return nearest_turn(yaw_of(rotation), WAY_RAD * np.sign(self.style.turn), np.pi / 2)


class LiftMovingExpert(LiftExpert):
    """Lift's, steering to where the cube will be."""

    env: LiftMovingEnvironment

    def aim(self) -> ndarray:
        """The grasp, as far on as the cube moves while the arm follows."""
        position, _ = self.arm.body(self.body)
        ahead = self.env.y_ahead(ARM_LAG_S) - position[1]
        return self.grasp().position + np.array([0.0, ahead, 0.0])


@dataclass(frozen=True)
class Groceries:
    """How one of PickPlace's objects is grasped from above."""

    body: str
    below: float
    """How far the object reaches below its middle [m]."""
    grasped_at: float
    """Height of the grasp above the middle [m]; the palm meets the top of what is tall."""
    turn: float | None
    """Turn after which it offers the fingers the same faces again [rad]; None: it is round."""
    depth: float
    """How much of the style's depth the grasp takes: no policy sees it, so little where the height matters."""
    clearance: float
    """How far above the grasp the fingers do not touch its top [m]."""


GROCERIES = (
    # From 0.047 above its middle the carton is a gable, which slips; below 0.04 the palm meets its top.
    Groceries("Milk_main", below=0.085, grasped_at=0.046, turn=np.pi / 2, depth=0.25, clearance=0.06),
    Groceries("Bread_main", below=0.03, grasped_at=0.008, turn=np.pi / 2, depth=0.5, clearance=0.04),
    Groceries("Cereal_main", below=0.08, grasped_at=0.05, turn=np.pi, depth=0.5, clearance=0.06),
    Groceries("Can_main", below=0.04, grasped_at=0.015, turn=None, depth=2.0, clearance=0.04),
)
"""In robosuite's order, which is that of their compartments too."""


class PickPlaceExpert(PickAndPlace):
    """Grasp the object from above, carry it over the wall of the bins and drop it in its compartment."""

    @property
    def number(self) -> int:
        """Of the object among the four, and so of its compartment."""
        return int(self.env.simulator.object_id)

    @property
    def kind(self) -> Groceries:
        """The object."""
        return GROCERIES[self.number]

    @property
    def body(self) -> str:
        """Its body."""
        return self.kind.body

    @property
    def geoms(self) -> Any:
        """The object."""
        return self.env.simulator.objects[self.number]

    @property
    def goal(self) -> ndarray:
        """Middle of the object's compartment, on its floor [m]."""
        simulator = self.env.simulator
        return np.array(simulator.target_bin_placements[self.number])

    def choose_yaw(self) -> float:
        """The faces nearest to the neutral wrist; what is round has none: near the neutral wrist."""
        if self.kind.turn is None:
            return 0.4 * self.style.turn
        _, rotation = self.arm.body(self.body)
        return nearest_turn(yaw_of(rotation), 0.0, self.kind.turn)

    def grasp(self) -> Pose:
        """Over the object's middle."""
        position, _ = self.arm.body(self.body)
        height = self.kind.grasped_at + self.kind.depth * self.style.depth
        return Pose(position + upwards(height), self._chosen_yaw())

    def approach(self, side: float) -> float:
        """Over its top until the fingers are well beside what is tall: one that runs away under them stops them on
        top of it, where no step down helps.
        """
        if self.kind.clearance <= HOVER_M[0]:
            return super().approach(side)
        return float(np.clip(8 * (side - 0.006), 0, max(self.kind.clearance, self.style.hover)))

    def next_after_carry(self) -> Phase:
        """Let go over the compartment."""
        side = self.goal[:2] - self.arm.position[:2]
        return Phase.RELEASE if np.abs(side).max() < 0.04 else Phase.CARRY

    def carry(self) -> ndarray:
        """Up, then sideways as far as the object's height allows: its lower end clears the wall however it is held.

        The wall's top is 0.1 m above the goal.
        """
        held, _ = self.arm.body(self.body)
        move = self.goal + upwards(0.125 + self.kind.below + 0.6 * self.style.carry_height) - held
        move[:2] = self.goal[:2] - self.arm.position[:2]
        rise = max(0.0, move[2])
        if rise > 0.005:
            move[:2] = shortened(move[:2], max(0.0, 0.06 - rise))
        return self.arm.towards(Pose(self.arm.position + move, self._chosen_yaw()), CLOSE, self.style.speed)


class SquareExpert(PickAndPlace):
    """Grasp the nut by its handle, turn it square to the peg, and lower it over the peg."""

    body = "SquareNut_main"
    handle = np.array([0.063, 0.0, 0.0])
    """Where the handle is grasped, in the nut's frame [m]. It is free from 0.044 to 0.079; a finger is 0.02 wide, and
    one that comes down on the ring holds nothing (so it was in the three failures traced, which grasped at 0.048)."""

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
        """The middle of the handle, hardly inwards or outwards: a policy cannot tell which, so it would waver."""
        position, rotation = self.arm.body(self.body)
        yaw = nearest_turn(yaw_of(rotation), self._chosen_yaw(), np.pi)
        handle = self.handle * (1 + 0.02 * self.style.along)
        return Pose(position + rotation @ handle + upwards(self.style.depth), yaw)

    def _fitting_yaw(self) -> float:
        """Yaw of the gripper with which the nut, as it is held now, stands square to the peg: the one nearest to
        ``PEG_YAW_RAD``, however the nut lay.

        So what to do is a smooth function of what is observed. The least of the four turns that fit is shorter, but
        jumps where a nut lies at 45 degrees, and there policies hung between two turns.
        """
        nut = yaw_of(self.arm.body(self.body)[1])
        askew = nearest_turn(nut - gripper_yaw(self.arm.rotation), 0.0, np.pi / 2)
        return PEG_YAW_RAD - askew

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
