"""Meta-World's own scripted policies as experts."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from onedp.tasks.metaworld import MetaworldEnvironment


class MetaworldExpert:
    """The policy that comes with the task, at a speed of its own for each demonstration."""

    def __init__(self, env: MetaworldEnvironment):
        from metaworld.policies import ENV_POLICY_MAP

        self._env = env
        self._policy = ENV_POLICY_MAP[f"{env.name}-v3"]()
        self._speed = 1.0

    def start(self, rng: np.random.Generator) -> None:
        """Draw the speed."""
        self._speed = rng.uniform(0.6, 1.0)

    def noise_share(self) -> float:
        """All of the noise, always."""
        return 1.0

    def act(self) -> ndarray:
        """What the policy wants, no faster than this demonstration's speed."""
        action = np.asarray(self._policy.get_action(self._env.observation), dtype=np.float64)
        return np.concatenate([np.clip(action[:3], -self._speed, self._speed), np.clip(action[3:], -1, 1)])
