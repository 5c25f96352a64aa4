"""The scripted expert of coffee-lid: round the lid on either side, and push it shut from behind."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy import ndarray

from onedp.collect.arm import CLOSE, Arm, Pose
from onedp.tasks.robosuite_lid import BEHIND_M, LID_END_M, CoffeeLidEnvironment

FINGER_M = 0.012
"""Distance between the middle of the closed finger tips and the lid that they push."""
ASIDE_M = 0.115
"""How far aside of the hinge's middle the gripper passes."""
LEAD_RAD = 0.35
"""How far ahead of the lid the gripper is steered while it pushes."""


class Phase(Enum):
    """Where an episode is."""

    SIDE = "side"
    BACK = "back"
    IN = "in"
    PUSH = "push"


class LidExpert:
    """A feedback law: the phase follows from where gripper and lid are, and the way from where the gripper is aside."""

    def __init__(self, env: CoffeeLidEnvironment):
        self.env = env
        self.arm = Arm(env)

    def start(self, rng: np.random.Generator) -> None:
        """Toss a coin for the way; draw speed and places."""
        self._side = 1.0 if rng.uniform() < 0.5 else -1.0
        self._speed = rng.uniform(0.6, 1.0)
        # places differ by little: a policy cannot see them before the gripper is there
        self._radius = rng.uniform(0.078, 0.082)  # the hand, 0.2 m wide, goes over the edge of a lid of 0.1 m
        self._aside = ASIDE_M + rng.uniform(0.005, 0.01)
        self._inwards = rng.uniform(0.03, 0.035)

    def noise_share(self) -> float:
        """All of the noise, always."""
        return 1.0

    def act(self) -> ndarray:
        """What to do now."""
        lid, past = self.env.simulator.lid_angle, self.arm.position - self.env.simulator.hinge
        place = self.env.simulator.hinge + self._target(self._phase(lid, past), lid, past)
        return self.arm.towards(Pose(place, 0.0), CLOSE, self._speed)

    def _phase(self, lid: float, past: ndarray) -> Phase:
        """The phase of the state the simulation is in now; ``past``: gripper minus hinge [m]."""
        if np.cos(lid) * past[2] + np.sin(lid) * past[0] > 0 and abs(past[1]) < LID_END_M:
            return Phase.PUSH  # it is on the outer side of the lid
        if past[0] > BEHIND_M + 0.02:
            return Phase.IN
        return Phase.BACK if self._side * past[1] > ASIDE_M - 0.02 else Phase.SIDE

    def _target(self, phase: Phase, lid: float, past: ndarray) -> ndarray:
        """Where to go, seen from the hinge [m]."""
        if phase is Phase.SIDE:
            return np.array([-0.09, self._side * self._aside, self._radius])
        if phase is Phase.BACK:
            return np.array([0.08, self._side * self._aside, self._radius])
        if phase is Phase.IN:
            return np.array([0.06, np.sign(past[1]) * self._inwards, self._radius])
        ahead = lid - LEAD_RAD
        along, outwards = np.array([-np.cos(ahead), np.sin(ahead)]), np.array([np.sin(ahead), np.cos(ahead)])
        x, z = self._radius * along + FINGER_M * outwards
        return np.array([x, np.sign(past[1]) * self._inwards, z])
