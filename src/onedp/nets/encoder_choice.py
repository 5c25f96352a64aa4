"""Which encoder reads the observations of a spec. Torch-free; apart from the configs, so that ``--help`` is fast."""

from __future__ import annotations

from onedp.errors import OneDPError
from onedp.nets.config import (
    EncoderConfig,
    EncoderName,
    ImageEncoderConfig,
    PointEncoderConfig,
    StateEncoderConfig,
)
from onedp.types import PolicySpec


def fitting_encoder(spec: PolicySpec) -> EncoderName:
    """The encoder that the observations ask for: resnet18 for pictures, points for point clouds, else state.

    Raises ``OneDPError`` for both at once, which no encoder reads.
    """
    pictures = [field.name for field in spec.observations if field.is_image]
    clouds = [field.name for field in spec.observations if field.is_point_cloud]
    if pictures and clouds:
        raise OneDPError(
            f"No encoder reads pictures ({', '.join(pictures)}) and point clouds ({', '.join(clouds)}) together. Leave "
            "one of them out, or choose an encoder: light and resnet18 take the points as one flat vector."
        )
    return "resnet18" if pictures else "points" if clouds else "state"


def named_encoder(name: EncoderName, spec: PolicySpec, crop: tuple[int, int] | None = None) -> EncoderConfig:
    """An encoder of the command line for the fields of ``spec``.

    Pictures are cropped to ``crop`` (height, width), if None to seven eighths of the smallest camera's size (84 of 96
    pixels in Diffusion Policy); at random in training.
    """
    if name == "state":
        return StateEncoderConfig()
    if name == "points":
        return PointEncoderConfig()
    sizes = [field.shape for field in spec.observations if field.is_image]
    if crop is None and sizes:
        crop = (min(size[0] for size in sizes) * 7 // 8, min(size[1] for size in sizes) * 7 // 8)
    return ImageEncoderConfig(backbone=name, crop=crop)


def usual_encoder(spec: PolicySpec, crop: tuple[int, int] | None = None) -> EncoderConfig:
    """The encoder where none is asked for; raises ``OneDPError`` as ``fitting_encoder`` does."""
    return named_encoder(fitting_encoder(spec), spec, crop)
