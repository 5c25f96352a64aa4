"""Meta-World's own scripted policies as experts."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from onedp.tasks.metaworld import EightTasks, MetaworldEnvironment

STEADY = {"peg-insert-side": 0.4}
"""Share of the noise that a task can take: with all of it the policy lost 2 of 4 pegs."""


class MetaworldExpert:
    """The policy that comes with the episode's task, at a speed of its own for each demonstration."""

    def __init__(self, env: MetaworldEnvironment | EightTasks):
        from metaworld.policies import ENV_POLICY_MAP

        self._env = env
        self._policies = ENV_POLICY_MAP
        self._speed = 1.0

    @property
    def _simulation(self) -> MetaworldEnvironment:
        return self._env.current if isinstance(self._env, EightTasks) else self._env

    def start(self, rng: np.random.Generator) -> None:
        """Draw the speed."""
        self._policy = self._policies[f"{self._simulation.name}-v3"]()
        self._speed = rng.uniform(0.6, 1.0)

    def noise_share(self) -> float:
        """The same in every moment of a task."""
        return STEADY.get(self._simulation.name, 1.0)

    def act(self) -> ndarray:
        """What the policy wants, no faster than this demonstration's speed."""
        action = np.asarray(self._policy.get_action(self._simulation.observation), dtype=np.float64)
        return np.concatenate([np.clip(action[:3], -self._speed, self._speed), np.clip(action[3:], -1, 1)])
