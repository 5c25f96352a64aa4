"""A policy at a control rate above its own: more ticks between the steps it was trained on, the same actions.

A policy of 10 Hz on a robot of 50 Hz sees observations 5 ticks apart and holds each action for 5 ticks, which is what
its demonstrations did. Latency and re-planning are then counted in ticks of 20 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import SpecError
from onedp.runtime.requests import WarmStartPolicy
from onedp.types import Continuation, ContinuingPolicy, Policy, PolicySpec


def at_control_rate(policy: Policy, control_hz: float) -> Policy:
    """``policy`` for a loop of ``control_hz``, an integer multiple of its own rate; raises ``SpecError`` on others."""
    ratio = control_hz / policy.spec.rate_hz
    ticks = round(ratio)
    if ticks < 1 or abs(ratio - ticks) > 1e-9:
        raise SpecError(
            f"A policy of {policy.spec.rate_hz:g} Hz cannot act at {control_hz:g} Hz, expected a whole multiple of its "
            "rate."
        )
    if ticks == 1:
        return policy
    if isinstance(policy, WarmStartPolicy):
        return ResampledWarmStart(policy, ticks)
    return ResampledContinuing(policy, ticks) if isinstance(policy, ContinuingPolicy) else Resampled(policy, ticks)


@dataclass(frozen=True)
class Resampled:
    """A policy whose every step is ``ticks`` control ticks long."""

    policy: Any
    """A ``Policy``."""
    ticks: int

    @cached_property
    def spec(self) -> PolicySpec:
        """The policy's, in control ticks."""
        own: PolicySpec = self.policy.spec
        n_obs_steps = (own.n_obs_steps - 1) * self.ticks + 1
        return replace(
            own,
            rate_hz=own.rate_hz * self.ticks,
            n_obs_steps=n_obs_steps,
            n_action_steps=own.n_action_steps * self.ticks,
            horizon=own.chunk_length * self.ticks + n_obs_steps - 1,
        )

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The policy's own: noise is drawn for its steps."""
        return self.policy.noise_shape

    @property
    def nfe(self) -> int:
        """The policy's own."""
        return self.policy.nfe

    def infer(self, obs: Mapping[str, ndarray], noise: ndarray) -> ndarray:
        """Every ``ticks``-th observation in, every action ``ticks`` times out."""
        return self._held(self.policy.infer(self._sparse(obs), noise))

    def _sparse(self, obs: Mapping[str, ndarray]) -> dict[str, ndarray]:
        return {name: values[:, :: self.ticks] for name, values in obs.items()}

    def _held(self, chunk: ndarray) -> ndarray:
        return np.repeat(chunk, self.ticks, axis=1)


@dataclass(frozen=True)
class ResampledContinuing(Resampled):
    """The same for a ``ContinuingPolicy``."""

    def infer_continuing(self, obs: Mapping[str, ndarray], noise: ndarray, previous: Continuation) -> ndarray:
        """See ``ContinuingPolicy``."""
        return self._held(self.policy.infer_continuing(self._sparse(obs), noise, self._sampled(previous)))

    def _sampled(self, previous: Continuation) -> Continuation:
        return Continuation(previous.actions[:, :: self.ticks], previous.weights[:, :: self.ticks])


@dataclass(frozen=True)
class ResampledWarmStart(ResampledContinuing):
    """The same for a ``WarmStartPolicy``."""

    def warm_noise(self, noise: ndarray, previous: Continuation) -> ndarray:
        """See ``WarmStartPolicy``."""
        return self.policy.warm_noise(noise, self._sampled(previous))
