"""Push-T with a T that does not wait: it slides, is nudged, or is put somewhere else once.

A policy of ``pusht-keypoints`` acts in these as it is. They run at a control rate above its own (50 Hz and 10 Hz), so
that latencies below 0.1 s differ: it keeps its steps of 0.1 s, and an action is held for five ticks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.tasks.change import Change, OnceOptions, own_random
from onedp.tasks.pusht import PUSHT_KEYPOINTS, WORKSPACE_PX, PushTEnvironment, keypoint_features
from onedp.tasks.task import StepResult, Task

TICKS_PER_STEP = 5
CONTROL_HZ = PUSHT_KEYPOINTS.spec.rate_hz * TICKS_PER_STEP
DRIFT_MARGIN_PX = 130.0
"""The T turns back where its origin comes so near to a wall."""
LONGEST_NUDGE_PX = (WORKSPACE_PX - 2 * DRIFT_MARGIN_PX) / 2
"""One that would end too near to a wall goes the other way, which must not lead to the wall over there."""
FASTEST_PX_S = 1000.0
"""20 px a control tick: it is turned back long before a wall."""
CLEARANCE_PX = 150.0
"""A T that is put somewhere else keeps its origin so far from the disc: no part of it lands on it."""


@dataclass(frozen=True)
class Drift:
    """``pusht-drift``: the T slides all the time, or is nudged at random times, until it is on its goal."""

    speed: float = 4.0
    """Speed of the slide [px/s], in a direction of the episode's own, at most ``FASTEST_PX_S``; the T turns back near
    the walls."""
    nudge: float = 0.0
    """Length of a nudge [px], in a random direction; at most ``LONGEST_NUDGE_PX``."""
    every: float = 4.0
    """Mean time between nudges [s]; their times are random."""
    limit: float = 30.0
    """Time limit [s]."""

    name = "pusht-drift"

    def __post_init__(self) -> None:
        if (
            not 0 <= self.speed <= FASTEST_PX_S
            or not 0 <= self.nudge <= LONGEST_NUDGE_PX
            or self.every <= 0
            or self.limit <= 0
        ):
            raise OneDPError(
                f"{self.name} needs a speed of 0 to {FASTEST_PX_S:g} px/s, a nudge of 0 to {LONGEST_NUDGE_PX:g} px, "
                f"every and limit above 0, not {self}."
            )

    def task(self, name: str) -> Task:
        """The task of these options."""
        return _moving(name, self)

    def make_env(self) -> DriftEnvironment:
        """A fresh simulator."""
        return DriftEnvironment(self)


@dataclass(frozen=True)
class Reset(OnceOptions):
    """``pusht-reset``: once, in the middle of the episode, the T is put somewhere else. Only what follows counts."""

    earliest: float = 3.0
    """First moment at which it may happen [s]; the moment is random."""
    latest: float = 8.0
    """Last moment [s]."""
    after: float = 15.0
    """Time left from then on [s]."""

    name = "pusht-reset"

    def task(self, name: str) -> Task:
        """The task of these options."""
        return _moving(name, self)

    def make_env(self) -> ResetEnvironment:
        """A fresh simulator."""
        return ResetEnvironment(self)


FAMILIES: dict[str, type[Drift] | type[Reset]] = {"pusht-drift": Drift, "pusht-reset": Reset}
"""Name to options; ``onedp.tasks.options`` makes the tasks."""


def _moving(name: str, options: Drift | Reset) -> Task:
    return replace(
        PUSHT_KEYPOINTS,
        name=name,
        make_env=options.make_env,
        max_steps=round(options.limit * CONTROL_HZ),
        ticks_per_step=TICKS_PER_STEP,
    )


class DriftEnvironment(PushTEnvironment):
    """Moves the T by hand before every control tick; the physics resolves contacts."""

    def __init__(self, options: Drift):
        super().__init__(keypoint_features, CONTROL_HZ)
        self._options = options

    def reset(self, seed: int) -> dict[str, ndarray]:
        """The start of ``pusht-keypoints`` with this seed; direction and nudges are drawn from the seed too."""
        self._random = own_random(seed, stream=1)
        angle = self._random.uniform(0, 2 * np.pi)
        self._velocity = self._options.speed * np.array([np.cos(angle), np.sin(angle)])
        return super().reset(seed)

    def step(self, action: ndarray) -> StepResult:
        """Slide and nudge the T, then act for one tick."""
        position = self.block_position
        self._velocity = np.where(_leaving(position, self._velocity), -self._velocity, self._velocity)
        shift = self._velocity / CONTROL_HZ
        nudged, angle = self._random.random(), self._random.uniform(0, 2 * np.pi)
        if nudged < 1 / (self._options.every * CONTROL_HZ):
            nudge = self._options.nudge * np.array([np.cos(angle), np.sin(angle)])
            shift = shift + np.where(_leaving(position + nudge, nudge), -nudge, nudge)
        if shift.any():
            self.shift_block(shift)
        return super().step(action)


def _leaving(position: ndarray, motion: ndarray) -> ndarray:
    """For x and y, whether the T is near a wall and moves towards it."""
    low, high = DRIFT_MARGIN_PX, WORKSPACE_PX - DRIFT_MARGIN_PX
    return ((position < low) & (motion < 0)) | ((position > high) & (motion > 0))


class ResetEnvironment(PushTEnvironment):
    """Puts the T somewhere else at a moment drawn from the seed."""

    def __init__(self, options: Reset):
        super().__init__(keypoint_features, CONTROL_HZ)
        self._options = options

    def reset(self, seed: int) -> dict[str, ndarray]:
        """The start of ``pusht-keypoints`` with this seed."""
        self._random = own_random(seed, stream=2)
        self._change = Change.draw(self._random, self._options, CONTROL_HZ)
        return super().reset(seed)

    def step(self, action: ndarray) -> StepResult:
        """Act for one tick; rewards count from the change on, and the episode ends so long after it."""
        if self._change.is_due:
            self._put_elsewhere()
        return self._change.judged(super().step(action))

    def _put_elsewhere(self) -> None:
        while True:
            position = self._random.uniform(100, 400, size=2)
            if np.linalg.norm(position - self.agent_position) > CLEARANCE_PX:
                break
        self.put_block(position, self._random.uniform(-np.pi, np.pi))
