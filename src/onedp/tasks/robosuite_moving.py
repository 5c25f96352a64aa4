"""robosuite tasks in which the object does not wait: in ``lift-moving`` the cube slides to and fro.

A policy of ``lift`` sees and does the same here. What happens to the object is drawn from the seed, apart from the
simulator's own randomness, so a start looks like that of ``lift`` with the same seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.tasks.robosuite import RATE_HZ, SCENES, RobosuiteEnvironment, robosuite_task
from onedp.tasks.task import StepResult, Task

TURN_AT_M = 0.15
"""The cube turns back at this distance from the middle of the table."""
SLIPPERY = (1e-4, 0.0, 0.0)
"""Friction of the table under a driven cube: what moves it is the drive alone."""
LIFTED_M = 0.005
"""A cube so far above its place on the table is no longer driven."""


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
    limit: float = 15.0
    """Time limit [s]."""

    name = "lift-moving"

    def __post_init__(self) -> None:
        if not 0 <= self.speed <= 1 or self.slowest > self.speed or self.limit <= 0:
            raise OneDPError(
                f"{self.name} needs a speed of 0 to 1 m/s, slowest at most speed and limit above 0, not {self}."
            )

    def task(self, name: str) -> Task:
        """``lift`` with a cube that moves. Chunks are long: 14 ticks of them may be late."""
        lift = robosuite_task(name, SCENES["lift"])
        return replace(
            lift,
            spec=replace(lift.spec, horizon=32, n_obs_steps=4),
            make_env=self.make_env,
            max_steps=round(self.limit * RATE_HZ),
        )

    def make_env(self) -> LiftMovingEnvironment:
        """A fresh simulator."""
        return LiftMovingEnvironment(self)


FAMILIES: dict[str, type[LiftMoving]] = {"lift-moving": LiftMoving}
"""Name to options; ``onedp.tasks.options`` makes the tasks."""


class LiftMovingEnvironment(RobosuiteEnvironment):
    """Gives the cube its velocity before every control step; the physics resolves contacts."""

    def __init__(self, options: LiftMoving):
        super().__init__(SCENES["lift"])
        self._options = options
        self._speed = self._heading = 0.0
        self._rest_height = 0.0

    def reset(self, seed: int) -> dict[str, ndarray]:
        """The start of ``lift`` with this seed, with the cube somewhere else along y."""
        random = np.random.default_rng([3, seed])
        place = random.uniform(-TURN_AT_M, TURN_AT_M)
        self._heading = random.choice([-1.0, 1.0])
        slowest = self._options.slowest
        self._speed = self._options.speed if slowest < 0 else random.uniform(slowest, self._options.speed)
        super().reset(seed)
        self._make_table_slippery()
        pose = self._cube_pose()
        pose[1] = place
        self._data.set_joint_qpos(self._joint, pose)
        self._rest_height = float(self.simulator.table_offset[2] + self.simulator.cube.size[2])
        self.simulator.sim.forward()
        return self._observe(self.simulator._get_observations(force_update=True))

    def step(self, action: ndarray) -> StepResult:
        """Drive the cube if it is free, then act for one control step."""
        if self.drives:
            y = self._cube_pose()[1]
            if abs(y) >= TURN_AT_M and np.sign(y) == self._heading:
                self._heading = -self._heading
            velocity = np.array(self._data.get_joint_qvel(self._joint))
            velocity[:2] = 0.0, self._heading * self._speed
            velocity[3:] = 0.0
            self._data.set_joint_qvel(self._joint, velocity)
        return super().step(action)

    @property
    def drives(self) -> bool:
        """Whether the cube is on the table and not between two fingers that touch it."""
        robot = self.simulator.robots[0]
        held = self.simulator._check_grasp(gripper=robot.gripper["right"], object_geoms=self.simulator.cube)
        return not held and float(self._cube_pose()[2]) < self._rest_height + LIFTED_M

    def y_ahead(self, seconds: float) -> float:
        """Where along y [m] the cube will be so much later if nothing touches it: for experts that see the motion."""
        y = float(self._cube_pose()[1])
        if not self.drives or self._speed == 0:
            return y
        # unfold the way to and fro: forwards from -TURN_AT_M to TURN_AT_M and back again
        unfolded = (y + TURN_AT_M) * self._heading + self._speed * seconds
        folded = unfolded % (4 * TURN_AT_M)
        return (folded if folded <= 2 * TURN_AT_M else 4 * TURN_AT_M - folded) - TURN_AT_M

    @property
    def _joint(self) -> str:
        return str(self.simulator.cube.joints[0])

    @property
    def _data(self) -> Any:
        return self.simulator.sim.data

    def _cube_pose(self) -> ndarray:
        """Position and quaternion (7,)."""
        return np.array(self._data.get_joint_qpos(self._joint))

    def _make_table_slippery(self) -> None:
        """The table's friction counts in its contacts, and is almost none."""
        model = self.simulator.sim.model._model
        table = model.geom("table_collision").id
        model.geom_priority[table] = 1
        model.geom_friction[table] = SLIPPERY
