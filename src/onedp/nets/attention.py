"""Multi-head attention written out, so that it exports and its operations are counted; and positions of a sequence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from onedp.errors import OneDPError


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., arXiv 1706.03762, sec. 3.2) without masks or dropout.

    Every query sees every row of the memory. PyTorch's own layers choose between code paths while they run, which an
    export cannot follow.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise OneDPError(f"The width {width} of an attention layer must be divisible by its {heads} heads.")
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """``(B, Q, width), (B, M, width) -> (B, Q, width)``; the memory is the queries themselves in self-attention."""
        q = self._split(self.query(queries))  # (B, heads, Q, width / heads)
        k, v = (self._split(part) for part in self.key_value(memory).chunk(2, dim=-1))
        weights = (self.scale * q @ k.transpose(-1, -2)).softmax(dim=-1)  # (B, heads, Q, M)
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def feed_forward(width: int, expansion: int) -> nn.Sequential:
    """The two-layer network of a transformer block, applied to each row alone."""
    return nn.Sequential(
        nn.Linear(width, expansion * width), nn.GELU(approximate="tanh"), nn.Linear(expansion * width, width)
    )


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """``(length, width)``: sines, then cosines, of the position at frequencies from 1 to 1e-4 (arXiv 1706.03762)."""
    half = (width + 1) // 2
    frequencies = torch.exp(torch.arange(half) * (-math.log(10000.0) / max(1, half - 1)))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]
