"""The denoiser: an encoder, a network and a parameterisation over a noise process.

All parameterisations are one line, ``x0 = c_skip(t) x + c_out(t) F(c_in(t) x, t)``, so no caller ever asks which
family it holds. Training minimises the squared error of the raw output F against its target
``(x0 - c_skip x) / c_out``: for ``eps`` and ``v`` that is the usual loss, for ``edm`` it is their weighting
lambda(sigma) (arXiv 2206.00364, eq. 8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from onedp.diffusion.schedule import NoiseSchedule, expand_like
from onedp.errors import ArtifactError, unknown_choice

Coefficients = tuple[Tensor, Tensor, Tensor]


def _eps(alpha: Tensor, sigma: Tensor, sigma_data: float) -> Coefficients:
    return 1 / alpha, -sigma / alpha, torch.ones_like(alpha)


def _x0(alpha: Tensor, sigma: Tensor, sigma_data: float) -> Coefficients:
    return torch.zeros_like(alpha), torch.ones_like(alpha), torch.ones_like(alpha)


def _v(alpha: Tensor, sigma: Tensor, sigma_data: float) -> Coefficients:
    return alpha, -sigma, torch.ones_like(alpha)


def _edm(alpha: Tensor, sigma: Tensor, sigma_data: float) -> Coefficients:
    norm = (sigma**2 + sigma_data**2).sqrt()
    return sigma_data**2 / norm**2, sigma * sigma_data / norm, 1 / norm


def _flow(alpha: Tensor, sigma: Tensor, sigma_data: float) -> Coefficients:
    return torch.ones_like(alpha), -sigma, torch.ones_like(alpha)


PARAMETERIZATIONS: dict[str, Callable[[Tensor, Tensor, float], Coefficients]] = {
    "eps": _eps,  # F is the noise
    "x0": _x0,  # F is the clean chunk
    "v": _v,  # F is alpha eps - sigma x0 (variance preserving only)
    "edm": _edm,  # Karras preconditioning (alpha = 1 only); F is NOT the noise
    "flow": _flow,  # F is the velocity eps - x0 (flow process only)
}


class Denoiser(nn.Module):
    """Estimates the clean action chunk from a noised one and an encoded observation."""

    def __init__(
        self,
        encoder: nn.Module,
        backbone: nn.Module,
        schedule: NoiseSchedule,
        parameterization: str,
        chunk_shape: tuple[int, int],
    ):
        super().__init__()
        if parameterization not in PARAMETERIZATIONS:
            raise ArtifactError(unknown_choice("parameterization", parameterization, PARAMETERIZATIONS))
        self.encoder = encoder
        self.backbone = backbone
        self.schedule = schedule
        self.parameterization = parameterization
        self.chunk_shape = chunk_shape  # (Tp, Da)

    def encode(self, nobs: Mapping[str, Tensor]) -> Float[Tensor, "b c"]:
        """Condition vector of normalised observations ``(B, To, *shape)``."""
        return self.encoder(nobs)

    def coefficients(self, x_t: Tensor, t: Tensor) -> Coefficients:
        """c_skip, c_out, c_in at times (B,), broadcastable over ``x_t``."""
        sigma_data = getattr(self.schedule, "sigma_data", 0.5)
        parts = PARAMETERIZATIONS[self.parameterization](self.schedule.alpha(t), self.schedule.sigma(t), sigma_data)
        c_skip, c_out, c_in = (expand_like(part, x_t) for part in parts)
        return c_skip, c_out, c_in

    def raw(self, x_t: Float[Tensor, "b tp da"], t: Tensor, cond: Float[Tensor, "b c"]) -> Float[Tensor, "b tp da"]:
        """The network's own output F, whose target is ``raw_target``."""
        _, _, c_in = self.coefficients(x_t, t)
        return self.backbone(c_in * x_t, self.schedule.network_time(t), cond)

    def raw_target(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """What F should be for clean ``x0`` at ``x_t``."""
        c_skip, c_out, _ = self.coefficients(x_t, t)
        return (x0 - c_skip * x_t) / c_out

    def x0(self, x_t: Float[Tensor, "b tp da"], t: Tensor, cond: Float[Tensor, "b c"]) -> Float[Tensor, "b tp da"]:
        """Estimate of the clean chunk."""
        c_skip, c_out, _ = self.coefficients(x_t, t)
        return c_skip * x_t + c_out * self.raw(x_t, t, cond)

    def eps(self, x_t: Float[Tensor, "b tp da"], t: Tensor, cond: Float[Tensor, "b c"]) -> Float[Tensor, "b tp da"]:
        """Estimate of the noise: ``(x_t - alpha x0) / sigma``."""
        return x0_to_eps(self.schedule, self.x0(x_t, t, cond), x_t, t)

    def score(self, x_t: Float[Tensor, "b tp da"], t: Tensor, cond: Float[Tensor, "b c"]) -> Float[Tensor, "b tp da"]:
        """Estimate of the score of the noised density: ``-eps / sigma``."""
        return -self.eps(x_t, t, cond) / expand_like(self.schedule.sigma(t), x_t)


def x0_to_eps(schedule: NoiseSchedule, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The noise that leads from ``x0`` to ``x_t`` at times (B,)."""
    return (x_t - expand_like(schedule.alpha(t), x_t) * x0) / expand_like(schedule.sigma(t), x_t)
