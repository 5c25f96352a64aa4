"""Residual MLP over the flattened action chunk, conditioned by adaptive layer norm: cheap on CPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onedp.nets.backbone import Backbone
from onedp.nets.unet1d import SinusoidalEmbedding


class MlpBlock(nn.Module):
    """``x + MLP(LayerNorm(x) (1 + scale) + shift)`` with scale and shift from the condition."""

    def __init__(self, width: int, expansion: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        nn.init.zeros_(self.contract.weight)  # every block starts as the identity
        nn.init.zeros_(self.contract.bias)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.modulation(cond).chunk(2, dim=-1)
        h = self.norm(x) * (1 + scale) + shift
        return x + self.contract(nn.functional.silu(self.expand(h)))


class Mlp(Backbone):
    """Denoising network over an action chunk: ``(B, Tp, Da), (B,), (B, cond_dim) -> (B, Tp, Da)``."""

    def __init__(
        self,
        horizon: int,
        action_dim: int,
        cond_dim: int,
        width: int = 512,
        blocks: int = 4,
        expansion: int = 2,
        step_embed_dim: int = 128,
    ):
        super().__init__()
        self.step_encoder = SinusoidalEmbedding(step_embed_dim)
        self.cond_encoder = nn.Sequential(
            nn.Linear(step_embed_dim + cond_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.chunk_encoder = nn.Linear(horizon * action_dim, width)
        self.blocks = nn.ModuleList(MlpBlock(width, expansion) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, horizon * action_dim)

    def forward(self, chunk: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return self.modulated(chunk, self.cond_encoder(torch.cat([self.step_encoder(t), cond], dim=-1)))

    def modulated(self, chunk: Tensor, cond: Tensor) -> Tensor:
        """``(B, Tp, Da) -> (B, Tp, Da)`` with the encoded condition ``(B, width)``, which an export computes apart."""
        x = self.chunk_encoder(chunk.flatten(1))  # (B, width)
        for block in self.blocks:
            x = block(x, cond)
        return self.head(self.norm(x)).view_as(chunk)
