"""Checkpoints made by hand under the names of the other libraries, and forward passes written on those names alone.

Nothing here uses our networks or the importers' tables, so both are tested against something independent.
"""

from __future__ import annotations

import json
import math
import sys
import types
import typing
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from onedp.diffusion.foreign_samplers_test import reference_chunk
from onedp.diffusion.schedule import CosineDdpm

STYLES = {
    "lerobot": {"first": "conv1.block", "second": "conv2.block", "resample": ""},
    "dp": {"first": "blocks.0.block", "second": "blocks.1.block", "resample": "conv."},
}
DIMS, EMBED, KERNEL, HORIZON, OBS_STEPS = (16, 24), 8, 3, 4, 2


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        scale = 0.5 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
        weights[name] = 2 * scale * torch.randn(shape, generator=generator) + (
            len(shape) == 1 and name.endswith("weight")
        )
        if name.endswith("running_var"):
            weights[name] = 1 + weights[name].abs()
    return weights


# --- the U-Net


def unet_shapes(action_dim: int, cond_dim: int, style: str, film: bool = True) -> dict[str, tuple[int, ...]]:
    names, c = STYLES[style], EMBED + cond_dim
    shapes: dict[str, tuple[int, ...]] = {}

    def block(prefix: str, c_in: int, c_out: int) -> None:
        for part, width in ((names["first"], c_in), (names["second"], c_out)):
            shapes[f"{prefix}.{part}.0.weight"] = (c_out, width, KERNEL)
            for end in ("0.bias", "1.weight", "1.bias"):
                shapes[f"{prefix}.{part}.{end}"] = (c_out,)
        shapes[f"{prefix}.cond_encoder.1.weight"] = ((1 + film) * c_out, c)
        shapes[f"{prefix}.cond_encoder.1.bias"] = ((1 + film) * c_out,)
        if c_in != c_out:
            shapes[f"{prefix}.residual_conv.weight"], shapes[f"{prefix}.residual_conv.bias"] = (
                (c_out, c_in, 1),
                (c_out,),
            )

    for i, (rows, columns) in ((1, (4 * EMBED, EMBED)), (3, (EMBED, 4 * EMBED))):
        shapes[f"diffusion_step_encoder.{i}.weight"] = (rows, columns)
        shapes[f"diffusion_step_encoder.{i}.bias"] = (rows,)
    low, high = DIMS
    for prefix, c_in, c_out in (
        ("down_modules.0.0", action_dim, low), ("down_modules.0.1", low, low), ("down_modules.1.0", low, high),
        ("down_modules.1.1", high, high), ("mid_modules.0", high, high), ("mid_modules.1", high, high),
        ("up_modules.0.0", 2 * high, low), ("up_modules.0.1", low, low),
    ):  # fmt: skip
        block(prefix, c_in, c_out)
    for side, width in (("down", 3), ("up", 4)):
        shapes[f"{side}_modules.0.2.{names['resample']}weight"] = (low, low, width)
        shapes[f"{side}_modules.0.2.{names['resample']}bias"] = (low,)
    shapes["final_conv.0.block.0.weight"] = (low, low, KERNEL)
    for end in ("0.bias", "1.weight", "1.bias"):
        shapes[f"final_conv.0.block.{end}"] = (low,)
    shapes["final_conv.1.weight"], shapes["final_conv.1.bias"] = (action_dim, low, 1), (action_dim,)
    return shapes


def unet(w: dict[str, torch.Tensor], style: str, x, t, cond, groups: int, film: bool = True):
    names = STYLES[style]

    def conv(prefix, x, groups):
        h = F.conv1d(x, w[f"{prefix}.0.weight"], w[f"{prefix}.0.bias"], padding=KERNEL // 2)
        return F.mish(F.group_norm(h, groups, w[f"{prefix}.1.weight"], w[f"{prefix}.1.bias"]))

    def block(prefix, x, c):
        h = conv(f"{prefix}.{names['first']}", x, groups)
        e = F.linear(F.mish(c), w[f"{prefix}.cond_encoder.1.weight"], w[f"{prefix}.cond_encoder.1.bias"])[:, :, None]
        h = h * e[:, : h.shape[1]] + e[:, h.shape[1] :] if film else h + e
        h = conv(f"{prefix}.{names['second']}", h, groups)
        key = f"{prefix}.residual_conv"
        return h + (F.conv1d(x, w[f"{key}.weight"], w[f"{key}.bias"]) if f"{key}.weight" in w else x)

    half = EMBED // 2
    angles = t[:, None].float() * torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    e = torch.cat([angles.sin(), angles.cos()], dim=1)
    e = F.mish(F.linear(e, w["diffusion_step_encoder.1.weight"], w["diffusion_step_encoder.1.bias"]))
    e = F.linear(e, w["diffusion_step_encoder.3.weight"], w["diffusion_step_encoder.3.bias"])
    c, end = torch.cat([e, cond], dim=1), names["resample"]
    x = block("down_modules.0.1", block("down_modules.0.0", x.transpose(1, 2), c), c)
    h = F.conv1d(x, w[f"down_modules.0.2.{end}weight"], w[f"down_modules.0.2.{end}bias"], stride=2, padding=1)
    skip = block("down_modules.1.1", block("down_modules.1.0", h, c), c)
    h = block("mid_modules.1", block("mid_modules.0", skip, c), c)
    h = block("up_modules.0.1", block("up_modules.0.0", torch.cat([h, skip], dim=1), c), c)
    h = F.conv_transpose1d(h, w[f"up_modules.0.2.{end}weight"], w[f"up_modules.0.2.{end}bias"], stride=2, padding=1)
    h = conv("final_conv.0.block", h, 8)
    return F.conv1d(h, w["final_conv.1.weight"], w["final_conv.1.bias"]).transpose(1, 2)


def reference_actions(
    w, style, cond, noise, kind, steps, total, clip, prediction="epsilon", beta="squaredcos_cap_v2", groups=8, film=True
):
    """Normalised chunk (B, Tp, Da) as diffusers' scheduler would sample it."""

    def network(x, t, c):
        return unet(w, style, x, t, c, groups, film)

    schedule = CosineDdpm(total, beta_schedule=beta)
    return reference_chunk(network, kind, schedule, prediction, steps, clip, torch.from_numpy(noise), cond)


# --- the ResNet

PLACES = {
    "sequential": ("0", "1", "4", "5", "6", "7"),
    "torchvision": ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"),
}


def resnet_shapes(style: str, batch_norm: bool) -> dict[str, tuple[int, ...]]:
    conv, bn, *stages = PLACES[style]
    shapes: dict[str, tuple[int, ...]] = {f"{conv}.weight": (64, 3, 7, 7)}

    def norm(prefix: str, width: int) -> None:
        for part in ("weight", "bias", *(("running_mean", "running_var") if batch_norm else ())):
            shapes[f"{prefix}.{part}"] = (width,)

    norm(bn, 64)
    c_in = 64
    for stage, width in zip(stages, (64, 128, 256, 512), strict=True):
        for b in range(2):
            p = f"{stage}.{b}"
            shapes[f"{p}.conv1.weight"], shapes[f"{p}.conv2.weight"] = (width, c_in, 3, 3), (width, width, 3, 3)
            norm(f"{p}.bn1", width)
            norm(f"{p}.bn2", width)
            if c_in != width:
                shapes[f"{p}.downsample.0.weight"] = (width, c_in, 1, 1)
                norm(f"{p}.downsample.1", width)
            c_in = width
    return shapes


def resnet(w: dict[str, torch.Tensor], style: str, x):
    conv, bn, *stages = PLACES[style]

    def norm(prefix, x):
        scale, shift = w[f"{prefix}.weight"], w[f"{prefix}.bias"]
        if f"{prefix}.running_mean" in w:
            return F.batch_norm(x, w[f"{prefix}.running_mean"], w[f"{prefix}.running_var"], scale, shift)
        return F.group_norm(x, len(scale) // 16, scale, shift)

    x = F.max_pool2d(norm(bn, F.conv2d(x, w[f"{conv}.weight"], stride=2, padding=3)).relu(), 3, 2, 1)
    for i, stage in enumerate(stages):
        for b in range(2):
            p, stride = f"{stage}.{b}", 2 if i and not b else 1
            h = norm(f"{p}.bn1", F.conv2d(x, w[f"{p}.conv1.weight"], stride=stride, padding=1)).relu()
            h = norm(f"{p}.bn2", F.conv2d(h, w[f"{p}.conv2.weight"], padding=1))
            if f"{p}.downsample.0.weight" in w:
                x = norm(f"{p}.downsample.1", F.conv2d(x, w[f"{p}.downsample.0.weight"], stride=stride))
            x = (h + x).relu()
    return x


def keypoints(features, weight, bias):
    attention = F.conv2d(features, weight, bias).flatten(2).softmax(-1)
    rows, columns = features.shape[2:]
    xs = np.tile(np.linspace(-1, 1, columns), rows)
    ys = np.repeat(np.linspace(-1, 1, rows), columns)
    grid = torch.from_numpy(np.stack([xs, ys], axis=1)).float()
    return (attention @ grid).flatten(1)


def part(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


# --- files

LEROBOT_CONFIG = {
    "type": "diffusion", "n_obs_steps": OBS_STEPS, "horizon": HORIZON, "n_action_steps": 2, "device": "cuda",
    "use_amp": False, "push_to_hub": True, "repo_id": None, "drop_n_last_frames": 7, "vision_backbone": "resnet18",
    "crop_shape": [33, 32], "crop_is_random": True, "pretrained_backbone_weights": None, "use_group_norm": True,
    "spatial_softmax_num_keypoints": 4, "use_separate_rgb_encoder_per_camera": False, "down_dims": list(DIMS),
    "kernel_size": KERNEL, "n_groups": 8, "diffusion_step_embed_dim": EMBED, "use_film_scale_modulation": True,
    "noise_scheduler_type": "DDIM", "num_train_timesteps": 10, "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.0001, "beta_end": 0.02, "prediction_type": "epsilon", "clip_sample": True, "clip_sample_range": 1.0,
    "num_inference_steps": 5, "do_mask_loss_for_padding": False, "optimizer_lr": 1e-4, "optimizer_betas": [0.95, 0.999],
    "optimizer_eps": 1e-8, "optimizer_weight_decay": 1e-6, "scheduler_name": "cosine", "scheduler_warmup_steps": 500,
}  # fmt: skip
LEROBOT_06 = {
    "resize_shape": None,
    "crop_ratio": 1.0,
    "compile_model": False,
    "compile_mode": "reduce-overhead",
    "gradient_checkpointing": False,
    "policy_action_contract": "libero",
}
MODES = {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}


def lerobot_features(**shapes: tuple[int, ...]) -> dict[str, dict]:
    """``state=(3,)``, ``environment_state=(4,)``, ``images__top=(3, 40, 48)`` to LeRobot's entries."""
    kinds = {"state": "STATE", "environment_state": "ENV"}
    return {
        "observation." + name.replace("__", "."): {"type": kinds.get(name, "VISUAL"), "shape": list(shape)}
        for name, shape in shapes.items()
    }


def statistics(names: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    found: dict[str, torch.Tensor] = {}
    for name, shape in names.items():
        centre, width = rng.uniform(-2, 2, shape), rng.uniform(0.5, 3, shape)
        if len(shape) == 3:
            centre, width = rng.uniform(0.3, 0.6, shape), rng.uniform(0.2, 0.3, shape)
        numbers = {"min": centre - width, "max": centre + width, "mean": centre + 0.1, "std": width / 2}
        found |= {
            f"{name}.{key}": torch.from_numpy(np.asarray(value, dtype=np.float32)) for key, value in numbers.items()
        }
    return found


def write_lerobot(
    folder: Path, features, weights, stats, modes=MODES, layout="processors", action_dim=2, **changes
) -> Path:
    """A folder of LeRobot 0.4 or 0.6 (``layout`` processors) or before (``layout`` buffers)."""
    folder.mkdir(parents=True)
    outputs = {"action": {"type": "ACTION", "shape": [action_dim]}}
    config = {**LEROBOT_CONFIG, "normalization_mapping": modes, "input_features": features, "output_features": outputs}
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    weights = {"diffusion." + key: value for key, value in weights.items()}
    if layout == "buffers":
        for key, value in stats.items():
            name, _, stat = key.rpartition(".")
            owner = "unnormalize_outputs" if name == "action" else "normalize_inputs"
            weights[f"{owner}.buffer_{name.replace('.', '_')}.{stat}"] = value
    else:
        first: list[dict] = [
            {"registry_name": name, "config": {}}
            for name in ("rename_observations_processor", "to_batch_processor", "device_processor")
        ]
        for name, step, place, before in (
            ("policy_preprocessor", "normalizer_processor", 3, first),
            ("policy_postprocessor", "unnormalizer_processor", 0, []),
        ):
            file = f"{name}_step_{place}_{step}.safetensors"
            settings = {"eps": 1e-8, "features": {**features, **outputs}, "norm_map": modes}
            steps = [*before, {"registry_name": step, "config": settings, "state_file": file}]
            (folder / f"{name}.json").write_text(json.dumps({"name": name, "steps": steps}))
            save_file(stats, folder / file)
    save_file(weights, folder / "model.safetensors")
    return folder


def _module(name: str, **members) -> types.ModuleType:
    module = types.ModuleType(name)
    for key, value in members.items():
        value.__module__, value.__qualname__, value.__name__ = name, key, key
        setattr(module, key, value)
    return module


class _Type:
    """Pickled as dill pickles a type."""

    def __reduce__(self):
        return sys.modules["dill._dill"]._load_type, ("DictType",)


def write_ckpt(file: Path, monkeypatch, cfg: dict, state_dicts: dict, **more) -> Path:
    """A checkpoint as diffusion_policy's workspace writes it with dill and omegaconf, neither of which is here."""
    classes = {name: type(name, (), {}) for name in ("DictConfig", "ListConfig", "AnyNode", "ContainerMetadata")}

    def load_type(name):
        raise AssertionError("executed")

    fakes = [
        _module("omegaconf.dictconfig", DictConfig=classes["DictConfig"]),
        _module("omegaconf.listconfig", ListConfig=classes["ListConfig"]),
        _module("omegaconf.nodes", AnyNode=classes["AnyNode"]),
        _module("omegaconf.base", ContainerMetadata=classes["ContainerMetadata"]),
        _module("dill._dill", _load_type=load_type),
    ]

    def node(value):
        meta = classes["ContainerMetadata"]()
        meta.__dict__.update(ref_type=typing.Any, object_type=_Type(), resolver_cache=defaultdict(dict))
        kind, content = "AnyNode", {"_val": value}
        if isinstance(value, dict):
            kind, content = "DictConfig", {"_content": {key: node(each) for key, each in value.items()}}
        if isinstance(value, list):
            kind, content = "ListConfig", {"_content": [node(each) for each in value]}
        made = classes[kind]()
        made.__dict__.update(content, _metadata=meta, _parent=None)
        return made

    with monkeypatch.context() as patch:
        for name in ("omegaconf", "dill"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        for fake in fakes:
            patch.setitem(sys.modules, fake.__name__, fake)
        torch.save(
            {"cfg": node(cfg), "state_dicts": state_dicts, "pickles": {"epoch": b"\x80\x04K\x03."}, **more}, file
        )
    return file
