"""What tasks share in which something is changed by hand: randomness of its own, and a moment at which it happens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from onedp.errors import OneDPError
from onedp.tasks.task import StepResult


@dataclass(frozen=True)
class OnceOptions:
    """Options of a task in which something happens once, at a random moment."""

    earliest: float
    """First moment at which it may happen [s]."""
    latest: float
    """Last moment [s]."""
    after: float
    """Time left from then on [s]."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 < self.earliest <= self.latest or self.after <= 0:
            raise OneDPError(f"{self.name} needs 0 < earliest <= latest and after above 0, not {self}.")

    @property
    def limit(self) -> float:
        """Time limit [s], if it happens as late as it may."""
        return self.latest + self.after


def own_random(seed: int, stream: int) -> np.random.Generator:
    """Randomness of what happens to an object, apart from the simulator's and the policy's; each task has a stream."""
    return np.random.default_rng([stream, seed])


@dataclass
class Change:
    """Something that happens once in an episode. Only what follows counts, and the episode ends so long after it."""

    at_tick: int
    end_tick: int
    tick: int = 0
    """Control ticks that are over."""

    @classmethod
    def draw(cls, random: np.random.Generator, options: OnceOptions, control_hz: float) -> Change:
        """At a moment between ``earliest`` and ``latest``."""
        at_tick = round(random.uniform(options.earliest, options.latest) * control_hz)
        return cls(at_tick, at_tick + round(options.after * control_hz))

    @property
    def is_due(self) -> bool:
        """Whether it happens before the next tick."""
        return self.tick == self.at_tick

    def judged(self, result: StepResult) -> StepResult:
        """Count a tick; its result as far as it counts."""
        self.tick += 1
        if self.tick <= self.at_tick:
            return replace(result, reward=0.0, success=False, done=False)
        return replace(result, done=result.done or self.tick >= self.end_tick)
