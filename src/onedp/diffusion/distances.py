"""Distances between two sets of samples of one chunk distribution each, averaged over observations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def energy_distances(a: Float[Tensor, "b n d"], b: Float[Tensor, "b m d"]) -> Float[Tensor, " b"]:
    """Energy distance between samples of two distributions, one number per observation.

    ``2 E|a-b| - E|a-a'| - E|b-b'|``, the unbiased estimate (pairs of one sample with itself are left out); it may be
    slightly negative when the distributions agree.
    """
    n, m = a.shape[1], b.shape[1]
    within_a = torch.cdist(a, a).sum(dim=(1, 2)) / (n * (n - 1))
    within_b = torch.cdist(b, b).sum(dim=(1, 2)) / (m * (m - 1))
    return 2 * torch.cdist(a, b).mean(dim=(1, 2)) - within_a - within_b


def sliced_wasserstein_distances(
    a: Float[Tensor, "b n d"], b: Float[Tensor, "b n d"], generator: torch.Generator, directions: int = 64
) -> Float[Tensor, " b"]:
    """Mean 1-Wasserstein distance of random one-dimensional projections, one number per observation."""
    axes = torch.randn((a.shape[2], directions), generator=generator, device=generator.device)
    axes = axes / axes.norm(dim=0, keepdim=True)
    return ((a @ axes).sort(dim=1).values - (b @ axes).sort(dim=1).values).abs().mean(dim=(1, 2))
