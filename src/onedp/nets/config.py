"""Configs of backbones and encoders. Torch-free, so ``--help`` is fast; ``onedp.nets.build`` makes the modules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UnetConfig:
    """1-D convolutional U-Net of Diffusion Policy; (64, 128, 256) has about 4.5 M weights."""

    channels: tuple[int, ...] = (64, 128, 256)
    """Channels of each resolution; the chunk's length must be divisible by 2 ** (number of channels - 1)."""
    step_embed_dim: int = 128
    """Size of the embedding of the noise level."""
    kernel_size: int = 5
    """Width of the convolutions [steps], odd."""
    n_groups: int = 8
    """Groups of the group normalisation."""

    kind = "unet"


@dataclass(frozen=True)
class MlpConfig:
    """Residual MLP over the flattened chunk; about a tenth of the U-Net's cost per step on a CPU."""

    width: int = 512
    """Hidden width."""
    blocks: int = 4
    """Residual blocks."""
    expansion: int = 2
    """Hidden width inside a block, in units of ``width``."""
    step_embed_dim: int = 128
    """Size of the embedding of the noise level."""

    kind = "mlp"


NetworkConfig = UnetConfig | MlpConfig
NETWORKS: dict[str, type[UnetConfig] | type[MlpConfig]] = {"unet": UnetConfig, "mlp": MlpConfig}

NETWORK_SIZES: dict[str, NetworkConfig] = {
    "unet-small": UnetConfig(channels=(32, 64, 128)),  # 1.4 M weights with Push-T's keypoints
    "unet-slim": UnetConfig(channels=(48, 96, 192)),  # 2.6 M
    "unet": UnetConfig(channels=(64, 128, 256)),  # 4.5 M
    "unet-medium": UnetConfig(channels=(128, 256, 512)),  # 17 M
    "unet-large": UnetConfig(channels=(256, 512, 1024)),  # 65 M, the paper's network for EDM and real robots
    "mlp": MlpConfig(),
}
"""Named networks of the command line."""
