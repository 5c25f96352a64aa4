"""Encoder of camera pictures beside low-dimensional observations, as LeRobot and Diffusion Policy have it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onedp.errors import ArtifactError
from onedp.nets.config import ImageEncoderConfig
from onedp.nets.fields_encoder import FieldsEncoder
from onedp.nets.light_cnn import LIGHT_CHANNELS, LIGHT_HALVINGS, light_features
from onedp.nets.resnet import HALVINGS, STAGE_CHANNELS, resnet_features
from onedp.types import FieldSpec, PolicySpec


class SpatialSoftmax(nn.Module):
    """Expected positions of learned keypoints, ``(B, C, H, W) -> (B, 2 K)`` in [-1, 1] (Finn et al., 1509.06113)."""

    pos_grid: Tensor

    def __init__(self, channels: int, height: int, width: int, keypoints: int):
        super().__init__()
        self.nets = nn.Conv2d(channels, keypoints, 1)
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("pos_grid", torch.stack([x.flatten(), y.flatten()], dim=1))  # (H W, 2)

    def forward(self, features: Tensor) -> Tensor:
        attention = self.nets(features).flatten(2).softmax(dim=-1)  # (B, K, H W)
        return (attention @ self.pos_grid).flatten(1)


class CameraEncoder(nn.Module):
    """Features of one camera's pictures, ``(B, 3, H, W) -> (B, output_dim)``."""

    def __init__(self, config: ImageEncoderConfig, height: int, width: int):
        super().__init__()
        self.resize, self.crop = config.resize, config.crop
        height, width = config.resize or (height, width)
        if config.crop is not None and (config.crop[0] > height or config.crop[1] > width):
            raise ArtifactError(f"The crop {config.crop} is larger than the picture of {height} x {width} pixels.")
        self.backbone, channels, halvings = picture_features(config)
        if config.pool == "average":
            self.pool: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.out: nn.Module = nn.Identity()
            self.output_dim = channels
        else:
            size = feature_map_size(*(config.crop or (height, width)), halvings)
            self.output_dim = config.features or 2 * config.keypoints
            self.pool = SpatialSoftmax(channels, *size, config.keypoints)
            self.out = nn.Linear(2 * config.keypoints, self.output_dim)

    def forward(self, pictures: Tensor) -> Tensor:
        if self.resize is not None:
            pictures = nn.functional.interpolate(pictures, self.resize, mode="bilinear", antialias=True)
        if self.crop is not None:
            pictures = centre_crop(pictures, *self.crop)  # changes nothing where the training data was cropped already
        return self.out(self.pool(self.backbone(pictures))).relu()  # average features are not negative anyway


def picture_features(config: ImageEncoderConfig) -> tuple[nn.Sequential, int, int]:
    """The convolutional network, its output channels, and how often it halves the picture; raises ``ArtifactError``."""
    if config.backbone != "light":
        return resnet_features(config.backbone, config.norm), STAGE_CHANNELS[-1], HALVINGS
    if config.norm != "group":
        raise ArtifactError(f"The light image encoder has group normalisation only, not '{config.norm}'.")
    return light_features(), LIGHT_CHANNELS[-1], LIGHT_HALVINGS


def feature_map_size(height: int, width: int, halvings: int) -> tuple[int, int]:
    """Height and width of the features of a picture."""
    for _ in range(halvings):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


class ImageEncoder(FieldsEncoder):
    """``{name: (B, To, *shape)} -> (B, To * features)``: fields in the spec's order within each step.

    Pictures are fields of shape (H, W, 3) and type uint8, normalised like every other field. They are cropped at the
    centre; training crops them at random beforehand (``train.windows``), so that teacher and student see the same.
    """

    def __init__(self, config: ImageEncoderConfig, spec: PolicySpec):
        super().__init__(spec)
        self.cameras = [field.name for field in self.fields if field.is_image]
        sizes = {field.shape for field in self.fields if field.is_image}
        if not self.cameras or any(shape[2] != 3 for shape in sizes):
            raise ArtifactError(f"An image encoder needs pictures of shape (H, W, 3), the policy has {sorted(sizes)}.")
        if config.shared and len(sizes) > 1:
            raise ArtifactError(f"Cameras that share an encoder must have pictures of one size, not {sorted(sizes)}.")
        shapes = {field.name: field.shape for field in self.fields}
        named = self.cameras[:1] if config.shared else self.cameras
        self.rgb_encoder = nn.ModuleList(CameraEncoder(config, *shapes[name][:2]) for name in named)

    @property
    def feature_dim(self) -> int:
        """Features of one picture."""
        encoder = self.rgb_encoder[0]
        assert isinstance(encoder, CameraEncoder)
        return encoder.output_dim

    def encoded_size(self, field: FieldSpec) -> int:
        return self.feature_dim if field.is_image else super().encoded_size(field)

    def camera_features(self, name: str, pictures: Tensor) -> Tensor:
        """Features (N, F) of normalised pictures (N, H, W, 3) of one camera."""
        encoder = self.rgb_encoder[self.cameras.index(name) if len(self.rgb_encoder) > 1 else 0]
        return encoder(pictures.permute(0, 3, 1, 2))  # (N, 3, H, W)

    def assemble(self, nobs: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Tensor:
        """The condition from normalised fields and the features (B, To, F) of every camera's pictures."""
        steps = [
            features[field.name] if field.is_image else self.encode_field(field, nobs[field.name])
            for field in self.fields
        ]
        return torch.cat(steps, dim=-1).flatten(1)

    def encode_field(self, field: FieldSpec, values: Tensor) -> Tensor:
        if not field.is_image:
            return super().encode_field(field, values)
        features = self.camera_features(field.name, values.flatten(0, 1))  # (B To, F)
        return features.view(-1, self.n_obs_steps, self.feature_dim)


def centre_crop(pictures: Tensor, height: int, width: int) -> Tensor:
    """The middle of ``(B, C, H, W)``, half pixels rounded to even as torchvision does."""
    sizes = (int(size) for size in pictures.shape[2:])  # an export traces tensors, which cannot be rounded to numbers
    top, left = (round((size - part) / 2) for size, part in zip(sizes, (height, width), strict=True))
    return pictures[:, :, top : top + height, left : left + width]
