"""The 1-D convolutional U-Net of Diffusion Policy (Chi et al., arXiv 2303.04137), conditioned by FiLM.

Parameter names follow the layout that LeRobot's ``DiffusionPolicy`` uses, so checkpoints can be renamed into ours
one to one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from onedp.nets.backbone import Backbone
from onedp.nets.conv1d import Conv1d, ConvTranspose1d


class SinusoidalEmbedding(nn.Module):
    """Embed a scalar per sample, ``(B,) -> (B, dim)``, with frequencies spaced from 1 to 1e-4 (Vaswani et al.)."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, t: Tensor) -> Tensor:
        half = self.dim // 2
        frequencies = torch.exp(
            torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10000.0) / (half - 1))
        )
        angles = t.float()[:, None] * frequencies[None, :]
        return torch.cat([angles.sin(), angles.cos()], dim=-1)  # (B, dim)


class ConvBlock(nn.Module):
    """Convolution, group normalisation, Mish: ``(B, C_in, T) -> (B, C_out, T)``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, n_groups: int):
        super().__init__()
        self.block = nn.Sequential(
            Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2),
            nn.GroupNorm(n_groups, out_channels),
            nn.Mish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class ResidualBlock(nn.Module):
    """Two conv blocks, between them FiLM (scale and bias, or bias only) from the condition, and a skip connection."""

    def __init__(
        self, in_channels: int, out_channels: int, cond_dim: int, kernel_size: int, n_groups: int, film_scale: bool
    ):
        super().__init__()
        self.out_channels = out_channels
        self.film_scale = film_scale
        self.conv1 = ConvBlock(in_channels, out_channels, kernel_size, n_groups)
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(cond_dim, (1 + film_scale) * out_channels))
        self.conv2 = ConvBlock(out_channels, out_channels, kernel_size, n_groups)
        self.residual_conv = Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """``(B, C_in, T) -> (B, C_out, T)``; ``film`` is what ``cond_encoder`` makes of the condition.

        It is (B, 2 C_out), or (B, C_out) for a bias only.
        """
        h = self.conv1(x)
        if self.film_scale:
            scale, bias = film.unsqueeze(-1).chunk(2, dim=1)  # each (B, C_out, 1)
            h = h * scale + bias
        else:
            h = h + film.unsqueeze(-1)
        return self.conv2(h) + self.residual_conv(x)


class Unet1d(Backbone):
    """Denoising network over an action chunk: ``(B, Tp, Da), (B,), (B, cond_dim) -> (B, Tp, Da)``."""

    def __init__(
        self,
        action_dim: int,
        cond_dim: int,
        channels: tuple[int, ...] = (64, 128, 256),
        step_embed_dim: int = 128,
        kernel_size: int = 5,
        n_groups: int = 8,
        film_scale: bool = True,
        final_groups: int | None = None,
    ):
        super().__init__()
        self.diffusion_step_encoder = nn.Sequential(
            SinusoidalEmbedding(step_embed_dim),
            nn.Linear(step_embed_dim, step_embed_dim * 4),
            nn.Mish(),
            nn.Linear(step_embed_dim * 4, step_embed_dim),
        )
        block_args = (step_embed_dim + cond_dim, kernel_size, n_groups, film_scale)
        widths = (action_dim, *channels)
        pairs = list(itertools.pairwise(widths))
        last = len(pairs) - 1
        self.down_modules = nn.ModuleList(
            nn.ModuleList(
                [
                    ResidualBlock(c_in, c_out, *block_args),
                    ResidualBlock(c_out, c_out, *block_args),
                    Conv1d(c_out, c_out, 3, stride=2, padding=1) if i < last else nn.Identity(),
                ]
            )
            for i, (c_in, c_out) in enumerate(pairs)
        )
        self.mid_modules = nn.ModuleList(ResidualBlock(channels[-1], channels[-1], *block_args) for _ in range(2))
        self.up_modules = nn.ModuleList(
            nn.ModuleList(
                [
                    ResidualBlock(c_out * 2, c_in, *block_args),
                    ResidualBlock(c_in, c_in, *block_args),
                    ConvTranspose1d(c_in, c_in, 4, stride=2, padding=1),
                ]
            )
            for c_in, c_out in reversed(pairs[1:])
        )
        self.final_conv = nn.Sequential(
            ConvBlock(channels[0], channels[0], kernel_size, final_groups or n_groups),
            Conv1d(channels[0], action_dim, 1),
        )

    def residual_blocks(self) -> list[ResidualBlock]:
        """All residual blocks, in the order in which a pass meets them."""
        levels = itertools.chain(self.down_modules, [self.mid_modules], self.up_modules)
        return [part for level in levels for part in cast(nn.ModuleList, level) if isinstance(part, ResidualBlock)]

    def forward(self, chunk: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        cond = torch.cat([self.diffusion_step_encoder(t), cond], dim=-1)
        return self.modulated(chunk, [block.cond_encoder(cond) for block in self.residual_blocks()])

    def modulated(self, chunk: Tensor, films: list[Tensor]) -> Tensor:
        """``(B, Tp, Da) -> (B, Tp, Da)`` with the condition given as FiLM scales and biases, one a residual block.

        An export computes ``films`` another way: at a fixed noise level most of them is constant.
        """
        film = iter(films)
        x = chunk.transpose(1, 2)  # (B, Da, Tp)
        skips = []
        for level in cast(Iterable[nn.ModuleList], self.down_modules):
            x = level[1](level[0](x, next(film)), next(film))
            skips.append(x)
            x = level[2](x)  # halves the length, but for the last level
        for block in self.mid_modules:
            x = block(x, next(film))
        for level in cast(Iterable[nn.ModuleList], self.up_modules):
            x = level[1](level[0](torch.cat([x, skips.pop()], dim=1), next(film)), next(film))
            x = level[2](x)  # doubles the length
        return self.final_conv(x).transpose(1, 2)  # (B, Tp, Da)
