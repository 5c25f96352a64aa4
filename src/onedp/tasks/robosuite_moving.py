"""robosuite tasks in which the cube does not wait: it slides to and fro, or is put somewhere else once.

A policy of ``lift`` sees and does the same here. What happens to the object is drawn from the seed, apart from the
simulator's own randomness, so a start looks like that of ``lift`` with the same seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.tasks.change import Change, OnceOptions, own_random
from onedp.tasks.robosuite import RATE_HZ, SCENES, robosuite_task
from onedp.tasks.robosuite_object import CubeEnvironment, standing
from onedp.tasks.task import StepResult, Task

TURN_AT_M = 0.15
"""The cube turns back at this distance from the middle of the table."""
SLIPPERY = (1e-4, 0.0, 0.0)
"""Friction of the table under a driven cube: what moves it is the drive alone."""
LIFTED_M = 0.005
"""A cube so far above its place on the table is no longer driven."""
CLEARANCE_M = 0.1
"""A cube that is put somewhere else lands so far from the gripper and from where it was, seen from above."""


@dataclass(frozen=True)
class LiftMoving:
    """``lift-moving``: the cube slides along y at a constant speed until it is grasped or lifted.

    It turns back 0.15 m from the middle. Its place and heading at the start are drawn from the seed. It slides on a
    table without friction; its own weight and the fingers act on it as ever. Once both fingers hold it, or it is
    off the table, nothing drives it; when it is dropped, it slides again.
    """

    speed: float = 0.04
    """Speed of the cube [m/s]; 0: it stays where it is."""
    slowest: float = -1.0
    """Lowest speed [m/s] of an episode: each draws its own between this and ``speed``, as demonstrations should. Below
    0: all episodes have ``speed``."""
    limit: float = 10.0
    """Time limit [s]."""

    name = "lift-moving"

    def __post_init__(self) -> None:
        if not 0 <= self.speed <= 1 or self.slowest > self.speed or self.limit <= 0:
            raise OneDPError(
                f"{self.name} needs a speed of 0 to 1 m/s, slowest at most speed and limit above 0, not {self}."
            )

    def task(self, name: str) -> Task:
        """``lift`` with a cube that moves."""
        return replace(
            robosuite_task(name, SCENES["lift"].for_reaction(n_obs_steps=4)),
            make_env=self.make_env,
            max_steps=round(self.limit * RATE_HZ),
        )

    def make_env(self) -> LiftMovingEnvironment:
        """A fresh simulator."""
        return LiftMovingEnvironment(self)


@dataclass(frozen=True)
class PoseReset(OnceOptions):
    """``pose-reset``: once, while the arm is on its way, the cube is put somewhere else. Only what follows counts."""

    earliest: float = 0.4
    """First moment at which it may happen [s]; the moment is random. A cube in the hand is taken out of it."""
    latest: float = 1.2
    """Last moment [s]."""
    after: float = 8.0
    """Time left from then on [s]."""

    name = "pose-reset"

    def task(self, name: str) -> Task:
        """``lift`` with a cube that is moved once."""
        return replace(
            robosuite_task(name, SCENES["lift"].for_reaction()),
            make_env=self.make_env,
            max_steps=round(self.limit * RATE_HZ),
        )

    def make_env(self) -> PoseResetEnvironment:
        """A fresh simulator."""
        return PoseResetEnvironment(self)


FAMILIES: dict[str, type[LiftMoving] | type[PoseReset]] = {"lift-moving": LiftMoving, "pose-reset": PoseReset}
"""Name to options; ``onedp.tasks.options`` makes the tasks."""


class LiftMovingEnvironment(CubeEnvironment):
    """Gives the cube its velocity before every control step; the physics resolves contacts."""

    def __init__(self, options: LiftMoving):
        super().__init__()
        self._options = options
        self._speed = self._heading = 0.0

    def reset(self, seed: int) -> dict[str, ndarray]:
        """The start of ``lift`` with this seed, with the cube somewhere else along y."""
        random = own_random(seed, stream=3)
        place = random.uniform(-TURN_AT_M, TURN_AT_M)
        self._heading = random.choice([-1.0, 1.0])
        slowest = self._options.slowest
        self._speed = self._options.speed if slowest < 0 else random.uniform(slowest, self._options.speed)
        super().reset(seed)
        self._make_table_slippery()
        pose = self.object_pose
        pose[1] = place
        return self.put_object(pose)

    def step(self, action: ndarray) -> StepResult:
        """Drive the cube if it is free, then act for one control step."""
        if self.drives:
            y = self.object_pose[1]
            if abs(y) >= TURN_AT_M and np.sign(y) == self._heading:
                self._heading = -self._heading
            self.push_object(np.array([0.0, self._heading * self._speed]))
        return super().step(action)

    @property
    def drives(self) -> bool:
        """Whether the cube is on the table and not between two fingers that touch it."""
        return not self.held and float(self.object_pose[2]) < self.rest_height + LIFTED_M

    def y_ahead(self, seconds: float) -> float:
        """Where along y [m] the cube will be so much later if nothing touches it: for experts that see the motion."""
        y = float(self.object_pose[1])
        if not self.drives or self._speed == 0:
            return y
        # unfold the way to and fro: forwards from -TURN_AT_M to TURN_AT_M and back again
        unfolded = (y + TURN_AT_M) * self._heading + self._speed * seconds
        folded = unfolded % (4 * TURN_AT_M)
        return (folded if folded <= 2 * TURN_AT_M else 4 * TURN_AT_M - folded) - TURN_AT_M

    def _make_table_slippery(self) -> None:
        """The table's friction counts in its contacts, and is almost none."""
        model = self.simulator.sim.model._model
        table = model.geom("table_collision").id
        model.geom_priority[table] = 1
        model.geom_friction[table] = SLIPPERY


class PoseResetEnvironment(CubeEnvironment):
    """Puts the cube somewhere else once, at a moment drawn from the seed."""

    def __init__(self, options: PoseReset):
        super().__init__()
        self._options = options

    def reset(self, seed: int) -> dict[str, ndarray]:
        """The start of ``lift`` with this seed."""
        self._random = own_random(seed, stream=4)
        self._change = Change.draw(self._random, self._options, RATE_HZ)
        return super().reset(seed)

    def step(self, action: ndarray) -> StepResult:
        """Act for one control step; success counts from the change on, and the episode ends so long after it."""
        if self._change.is_due:
            self._put_elsewhere()
        return self._change.judged(super().step(action))

    def _put_elsewhere(self) -> None:
        gripper, _ = self.gripper
        taken = np.array([gripper[:2], self.object_pose[:2]])
        while True:
            place = self._random.uniform([-0.1, -TURN_AT_M], [0.1, TURN_AT_M])
            yaw = self._random.uniform(-np.pi, np.pi)
            if np.linalg.norm(taken - place, axis=1).min() > CLEARANCE_M:
                break
        self.put_object(standing(np.array([*place, self.rest_height]), yaw))
