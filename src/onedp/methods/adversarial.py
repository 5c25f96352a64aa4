"""A small critic on the tracker's features (DMD2, Yin et al., arXiv 2405.14867, section 4.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal
from onedp.diffusion.schedule import diffuse
from onedp.errors import OneDPError
from onedp.methods.method import Batch
from onedp.nets.dit import Dit
from onedp.nets.mlp import Mlp
from onedp.nets.unet1d import Unet1d

HIDDEN = 64


class Critic(nn.Module):
    """Features of a backbone to one number: above 0 where the noised chunk looks like one of the teacher's."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        width = _feature_layer(denoiser.backbone)[1]
        self.head = nn.Sequential(nn.Linear(width, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) or (B, C, T) -> (B,)."""
        pooled = features.mean(dim=2) if features.dim() == 3 else features
        return self.head(pooled).squeeze(1)


def judge(tracker: Denoiser, x_t: Float[Tensor, "b tp da"], t: Tensor, batch: Batch) -> Float[Tensor, " b"]:
    """The critic's number for noised chunks; differentiable by them and by the tracker with its critic."""
    layer, _ = _feature_layer(tracker.backbone)
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        tracker.raw(x_t, t, tracker.encode(batch.nobs))
    finally:
        handle.remove()
    features = seen[0].transpose(1, 2) if isinstance(tracker.backbone, Dit) else seen[0]  # (B, C) or (B, C, T)
    return tracker.critic(features)  # type: ignore[operator]


def critic_loss(
    tracker: Denoiser,
    real: Batch,
    real_chunks: Float[Tensor, "b tp da"],
    batch: Batch,
    actions: Float[Tensor, "b tp da"],
    t: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Binary cross-entropy of telling the teacher's chunks from the student's at the same noise levels."""
    real_eps, eps = (normal(actions.shape, generator) for _ in range(2))
    schedule = tracker.schedule
    real_logit = judge(tracker, diffuse(schedule, real_chunks, t, real_eps), t, real)
    logit = judge(tracker, diffuse(schedule, actions.detach(), t, eps), t, batch)
    return nn.functional.softplus(-real_logit).mean() + nn.functional.softplus(logit).mean()


def realism_loss(
    tracker: Denoiser, actions: Float[Tensor, "b tp da"], t: Tensor, eps: Tensor, batch: Batch
) -> Float[Tensor, " b"]:
    """The generator's side, not saturating: low where the critic takes its noised actions for the teacher's."""
    return nn.functional.softplus(-judge(tracker, diffuse(tracker.schedule, actions, t, eps), t, batch))


def _feature_layer(backbone: nn.Module) -> tuple[nn.Module, int]:
    """The layer whose output the critic reads, and its channels: the U-Net's middle, the others' last norm."""
    if isinstance(backbone, Unet1d):
        last = backbone.mid_modules[-1]
        return last, last.out_channels  # type: ignore[return-value]
    if isinstance(backbone, (Mlp, Dit)):
        return backbone.norm, backbone.head.in_features
    raise OneDPError(f"A critic needs the features of a U-Net, MLP or transformer, not of {type(backbone).__name__}.")
