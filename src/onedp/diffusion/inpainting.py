"""Chunks that go on from the one before: in-painting for samplers of many steps, selection for one step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import OneStep, Sampler
from onedp.diffusion.schedule import expand_like

MAX_GUIDANCE = 5.0
"""Cap of the guidance's strength, as in RTC (arXiv 2506.07339): at high noise its theory is too sure."""


class InpaintingDenoiser(Denoiser):
    """A denoiser whose clean estimate is drawn towards a known chunk; any sampler can call it.

    Pseudo-inverse guidance (PiGDM; arXiv 2506.07339, eq. 2, in clean-chunk form): ``x0 + s J^T W (Y - x0)`` with
    the Jacobian J of the estimate and s = (alpha^2 sd^2 + sigma^2) / (alpha sd^2), which for Gaussian data of deviation
    sd replaces the estimate by Y where W is 1. Through J the free steps follow the known ones. A pass costs a forward
    and a backward pass.
    """

    def __init__(self, denoiser: Denoiser, target: Float[Tensor, "b tp da"], weights: Float[Tensor, "b tp"]):
        """``target`` Y, normalised; ``weights`` W in [0, 1], one a step."""
        super().__init__(
            denoiser.encoder, denoiser.backbone, denoiser.schedule, denoiser.parameterization, denoiser.chunk_shape
        )
        self.denoiser = denoiser
        self.target = target
        self.weights = weights[:, :, None]

    def x0(self, x_t: Float[Tensor, "b tp da"], t: Tensor, cond: Float[Tensor, "b c"]) -> Float[Tensor, "b tp da"]:
        """The guided estimate; no gradient leaves it."""
        with torch.enable_grad():
            x = x_t.detach().requires_grad_(True)
            x0 = self.denoiser.x0(x, t, cond)
            error = self.weights * (self.target - x0.detach())
            (pull,) = torch.autograd.grad(x0, x, grad_outputs=error)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        variance = getattr(self.schedule, "sigma_data", 1.0) ** 2
        strength = ((alpha**2 * variance + sigma**2) / (alpha * variance)).clamp(max=MAX_GUIDANCE)
        return x0.detach() + expand_like(strength, x_t) * pull


def sample_continuing(
    sampler: Sampler,
    denoiser: Denoiser,
    cond: Tensor,
    noise: Float[Tensor, "b draws tp da"],
    target: Float[Tensor, "b tp da"],
    weights: Float[Tensor, "b tp"],
) -> Float[Tensor, "b tp da"]:
    """Normalised clean chunks drawn towards ``target`` where ``weights`` say so.

    Many steps: guided in-painting. One step has nothing to guide: its network was taught to turn noise into a whole
    chunk, and the chunk hardly changes with small changes of the noise. Without training it can only choose: of four
    noises that are equally likely (z, -z and both backwards in time; one batch of four), the one whose chunk is nearest
    to the target, then faded into it by the weights.
    """
    if not isinstance(sampler, OneStep):
        return sampler.sample(InpaintingDenoiser(denoiser, target, weights), cond, noise)
    candidates = [noise, -noise, noise.flip(2), -noise.flip(2)] if sampler.draws else [noise]
    chunks = torch.stack(  # (N, B, Tp, Da)
        sampler.sample(denoiser, cond.repeat(len(candidates), 1), torch.cat(candidates)).chunk(len(candidates))
    )
    keep = weights[:, :, None]
    distances = (keep * (chunks - target) ** 2).sum(dim=(2, 3))  # (N, B)
    nearest = chunks[distances.argmin(dim=0), torch.arange(len(cond), device=cond.device)]
    return keep * target + (1 - keep) * nearest


def warm_noise(
    sampler: OneStep,
    denoiser: Denoiser,
    noise: Float[Tensor, "b draws tp da"],
    target: Float[Tensor, "b tp da"],
    weights: Float[Tensor, "b tp"],
) -> Float[Tensor, "b draws tp da"]:
    """Noise whose steps with weight 1 are ``target`` diffused to the level at which ``sampler`` asks its network.

    In units of the noise: the sampler multiplies it by its noise scale and the standard deviation of that level.
    """
    t = sampler.times(denoiser.schedule, noise)
    alpha, sigma, deviation = (
        expand_like(part, noise)
        for part in (denoiser.schedule.alpha(t), denoiser.schedule.sigma(t), denoiser.schedule.prior_scale(t))
    )
    warm = (alpha * target[:, None] / sampler.noise_scale + sigma * noise) / deviation
    keep = weights[:, None, :, None]
    return keep * warm + (1 - keep) * noise
