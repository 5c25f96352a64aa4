"""What a scripted expert is: it sees the simulation itself, and says what to do next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy import ndarray


@runtime_checkable
class Expert(Protocol):
    """One scripted demonstrator of one environment, for any number of episodes."""

    def noise_share(self) -> float:
        """How much of the recovery noise this moment can take, 0 to 1."""
        ...

    def start(self, rng: np.random.Generator) -> None:
        """Choose how to do it this time (grasp, way-points, speed) from ``rng``; the environment was just reset."""
        ...

    def act(self) -> ndarray:
        """The action ``(Da,)`` it wants in the state the simulation is in now, physical units."""
        ...


@dataclass(frozen=True)
class RecoveryNoise:
    """What is added to the actions that are executed, never to those that are recorded.

    So the recording shows how the expert corrects what the noise did, as the states that a policy's own errors lead to
    would need it (noise injection, DART, Laskey et al., arXiv 1703.09327; here of a fixed size).
    """

    scale: tuple[float, ...]
    """Largest standard deviation of the noise, for each action dimension, physical units; 0 where there is none."""
    memory: float = 0.8
    """Correlation of the noise from step to step, so that it drifts rather than trembles."""
    push_probability: float = 0.02
    """Chance in each step that a push begins: noise of one direction for some steps."""
    push_steps: tuple[int, int] = (3, 8)
    """Shortest and longest push [control steps]."""
    push_size: float = 3.0
    """Size of a push in units of ``scale``."""


class NoiseSource:
    """The noise of one episode: a drift of a strength of its own, and pushes."""

    def __init__(self, config: RecoveryNoise, factor: float, rng: np.random.Generator):
        self._config = config
        self._rng = rng
        self._scale = np.array(config.scale) * factor
        self._strength = rng.uniform(0, 1)
        self._drift = np.zeros_like(self._scale)
        self._push = np.zeros_like(self._scale)
        self._push_left = 0

    def draw(self) -> ndarray:
        """Noise (Da,) of the next step."""
        config, rng = self._config, self._rng
        fresh = rng.standard_normal(len(self._scale)) * np.sqrt(1 - config.memory**2)
        self._drift = config.memory * self._drift + fresh
        if self._push_left > 0:
            self._push_left -= 1
        elif rng.uniform() < config.push_probability:
            direction = rng.standard_normal(len(self._scale))
            self._push = direction / np.linalg.norm(direction) * config.push_size
            self._push_left = int(rng.integers(*config.push_steps, endpoint=True))
        push = self._push if self._push_left > 0 else np.zeros_like(self._push)
        return self._scale * (self._strength * self._drift + push)


@dataclass(frozen=True)
class Scripted:
    """One row of the table of experts."""

    make: Callable[[Any], Expert]
    """From an environment of the task to its expert."""
    noise: RecoveryNoise
    description: str
    """What it does, for the file's attributes."""
