"""A denoiser that is exact for Gaussian data: for tests, where every score and optimum is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import NoiseSchedule, expand_like


class GaussianDenoiser(Denoiser):
    """Posterior mean of x0 given x_t for x0 ~ N(mean, std^2), independent of the observation.

    ``mean + alpha std^2 / (alpha^2 std^2 + sigma^2) (x_t - alpha mean)``. Mean and standard deviation are parameters,
    so it can also be a trainable tracker or generator.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        mean: Tensor,
        std: float,
        parameterization: str = "x0",
    ):
        super().__init__(nn.Identity(), nn.Identity(), schedule, parameterization, (mean.shape[0], mean.shape[1]))
        self.mean = nn.Parameter(mean.clone())
        self.log_std = nn.Parameter(torch.tensor(std, dtype=mean.dtype).log())

    def encode(self, nobs: Mapping[str, Tensor]) -> Tensor:
        """A condition without content."""
        return next(iter(nobs.values())).flatten(1)

    def raw(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """The exact x0 in this denoiser's parameterisation."""
        alpha = expand_like(self.schedule.alpha(t), x_t)
        sigma = expand_like(self.schedule.sigma(t), x_t)
        variance = (2 * self.log_std).exp()
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        return self.raw_target(self.mean + gain * (x_t - alpha * self.mean), x_t, t)


class TwoModeDenoiser(Denoiser):
    """Exact denoiser of ``weight N(+offset, std^2) + (1 - weight) N(-offset, std^2)``, both modes constant chunks."""

    def __init__(
        self, schedule: NoiseSchedule, chunk_shape: tuple[int, int], weight: float, std: float, offset: float = 0.5
    ):
        super().__init__(nn.Identity(), nn.Identity(), schedule, "x0", chunk_shape)
        self.weight, self.std, self.offset = weight, std, offset

    def encode(self, nobs: Mapping[str, Tensor]) -> Tensor:
        """A condition without content."""
        return next(iter(nobs.values())).flatten(1)

    def raw(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Posterior mean: both modes' own estimates, weighted by how well they explain x_t."""
        alpha = expand_like(self.schedule.alpha(t), x_t)
        sigma = expand_like(self.schedule.sigma(t), x_t)
        variance = alpha**2 * self.std**2 + sigma**2
        estimates, evidence = [], []
        for mode, weight in ((self.offset, self.weight), (-self.offset, 1 - self.weight)):
            residual = x_t - alpha * mode
            estimates.append(mode + alpha * self.std**2 / variance * residual)
            evidence.append(math.log(weight) - (residual**2 / (2 * variance)).sum(dim=(1, 2), keepdim=True))
        share = torch.softmax(torch.stack(evidence), dim=0)
        return share[0] * estimates[0] + share[1] * estimates[1]
