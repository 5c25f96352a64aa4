"""What samplers share: checks of their options, scaled noise, the clip, and the clean estimate in float64."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.errors import OneDPError


def check_steps(kind: str, steps: int) -> None:
    """Raise ``OneDPError`` unless there is a step."""
    if not isinstance(steps, int) or steps < 1:
        raise OneDPError(f"The sampler {kind}:{steps} is not possible: the number of steps must be 1 or more.")


def check_clip(clip: object) -> None:
    """Raise ``OneDPError`` unless it is a positive number or None."""
    if clip is not None and not (isinstance(clip, (int, float)) and 0 < clip < float("inf")):
        raise OneDPError(f"A sampler's clip must be a positive number or null, not {clip!r}.")


def check_noise_scale(scale: object) -> None:
    """Raise ``OneDPError`` unless it is a number of at least 0."""
    if not (isinstance(scale, (int, float)) and 0 <= scale < math.inf):
        raise OneDPError(f"A sampler's noise scale must be a number of at least 0, not {scale!r}.")


def scaled_draws(noise: Float[Tensor, "b draws tp da"], scale: float, count: int) -> Float[Tensor, "b count tp da"]:
    """``count`` draws times the ``scale``; at 0 a sampler is given none (``draws`` is 0), and these are zeros."""
    if scale > 0:
        return scale * noise
    return torch.zeros((len(noise), count, *noise.shape[2:]), dtype=noise.dtype, device=noise.device)


def scaled(label: str, noise_scale: float) -> str:
    """The label of a sampler, with the factor on its noise where there is one."""
    return label if noise_scale == 1 else f"{label}:{noise_scale:g}"


def clipped(x0: Tensor, limit: float | None) -> Tensor:
    """The chunk within [-limit, limit]; as it is without a limit."""
    return x0 if limit is None else x0.clamp(-limit, limit)


def x0_at(denoiser: Denoiser, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    """Clean estimate in float64 at one time for the whole batch."""
    return denoiser.x0(x.float(), t.expand(len(x)), cond).double()
