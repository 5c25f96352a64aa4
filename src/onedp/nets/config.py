"""Configs of backbones and encoders. Torch-free, so ``--help`` is fast; ``onedp.nets.build`` makes the modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onedp.errors import OneDPError


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
    film_scale: bool = True
    """The condition scales and shifts each block's channels; False: it only shifts them."""
    final_groups: int | None = None
    """Groups of the last block; None: as ``n_groups`` (LeRobot and Diffusion Policy always have 8 there)."""

    kind = "unet"

    def __post_init__(self) -> None:
        sizes = (*self.channels, self.step_embed_dim, self.kernel_size, self.n_groups, self.final_groups or 1)
        if not self.channels or min(sizes) < 1 or self.kernel_size % 2 == 0:
            raise OneDPError(
                f"A U-Net needs channels, and sizes of at least 1 with an odd kernel_size, not {self.channels}, "
                f"step_embed_dim {self.step_embed_dim}, kernel_size {self.kernel_size}, n_groups {self.n_groups}."
            )
        if any(width % groups for width in self.channels for groups in (self.n_groups, self.final_groups or 1)):
            raise OneDPError(f"The channels {self.channels} must be multiples of the groups ({self.n_groups}).")


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

    def __post_init__(self) -> None:
        if min(self.width, self.blocks, self.expansion, self.step_embed_dim) < 1:
            raise OneDPError(f"Every size of an MLP must be at least 1: {self}.")


@dataclass(frozen=True)
class StateEncoderConfig:
    """All fields of all observation steps in one vector, no weights."""

    kind = "state"


@dataclass(frozen=True)
class ImageEncoderConfig:
    """A ResNet for pictures; the other fields are passed on as they are."""

    backbone: Literal["resnet18", "resnet34"] = "resnet18"
    """Convolutional network."""
    norm: Literal["group", "batch"] = "group"
    """Group normalisation with 16 channels a group, or batch normalisation with fixed statistics."""
    pool: Literal["spatial_softmax", "average"] = "spatial_softmax"
    """Expected positions of learned keypoints followed by a linear layer, or the average of each channel."""
    keypoints: int = 32
    """Learned keypoints of the spatial softmax."""
    features: int | None = None
    """Output of the linear layer; None: two for each keypoint."""
    crop: tuple[int, int] | None = None
    """Height and width of the part at the centre that is looked at [px]; None: everything."""
    resize: tuple[int, int] | None = None
    """Height and width that pictures are scaled to before the crop [px]; None: as they are."""
    shared: bool = False
    """One network for all cameras, or one for each."""

    kind = "image"


EncoderConfig = StateEncoderConfig | ImageEncoderConfig
ENCODERS: dict[str, type[StateEncoderConfig] | type[ImageEncoderConfig]] = {
    "state": StateEncoderConfig,
    "image": ImageEncoderConfig,
}

NetworkConfig = UnetConfig | MlpConfig
NETWORKS: dict[str, type[UnetConfig] | type[MlpConfig]] = {"unet": UnetConfig, "mlp": MlpConfig}

NETWORK_SIZES: dict[str, NetworkConfig] = {
    "unet-small": UnetConfig(channels=(32, 64, 128)),  # 1.4 M weights with Push-T's keypoints
    "unet-slim": UnetConfig(channels=(48, 96, 192)),  # 2.7 M
    "unet": UnetConfig(channels=(64, 128, 256)),  # 4.5 M
    "unet-medium": UnetConfig(channels=(128, 256, 512)),  # 17 M
    "unet-large": UnetConfig(channels=(256, 512, 1024)),  # 65 M, the paper's network for EDM and real robots
    "mlp": MlpConfig(),
}
"""Named networks of the command line."""
