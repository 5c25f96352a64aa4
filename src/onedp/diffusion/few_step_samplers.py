"""Samplers of few-step students and of flow policies; the same contract as in ``samplers``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.sampler_parts import (
    check_clip,
    check_noise_scale,
    check_steps,
    clipped,
    scaled,
    scaled_draws,
    x0_at,
)
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow, ddim_step, diffuse, level_times
from onedp.errors import OneDPError


@dataclass(frozen=True)
class Euler:
    """First-order solver of the probability-flow ODE of any noise process: DDIM's update at the process's ODE times.

    The times of N steps are every other one of 2N steps, which progressive distillation needs (arXiv 2202.00512).
    """

    steps: int = 10
    """Network passes."""
    clip: float | None = 1.0
    """Clip of the final chunk; intermediate estimates are left alone."""
    noise_scale: float = 1.0
    """Factor on the input noise when acting; 0 is deterministic."""

    kind = "euler"

    def __post_init__(self) -> None:
        check_steps(self.kind, self.steps)
        check_clip(self.clip)
        check_noise_scale(self.noise_scale)

    @property
    def draws(self) -> int:
        """One, or none when deterministic."""
        return 1 if self.noise_scale > 0 else 0

    @property
    def nfe(self) -> int:
        """One a step."""
        return self.steps

    @property
    def label(self) -> str:
        """euler:N, with the factor on the noise if there is one."""
        return scaled(f"euler:{self.steps}", self.noise_scale)

    def times(self, schedule: CosineDdpm | Edm | Flow) -> Tensor:
        """Times (steps,) at which the network is asked, descending; from the last one the clean estimate is taken."""
        return schedule.ode_times(torch.arange(self.steps) / self.steps)

    def sample(self, denoiser: Denoiser, cond: Tensor, noise: Float[Tensor, "b draws tp da"]) -> Tensor:
        """From pure noise to the clean estimate at the last time."""
        schedule = denoiser.schedule
        assert isinstance(schedule, (CosineDdpm, Edm, Flow))
        times = self.times(schedule).to(noise.device)
        x = scaled_draws(noise.double(), self.noise_scale, 1)[:, 0] * schedule.prior_scale(times[:1]).double()
        for i in range(self.steps - 1):
            x0 = x0_at(denoiser, x, times[i : i + 1], cond)
            x = ddim_step(schedule, x, x0, times[i : i + 1], times[i + 1 : i + 2])
        return clipped(x0_at(denoiser, x, times[-1:], cond), self.clip).float()


@dataclass(frozen=True)
class Consistency:
    """Chained consistency sampling (Song et al., arXiv 2303.01469, algorithm 1): denoise, add noise again, denoise.

    One level is one pass. With ``noise_scale`` 0 nothing is added: a deterministic iteration from zeros.
    """

    levels: tuple[float, ...] = (1.0,)
    """Noise levels at which the network is asked, descending."""
    noise_scale: float = 1.0
    """Factor on all noise when acting."""
    clip: float | None = 1.0
    """Clip of each clean estimate."""

    kind = "consistency"

    def __post_init__(self) -> None:
        check_clip(self.clip)
        if not self.levels or list(self.levels) != sorted(set(self.levels), reverse=True) or self.levels[-1] < 0:
            raise OneDPError(f"consistency needs descending levels of at least 0, not {self.levels}.")
        check_noise_scale(self.noise_scale)

    @property
    def draws(self) -> int:
        """One a level, or none when deterministic."""
        return len(self.levels) if self.noise_scale > 0 else 0

    @property
    def nfe(self) -> int:
        """One a level."""
        return len(self.levels)

    @property
    def label(self) -> str:
        """consistency:N, with the factor on the noise if there is one; MIP's, without noise, was always called so."""
        return scaled(f"consistency:{len(self.levels)}", self.noise_scale or 1.0)

    def sample(self, denoiser: Denoiser, cond: Tensor, noise: Float[Tensor, "b draws tp da"]) -> Tensor:
        """Clean estimates at one level after the other."""
        schedule = denoiser.schedule
        eps = scaled_draws(noise, self.noise_scale, len(self.levels))
        x0 = torch.zeros_like(eps[:, 0])
        for i, level in enumerate(self.levels):
            t = level_times(schedule, level, len(eps), noise.device)
            start = schedule.prior_scale(t)[:, None, None] * eps[:, 0]
            x = diffuse(schedule, x0, t, eps[:, i]) if i else start
            x0 = clipped(denoiser.x0(x, t, cond), self.clip)
        return x0
