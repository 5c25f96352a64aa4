"""A small convolutional network for camera pictures on CPUs: a fortieth of ResNet-18's weights."""

from __future__ import annotations

from torch import nn

LIGHT_CHANNELS = (32, 64, 128, 128)
"""Channels of the four convolutions."""
LIGHT_HALVINGS = 3
"""How often they halve the picture."""
CHANNELS_PER_GROUP = 16


def light_features() -> nn.Sequential:
    """``(B, 3, H, W) -> (B, 128, ceil(H / 8), ceil(W / 8))``.

    Convolution, group normalisation and ReLU four times. The map stays four times as fine as a ResNet's, so that a
    spatial softmax still places its keypoints well.
    """
    layers: list[nn.Module] = []
    channels = 3
    for i, width in enumerate(LIGHT_CHANNELS):
        size, stride = (5 if i == 0 else 3), (2 if i < LIGHT_HALVINGS else 1)
        conv = nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=False)
        layers += [conv, nn.GroupNorm(width // CHANNELS_PER_GROUP, width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)
