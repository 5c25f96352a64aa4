"""Encoder of camera pictures beside low-dimensional observations, as LeRobot and Diffusion Policy have it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onedp.errors import ArtifactError
from onedp.nets.config import ImageEncoderConfig
from onedp.nets.resnet import STAGE_CHANNELS, feature_map_size, resnet_features
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
        self.backbone = resnet_features(config.backbone, config.norm)
        if config.pool == "average":
            self.pool: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.out: nn.Module = nn.Identity()
            self.output_dim = STAGE_CHANNELS[-1]
        else:
            size = feature_map_size(*(config.crop or (height, width)))
            self.output_dim = config.features or 2 * config.keypoints
            self.pool = SpatialSoftmax(STAGE_CHANNELS[-1], *size, config.keypoints)
            self.out = nn.Linear(2 * config.keypoints, self.output_dim)

    def forward(self, pictures: Tensor) -> Tensor:
        if self.resize is not None:
            pictures = nn.functional.interpolate(pictures, self.resize, mode="bilinear", antialias=True)
        if self.crop is not None:
            pictures = centre_crop(pictures, *self.crop)
        return self.out(self.pool(self.backbone(pictures))).relu()  # average features are not negative anyway


class ImageEncoder(nn.Module):
    """``{name: (B, To, *shape)} -> (B, To * features)``: fields in the spec's order within each step.

    Pictures are fields of shape (H, W, 3) and type uint8, normalised like every other field. They are cropped at the
    centre, in training too: teacher and student must see the same.
    """

    def __init__(self, config: ImageEncoderConfig, spec: PolicySpec):
        super().__init__()
        self.fields = spec.observations
        self.cameras = [field.name for field in self.fields if field.is_image]
        sizes = {field.shape for field in self.fields if field.is_image}
        if not self.cameras or any(shape[2] != 3 for shape in sizes):
            raise ArtifactError(f"An image encoder needs pictures of shape (H, W, 3), the policy has {sorted(sizes)}.")
        if config.shared and len(sizes) > 1:
            raise ArtifactError(f"Cameras that share an encoder must have pictures of one size, not {sorted(sizes)}.")
        shapes = {field.name: field.shape for field in self.fields}
        named = self.cameras[:1] if config.shared else self.cameras
        self.rgb_encoder = nn.ModuleList(CameraEncoder(config, *shapes[name][:2]) for name in named)
        self.output_dim = spec.n_obs_steps * sum(encoded_size(field, self.feature_dim) for field in self.fields)

    @property
    def feature_dim(self) -> int:
        """Features of one picture."""
        encoder = self.rgb_encoder[0]
        assert isinstance(encoder, CameraEncoder)
        return encoder.output_dim

    def forward(self, nobs: Mapping[str, Tensor]) -> Tensor:
        features = {
            name: self.camera_features(name, nobs[name].flatten(0, 1)).unflatten(0, nobs[name].shape[:2])
            for name in self.cameras
        }
        return self.assemble(nobs, features)

    def camera_features(self, name: str, pictures: Tensor) -> Tensor:
        """Features (N, F) of normalised pictures (N, H, W, 3) of one camera."""
        encoder = self.rgb_encoder[self.cameras.index(name) if len(self.rgb_encoder) > 1 else 0]
        return encoder(pictures.permute(0, 3, 1, 2))  # (N, 3, H, W)

    def assemble(self, nobs: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Tensor:
        """The condition from normalised fields and the features (B, To, F) of every camera's pictures."""
        steps = [features[f.name] if f.is_image else nobs[f.name].flatten(2) for f in self.fields]
        return torch.cat(steps, dim=-1).flatten(1)


def encoded_size(field: FieldSpec, feature_dim: int) -> int:
    """Numbers that a field brings to one step of the condition."""
    return feature_dim if field.is_image else field.size


def centre_crop(pictures: Tensor, height: int, width: int) -> Tensor:
    """The middle of ``(B, C, H, W)``, half pixels rounded to even as torchvision does."""
    sizes = (int(size) for size in pictures.shape[2:])  # tensors while an export is traced
    top, left = (round((size - part) / 2) for size, part in zip(sizes, (height, width), strict=True))
    return pictures[:, :, top : top + height, left : left + width]
