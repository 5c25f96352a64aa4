"""A Gaussian policy's network: the mean and the standard deviation of every action from one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GaussianHead(nn.Module):
    """``mean(O) + std(O) z`` with z where other networks take the noised chunk: ``(B, Tp, Da) -> (B, Tp, Da)``.

    ``inner`` is a backbone for chunks of twice as many action dimensions: means first, then logarithms of deviations.
    """

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, chunk: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        mean, std = self.distribution(chunk, t, cond)
        return mean + std * chunk

    def distribution(self, like: Tensor, t: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each shaped as ``like`` (B, Tp, Da)."""
        out = self.inner(torch.zeros_like(torch.cat([like, like], dim=-1)), t, cond)
        mean, log_std = out.chunk(2, dim=-1)
        return mean, (log_std - 1).clamp(-7, 1).exp()  # an untrained network is neither certain nor wild
