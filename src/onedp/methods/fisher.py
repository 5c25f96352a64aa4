"""Score identity Distillation (Zhou et al., arXiv 2404.04057): the Fisher divergence instead of the reverse KL."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import diffuse
from onedp.methods.method import Batch


def fisher_loss(
    actions: Float[Tensor, "b tp da"],
    t: Tensor,
    eps: Float[Tensor, "b tp da"],
    batch: Batch,
    teacher: Denoiser,
    tracker: Denoiser,
    alpha: float,
) -> Float[Tensor, " b"]:
    """``(f - g)(f - A) - alpha |f - g|^2`` with the clean estimates f of teacher and g of tracker at the noised A.

    To be differentiated by ``actions``, through both networks. Each sample is divided by mean |A - f|, which also takes
    the place of the noise's weight. Source: their eq. 23 with omega of section 4.3.
    """
    x_t = diffuse(teacher.schedule, actions, t, eps)
    teacher_x0 = teacher.x0(x_t, t, teacher.encode(batch.nobs))
    difference = teacher_x0 - tracker.x0(x_t, t, tracker.encode(batch.nobs))
    with torch.no_grad():
        scale = (actions - teacher_x0).abs().mean(dim=(1, 2)).clamp_min(1e-5)
    loss = (difference * (teacher_x0 - actions)).sum(dim=(1, 2)) - alpha * difference.square().sum(dim=(1, 2))
    return loss / scale
