"""A policy's chunks on held-out observations against its teacher's: means of the metrics of ``evaluate/heldout.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from onedp.evaluate.heldout import chunk_metrics, sample_chunks, seam_jumps
from onedp.evaluate.heldout_data import load_heldout
from onedp.policy import TorchPolicy
from onedp.tasks import Task
from onedp.threads import one_thread
from onedp.types import episode_noise

EXACT_SAMPLERS = {"ddpm": "ddim:100", "edm": "heun:40", "flow": "euler:100"}
"""Noise process to a sampler that solves it more exactly than any that is compared."""


@dataclass(frozen=True)
class HeldoutSettings:
    """How much is drawn."""

    observations: int = 128
    draws: int = 16
    seed: int = 0


def heldout_numbers(
    policy: TorchPolicy, yardstick: TorchPolicy, data: Path, task: Task, settings: HeldoutSettings
) -> dict[str, float | None]:
    """Distances to the yardstick's chunks, spread, limits, jump at seams, and the error of every denoising step.

    That error is to what the yardstick's own process leads to from the same noise, for the yardstick and its students
    with samplers that are decided by one draw of it; others have another map from noise to chunks, or none.
    """
    observations = load_heldout(data, task, yardstick.spec, settings.observations, settings.seed)
    draws, seed = settings.draws, settings.seed
    with one_thread():
        truth = sample_chunks(yardstick, observations.now, draws, seed)
        chunks = sample_chunks(policy, observations.now, draws, seed + draws)
        following = sample_chunks(policy, observations.next, draws, seed + 2 * draws)
        sampling = Sampling.of(policy, observations.now, seed)
    values = chunk_metrics(chunks, truth, yardstick, observations.actions)
    jumps = seam_jumps(chunks, following, yardstick)[observations.has_next]
    same_map = _same_map(policy, yardstick)
    solution = exact_solution(yardstick, observations.now, sampling) if same_map else None
    errors = [] if solution is None else sampling.errors(solution, policy.sampler.clip)
    numbers: dict[str, float | None] = {name: float(each.mean()) for name, each in values.items()}
    numbers["seam_jump"] = float(jumps.mean()) if len(jumps) else None
    numbers["out_of_range"] = sampling.out_of_range(policy.sampler.clip)
    numbers["acting_noise"] = acting_noise(policy)
    numbers["last_step_error"] = errors[-1] if errors else None
    numbers |= {f"error_at_pass_{number}": error for number, error in enumerate(errors, start=1)}
    return numbers


@dataclass(frozen=True)
class Sampling:
    """One chunk for each observation, and the clean estimate of every network pass on the way to it; normalised."""

    estimates: tuple[Float[Tensor, "b tp da"], ...]
    """In the order of the passes, as the network gave them. The last one is the chunk before its clip: no sampler does
    anything else to it."""
    chunk: Float[Tensor, "b tp da"]
    noise: Float[Tensor, "b draws tp da"]
    """What the sampler began with, its factor included."""

    @classmethod
    def of(cls, policy: TorchPolicy, obs: Mapping[str, ndarray], seed: int) -> Sampling:
        """Sample with the policy's own sampler; ``obs``: fields (B, To, *shape), physical units."""
        estimates: list[Tensor] = []
        own = policy.denoiser.x0

        def recorded(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
            x0 = own(x_t, t, cond)
            estimates.append(x0)
            return x0

        count = len(next(iter(obs.values())))
        noise = torch.from_numpy(np.stack([episode_noise(seed, row, policy.noise_shape) for row in range(count)]))
        policy.denoiser.x0 = recorded  # type: ignore[method-assign]
        try:
            with torch.inference_mode():
                chunk = policy.sampler.sample(policy.denoiser, _encoded(policy, obs), noise)
        finally:
            del policy.denoiser.x0
        return cls(tuple(estimates), chunk, acting_noise(policy) * noise)

    def errors(self, solution: Float[Tensor, "b tp da"], clip: float | None) -> list[float]:
        """Root-mean-square distance of every pass's estimate, clipped, to the ``solution``, normalised units.

        Clipped, since a first estimate made of predicted noise is tens of times beyond any action.
        """
        reached = self.estimates if clip is None else [estimate.clamp(-clip, clip) for estimate in self.estimates]
        return [float((estimate - solution).square().mean().sqrt()) for estimate in reached]

    def out_of_range(self, clip: float | None) -> float | None:
        """Share of the chunk's actions beyond [-1, 1] before the clip; None without one: no such range is meant.

        Estimates of earlier passes were clipped as the sampler does it when it acts, since they lead to the chunk.
        """
        return None if clip is None else float((self.estimates[-1].abs() > 1).float().mean())


def acting_noise(policy: TorchPolicy) -> float:
    """Factor on the noise that the policy's sampler begins with."""
    return float(policy.sampler.noise_scale)


def exact_solution(teacher: TorchPolicy, obs: Mapping[str, ndarray], sampling: Sampling) -> Float[Tensor, "b tp da"]:
    """Chunks that the ``teacher``'s process leads to from the first draw of ``sampling``; normalised."""
    exact = teacher.with_sampler(EXACT_SAMPLERS[teacher.denoiser.schedule.kind])
    with one_thread(), torch.inference_mode():
        return exact.sampler.sample(exact.denoiser, _encoded(exact, obs), sampling.noise[:, :1])


def _encoded(policy: TorchPolicy, obs: Mapping[str, ndarray]) -> Tensor:
    """What its denoiser reads of observations in physical units."""
    nobs = {name: torch.from_numpy(policy.normalizer.normalize(name, values)) for name, values in obs.items()}
    return policy.denoiser.encode(nobs)


def _same_map(policy: TorchPolicy, teacher: TorchPolicy) -> bool:
    """Whether one draw decides the chunk, and the policy is the ``teacher`` or learned from it."""
    digest = teacher.provenance["weights_digest"]
    learned = policy.provenance.get("teacher", {}).get("weights_digest")
    return policy.sampler.draws == 1 and digest in (policy.provenance["weights_digest"], learned)
