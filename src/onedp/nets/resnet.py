"""ResNet-18 and -34 without their head (He et al., arXiv 1512.03385), as convolutional features of a camera picture.

The modules are the children of torchvision's ResNet in a ``Sequential``, as in LeRobot's ``rgb_encoder.backbone`` and
robomimic's ``ResNet18Conv``: 0 first convolution, 1 its norm, 4 to 7 the four stages.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onedp.errors import ArtifactError, unknown_choice

STAGE_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Blocks of the four stages."""
STAGE_CHANNELS = (64, 128, 256, 512)
HALVINGS = 5
"""How often a ResNet halves the picture."""
CHANNELS_PER_GROUP = 16
"""Of the group normalisation that replaces batch normalisation (Diffusion Policy)."""


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with the statistics of the checkpoint, in training too: ``(B, C, H, W) -> (B, C, H, W)``.

    Distillation compares networks on the same features, so statistics of the moment would only add noise.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def _norm(kind: str, channels: int) -> nn.Module:
    return FrozenBatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)


def _conv(in_channels: int, out_channels: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a skip connection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str):
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels, 3, stride)
        self.bn1 = _norm(norm, out_channels)
        self.conv2 = _conv(out_channels, out_channels, 3, 1)
        self.bn2 = _norm(norm, out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(_conv(in_channels, out_channels, 1, stride), _norm(norm, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (h + self.downsample(x)).relu()


def resnet_features(name: str, norm: str) -> nn.Sequential:
    """``(B, 3, H, W) -> (B, 512, ceil(H / 32), ceil(W / 32))``; ``norm``: group or batch. Raises ``ArtifactError``."""
    if name not in STAGE_BLOCKS:
        raise ArtifactError(unknown_choice("backbone", name, STAGE_BLOCKS))
    stages, channels = [], STAGE_CHANNELS[0]
    for i, (width, blocks) in enumerate(zip(STAGE_CHANNELS, STAGE_BLOCKS[name], strict=True)):
        strides = [2 if i else 1] + [1] * (blocks - 1)
        stages.append(
            nn.Sequential(*(BasicBlock(channels if b == 0 else width, width, s, norm) for b, s in enumerate(strides)))
        )
        channels = width
    stem = [_conv(3, STAGE_CHANNELS[0], 7, 2), _norm(norm, STAGE_CHANNELS[0]), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *stages)
