"""Transformer over the steps of the action chunk, conditioned by adaptive layer norm: DiT (arXiv 2212.09748)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onedp.nets.attention import Attention, feed_forward, sinusoidal_positions
from onedp.nets.backbone import Backbone
from onedp.nets.unet1d import SinusoidalEmbedding

MODULATIONS = 6
"""Vectors that a block takes from the condition: shift, scale and gate of attention and of the feed-forward part."""


class DitBlock(nn.Module):
    """Self-attention and a feed-forward part, each behind a modulated layer norm and a gate (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, expansion: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.feed_forward = feed_forward(width, expansion)

    def forward(self, x: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """``(B, Tp, width) -> (B, Tp, width)``; ``modulation``: six of (B, 1, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        h = self.norm1(x) * (1 + scale1) + shift1
        x = x + gate1 * self.attention(h, h)
        return x + gate2 * self.feed_forward(self.norm2(x) * (1 + scale2) + shift2)


class Dit(Backbone):
    """Denoising network over an action chunk: ``(B, Tp, Da), (B,), (B, cond_dim) -> (B, Tp, Da)``.

    One token an action, fixed sinusoidal positions; noise level and observation act through the modulations alone. They
    start at zero, so every block starts as the identity (their sec. 3.2), and so does the output. All modulations are
    one linear layer: one product a pass instead of one a block.
    """

    positions: Tensor

    def __init__(
        self,
        horizon: int,
        action_dim: int,
        cond_dim: int,
        width: int = 256,
        blocks: int = 6,
        heads: int = 4,
        expansion: int = 4,
        step_embed_dim: int = 128,
    ):
        super().__init__()
        self.step_encoder = SinusoidalEmbedding(step_embed_dim)
        self.cond_encoder = nn.Sequential(
            nn.Linear(step_embed_dim + cond_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.chunk_encoder = nn.Linear(action_dim, width)
        self.register_buffer("positions", sinusoidal_positions(horizon, width), persistent=False)
        self.modulation = nn.Linear(width, (MODULATIONS * blocks + 2) * width)
        self.blocks = nn.ModuleList(DitBlock(width, heads, expansion) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, action_dim)
        for layer in (self.modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, chunk: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return self.modulated(chunk, self.cond_encoder(torch.cat([self.step_encoder(t), cond], dim=-1)))

    def modulated(self, chunk: Tensor, cond: Tensor) -> Tensor:
        """``(B, Tp, Da) -> (B, Tp, Da)`` with the encoded condition ``(B, width)``, which an export computes apart."""
        parts = self.modulation(cond).unsqueeze(1).chunk(MODULATIONS * len(self.blocks) + 2, dim=-1)  # (B, 1, width)
        x = self.chunk_encoder(chunk) + self.positions  # (B, Tp, width)
        for i, block in enumerate(self.blocks):
            x = block(x, parts[MODULATIONS * i : MODULATIONS * (i + 1)])
        shift, scale = parts[-2:]
        return self.head(self.norm(x) * (1 + scale) + shift)
