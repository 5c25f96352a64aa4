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
    gaussian: bool = False
    """Give the mean and deviation of every action instead of one chunk (Gaussian policies)."""
    prefix: bool = False
    """Read what was planned before, too (``nets.prefix``)."""

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
    gaussian: bool = False
    """Give the mean and deviation of every action instead of one chunk (Gaussian policies)."""
    prefix: bool = False
    """Read what was planned before, too (``nets.prefix``)."""

    kind = "mlp"

    def __post_init__(self) -> None:
        if min(self.width, self.blocks, self.expansion, self.step_embed_dim) < 1:
            raise OneDPError(f"Every size of an MLP must be at least 1: {self}.")


@dataclass(frozen=True)
class DitConfig:
    """Transformer over the chunk's steps, conditioned by adaptive layer norm (DiT)."""

    width: int = 256
    """Size of a token; divisible by the number of heads."""
    blocks: int = 6
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    expansion: int = 4
    """Hidden width of the feed-forward parts, in units of ``width``."""
    step_embed_dim: int = 128
    """Size of the embedding of the noise level."""
    gaussian: bool = False
    """Give the mean and deviation of every action instead of one chunk (Gaussian policies)."""
    prefix: bool = False
    """Read what was planned before, too (``nets.prefix``)."""

    kind = "dit"

    def __post_init__(self) -> None:
        _check_transformer(self.width, self.heads, self)
        if min(self.blocks, self.expansion) < 1 or self.step_embed_dim < 4:
            raise OneDPError(f"A transformer has sizes of at least 1 and a step embedding of at least 4: {self}.")


@dataclass(frozen=True)
class ActConfig:
    """The conditional VAE of ACT, the baseline without diffusion: for the method act alone."""

    width: int = 256
    """Size of a token; divisible by the number of heads."""
    heads: int = 4
    """Attention heads."""
    expansion: int = 4
    """Hidden width of the feed-forward parts, in units of ``width``."""
    encoder_blocks: int = 4
    """Blocks of the encoder of actions (used in training only) and of that of observations, each."""
    decoder_blocks: int = 4
    """Blocks that make the chunk."""
    latent_dim: int = 32
    """Size of the latent."""

    kind = "act"
    only_method = "act"

    def __post_init__(self) -> None:
        _check_transformer(self.width, self.heads, self)
        if min(self.expansion, self.encoder_blocks, self.decoder_blocks, self.latent_dim) < 1:
            raise OneDPError(f"Every size of ACT's network must be at least 1: {self}.")


def _check_transformer(width: int, heads: int, config: object) -> None:
    if heads < 1 or width < 1 or width % heads:
        raise OneDPError(f"The width ({width}) of attention must be divisible by the heads ({heads}): {config}.")


@dataclass(frozen=True)
class StateEncoderConfig:
    """All fields of all observation steps in one vector, no weights."""

    kind = "state"
    training_crop = None  # as ImageEncoderConfig's


@dataclass(frozen=True)
class ImageEncoderConfig:
    """A ResNet or a small network for pictures; the other fields are passed on as they are."""

    backbone: Literal["resnet18", "resnet34", "light"] = "resnet18"
    """Convolutional network; light has four convolutions, for CPUs."""
    norm: Literal["group", "batch"] = "group"
    """Group normalisation with 16 channels a group, or batch normalisation with fixed statistics."""
    pool: Literal["spatial_softmax", "average"] = "spatial_softmax"
    """Expected positions of learned keypoints followed by a linear layer, or the average of each channel."""
    keypoints: int = 32
    """Learned keypoints of the spatial softmax."""
    features: int | None = None
    """Output of the linear layer; None: two for each keypoint."""
    crop: tuple[int, int] | None = None
    """Height and width of the part that is looked at [px]: at the centre when acting; None: everything."""
    resize: tuple[int, int] | None = None
    """Height and width that pictures are scaled to before the crop [px]; None: as they are."""
    shared: bool = False
    """One network for all cameras, or one for each."""

    kind = "image"

    @property
    def training_crop(self) -> tuple[int, int] | None:
        """Height and width of the part that training looks at, at random [px]; None: what is looked at when acting.

        Pictures that are scaled first are cropped at the centre in training too.
        """
        return self.crop if self.resize is None else None


@dataclass(frozen=True)
class PointEncoderConfig:
    """The encoder of 3D Diffusion Policy for point clouds; the other fields are passed on as they are."""

    widths: tuple[int, ...] = (64, 128, 256)
    """Widths of the MLP that every point goes through."""
    features: int = 64
    """Numbers that describe one point cloud."""

    kind = "points"
    training_crop = None


EncoderConfig = StateEncoderConfig | ImageEncoderConfig | PointEncoderConfig
ENCODERS: dict[str, type[StateEncoderConfig] | type[ImageEncoderConfig] | type[PointEncoderConfig]] = {
    "state": StateEncoderConfig,
    "image": ImageEncoderConfig,
    "points": PointEncoderConfig,
}

EncoderName = Literal["state", "light", "resnet18", "points"]
"""Encoders of the command line."""


NetworkConfig = UnetConfig | MlpConfig | DitConfig | ActConfig
NETWORKS: dict[str, type[UnetConfig] | type[MlpConfig] | type[DitConfig] | type[ActConfig]] = {
    "unet": UnetConfig,
    "mlp": MlpConfig,
    "dit": DitConfig,
    "act": ActConfig,
}

NETWORK_SIZES: dict[str, NetworkConfig] = {
    "unet-small": UnetConfig(channels=(32, 64, 128)),  # 1.4 M weights with Push-T's keypoints
    "unet-slim": UnetConfig(channels=(48, 96, 192)),  # 2.7 M
    "unet": UnetConfig(channels=(64, 128, 256)),  # 4.5 M
    "unet-medium": UnetConfig(channels=(128, 256, 512)),  # 17 M
    "unet-large": UnetConfig(channels=(256, 512, 1024)),  # 65 M, the paper's network for EDM and real robots
    "mlp": MlpConfig(),
    "dit-small": DitConfig(width=128, blocks=4),
    "dit": DitConfig(),
    "act": ActConfig(),
}
"""Named networks of the command line."""

NetworkName = Literal["unet-small", "unet-slim", "unet", "unet-medium", "unet-large", "mlp", "dit-small", "dit", "act"]
"""Their names, for ``--help``."""
