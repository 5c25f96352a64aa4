"""Encoder of point clouds beside low-dimensional observations: that of 3D Diffusion Policy (arXiv 2403.03954)."""

from __future__ import annotations

from torch import Tensor, nn

from onedp.errors import ArtifactError
from onedp.nets.config import PointEncoderConfig
from onedp.nets.fields_encoder import FieldsEncoder
from onedp.types import FieldSpec, PolicySpec


class PointCloudEncoder(nn.Module):
    """Features of one set of points, ``(..., P, 3 or 6) -> (..., features)``: the same MLP for every point, the largest
    value of each channel over the points, a linear layer (their sec. 3.3). The order of the points does not matter.
    """

    def __init__(self, channels: int, config: PointEncoderConfig):
        super().__init__()
        layers: list[nn.Module] = []
        for width in config.widths:
            layers += [nn.Linear(channels, width), nn.LayerNorm(width), nn.ReLU()]
            channels = width
        self.per_point = nn.Sequential(*layers)
        self.out = nn.Sequential(nn.Linear(channels, config.features), nn.LayerNorm(config.features))

    def forward(self, points: Tensor) -> Tensor:
        return self.out(self.per_point(points).amax(dim=-2))


class PointEncoder(FieldsEncoder):
    """``{name: (B, To, *shape)} -> (B, To * features)`` with one network for each point cloud of the spec.

    Point clouds are float fields of shape (points, 3) or (points, 6); 3D Diffusion Policy uses 512 points, cropped to
    the workspace and drawn by farthest-point sampling before they come here. Raises ``ArtifactError`` when the spec has
    no point cloud, or pictures.
    """

    def __init__(self, config: PointEncoderConfig, spec: PolicySpec):
        super().__init__(spec)
        clouds = [field for field in spec.observations if field.is_point_cloud]
        if not clouds or any(field.is_image for field in spec.observations):
            shapes = {field.name: field.shape for field in spec.observations}
            raise ArtifactError(
                "A point encoder needs observations of floats of the shape (points, 3) or (points, 6), and takes no "
                f"pictures; the policy has {shapes}."
            )
        self.names = [field.name for field in clouds]
        self.features = config.features
        self.clouds = nn.ModuleList(PointCloudEncoder(field.shape[1], config) for field in clouds)

    def encoded_size(self, field: FieldSpec) -> int:
        return self.features if field.is_point_cloud else super().encoded_size(field)

    def encode_field(self, field: FieldSpec, values: Tensor) -> Tensor:
        if not field.is_point_cloud:
            return super().encode_field(field, values)
        return self.clouds[self.names.index(field.name)](values)
