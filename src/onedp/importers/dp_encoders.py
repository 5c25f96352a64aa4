"""The two picture encoders of diffusion_policy in terms of ours: names of weights, order of features, constants."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray
from torch import Tensor

from onedp.errors import CheckpointError
from onedp.importers.options import Options
from onedp.nets.config import ImageEncoderConfig
from onedp.nets.image_encoder import SpatialSoftmax, feature_map_size
from onedp.nets.resnet import HALVINGS
from onedp.types import FieldSpec

IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
"""torchvision's names to the places in a Sequential of its children."""


@dataclass(frozen=True)
class Pictures:
    """An encoder of theirs."""

    config: ImageEncoderConfig
    observations: tuple[FieldSpec, ...]
    """In the order of the features."""
    rename: Callable[[str], str | None]
    """Name of a weight inside their encoder to ours; None: not needed."""
    mean: ndarray = field(default_factory=lambda: np.zeros(3))
    """Subtracted from each channel after normalisation,"""
    std: ndarray = field(default_factory=lambda: np.ones(3))
    """which is then divided by this."""
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    """Buffers of ours that theirs holds in another form."""
    notes: tuple[str, ...] = ()


def _pair(name: str, values: tuple[int, ...] | None) -> tuple[int, int] | None:
    if values is None:
        return None
    if len(values) != 2:
        raise CheckpointError(f"cfg.policy: '{name}' is {list(values)}, expected a height and a width.")
    return values[0], values[1]


def multi_image_encoder(policy: Options, fields: list[FieldSpec]) -> Pictures:
    """``MultiImageObsEncoder``: ResNet with average pooling; pictures by name, then the rest by name."""
    options = Options(policy.take("obs_encoder", dict), "cfg.policy.obs_encoder")
    if not str(options.take("_target_", str)).endswith(".MultiImageObsEncoder"):
        raise CheckpointError("cfg.policy.obs_encoder is no MultiImageObsEncoder, the only supported one.")
    model = Options(options.take("rgb_model", dict), "cfg.policy.obs_encoder.rgb_model")
    if not str(model.take("_target_", str)).endswith(".get_resnet"):
        raise CheckpointError("cfg.policy.obs_encoder.rgb_model is no get_resnet, the only supported one.")
    shared = options.take("share_rgb_model", bool)
    group_norm = options.take("use_group_norm", bool) and not shared  # theirs leaves a shared network as it is
    imagenet = options.take("imagenet_norm", bool)
    cameras = sorted(each.name for each in fields if each.is_image)
    names = ["rgb"] if shared else cameras

    def rename(key: str) -> str | None:
        for i, name in enumerate(names):
            prefix = f"key_model_map.{name}."
            if key.startswith(prefix):
                child, dot, rest = key.removeprefix(prefix).partition(".")
                return f"encoder.rgb_encoder.{i}.backbone.{CHILDREN.get(child, child)}{dot}{rest}"
        return "obs_encoder." + key

    config = ImageEncoderConfig(
        backbone=model.only("name", ("resnet18", "resnet34")),
        norm="group" if group_norm else "batch",
        pool="average",
        crop=_pair("crop_shape", options.numbers("crop_shape")),
        resize=_pair("resize_shape", options.numbers("resize_shape")),
        shared=shared,
    )
    model.ignore(["weights"])
    options.ignore(["shape_meta", "random_crop"])
    model.finish()
    options.finish()
    ordered = sorted(fields, key=lambda each: (not each.is_image, each.name))
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if imagenet else (np.zeros(3), np.ones(3))
    return Pictures(config, tuple(ordered), rename, mean, std)


def hybrid_encoder(policy: Options, fields: list[FieldSpec], raw: Mapping[str, Tensor]) -> Pictures:
    """robomimic's encoder: ResNet-18, spatial softmax, linear layer, ReLU for each camera; ``shape_meta``'s order."""
    crop, fixed = _pair("crop_shape", policy.numbers("crop_shape")), policy.take("eval_fixed_crop", bool)
    group_norm = policy.take("obs_encoder_group_norm", bool)
    cameras = [each for each in fields if each.is_image]
    if not cameras:
        raise CheckpointError("cfg.policy.shape_meta has no pictures, which the hybrid policy is for.")
    prefix = f"obs_encoder.obs_nets.{cameras[0].name}.nets"
    keypoint_weight, out = raw.get(f"{prefix}.1.nets.weight"), raw.get(f"{prefix}.3.weight")
    if keypoint_weight is None or out is None:
        raise CheckpointError(
            f"The checkpoint has no '{prefix}.1.nets.weight' and '{prefix}.3.weight'; only robomimic's ResNet-18 with "
            "spatial softmax and a linear layer is supported."
        )
    places = {each.name: i for i, each in enumerate(cameras)}

    def rename(key: str) -> str | None:
        match = re.fullmatch(r"obs_nets\.(.+?)\.nets\.(0\.nets|1\.nets|3)\.(.+)", key)
        if match and match[1] in places:
            part = {"0.nets": "backbone", "1.nets": "pool.nets", "3": "out"}[match[2]]
            return f"encoder.rgb_encoder.{places[match[1]]}.{part}.{match[3]}"
        is_grid = re.fullmatch(r"obs_nets\..+\.nets\.1\.(pos_x|pos_y|temperature)", key)
        return None if is_grid else "obs_encoder." + key  # their temperature is 1 and not learned

    for camera in cameras:
        temperature = raw.get(f"obs_encoder.obs_nets.{camera.name}.nets.1.temperature")
        if temperature is not None and temperature.item() != 1:
            raise CheckpointError(f"The spatial softmax of '{camera.name}' has a temperature; supported: 1.")
    grids = {}
    for name, i in places.items():
        height, width = crop or next(each.shape[:2] for each in cameras if each.name == name)
        pool = SpatialSoftmax(1, *feature_map_size(height, width, HALVINGS), keypoints=1)
        grids[f"encoder.rgb_encoder.{i}.pool.pos_grid"] = pool.pos_grid
    config = ImageEncoderConfig(
        norm="group" if group_norm else "batch", keypoints=keypoint_weight.shape[0], features=out.shape[0], crop=crop
    )
    notes = (
        ()
        if fixed or crop is None
        else ("The checkpoint crops at random places when acting too (eval_fixed_crop is off); here it is the centre.",)
    )
    return Pictures(config, tuple(fields), rename, constants=grids, notes=notes)
