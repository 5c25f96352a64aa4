"""Pick and place of something that runs away: when the gripper comes near, the carton goes along one of ten paths.

After the paper's real-robot task of the same name (arXiv 2410.21257); where its paths went it does not say, ours are
straight and go in ten directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.tasks.robosuite import RATE_HZ, SCENES, robosuite_task
from onedp.tasks.robosuite_object import PickPlaceEnvironment
from onedp.tasks.task import StepResult, Task

PATHS = 10
MARGIN_M = 0.06
"""A path that comes so near to a wall of the bin goes back from there."""
REACH_M = 0.74
"""And so far from the arm's base, seen from above. Over 0.8 m the elbow comes to its stop, and a stretched arm that is
pulled straight back does not bend again: the scripted expert never came away from there (start 9, in the test)."""


@dataclass(frozen=True)
class MilkMove:
    """``pnp-milk-move``: once, when the gripper comes near, the carton moves away along one of ten paths."""

    near: float = 0.12
    """Distance of gripper and carton, seen from above, at which it starts [m]."""
    length: float = 0.1
    """Length of the path [m]."""
    speed: float = 0.1
    """Speed on it [m/s]. It stops at its end, or when it is grasped."""
    limit: float = 20.0
    """Time limit [s]."""

    name = "pnp-milk-move"

    def __post_init__(self) -> None:
        if min(self.near, self.length, self.limit) <= 0 or not 0 < self.speed <= 1:
            raise OneDPError(f"{self.name} needs near, length and limit above 0 and a speed up to 1 m/s, not {self}.")

    def task(self, name: str) -> Task:
        """``pnp-milk`` with a carton that moves."""
        return replace(
            robosuite_task(name, SCENES["pnp-milk"].for_reaction(n_obs_steps=4)),
            make_env=self.make_env,
            max_steps=round(self.limit * RATE_HZ),
        )

    def make_env(self) -> MilkMoveEnvironment:
        """A fresh simulator."""
        return MilkMoveEnvironment(self)


FAMILIES: dict[str, type[MilkMove]] = {"pnp-milk-move": MilkMove}
"""Name to options; ``onedp.tasks.options`` makes the tasks."""


class MilkMoveEnvironment(PickPlaceEnvironment):
    """Shifts the carton by hand before control steps, as long as it is on its path; the physics resolves contacts."""

    def __init__(self, options: MilkMove):
        super().__init__()
        self._options = options
        self._direction = np.zeros(2)
        self._left: float | None = None
        self._turns = 0

    def reset(self, seed: int) -> dict[str, ndarray]:
        """The start of ``pnp-milk`` with this seed; the path is drawn from the seed too."""
        self.path = int(np.random.default_rng([5, seed]).integers(PATHS))
        angle = 2 * np.pi * self.path / PATHS
        self._direction = np.array([np.cos(angle), np.sin(angle)])
        self._left = None
        self._turns = 0
        super().reset(seed)
        return self.put_object(self.object_pose)

    def step(self, action: ndarray) -> StepResult:
        """Move the carton if it is on its path, then act for one control step."""
        aside = self.gripper[0][:2] - self.object_pose[:2]
        if self._left is None and np.linalg.norm(aside) < self._options.near:
            self._left = self._options.length
        if self._left is not None and self._left > 1e-9:
            self._left = 0.0 if self.held else self._go_on(self._left)
        return super().step(action)

    def _go_on(self, left: float) -> float:
        """One step of the path; what is left of it then [m]."""
        pose = self.object_pose
        self._turn_back(pose[:2] - self.base)
        stride = min(left, self._options.speed / RATE_HZ)
        pose[:2] += stride * self._direction
        self.put_object(pose)
        return left - stride

    def _turn_back(self, outwards: ndarray) -> None:
        """Away from walls, and from where the arm does not reach. ``outwards``: from the arm's base to the carton [m].

        After two turns it heads for the middle of the bin: between a wall and the end of the reach it would tremble.
        """
        offset = self.in_bin
        leaving = (np.abs(offset) > self.room(MARGIN_M)) & (np.sign(offset) == np.sign(self._direction))
        direction = np.where(leaving, -self._direction, self._direction)
        if np.linalg.norm(outwards) > REACH_M and outwards @ direction > 0:
            direction = -direction
        if (direction != self._direction).any():
            self._turns += 1
            self._direction = direction if self._turns <= 2 else -offset / np.linalg.norm(offset)
