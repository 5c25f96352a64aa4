"""Checkpoints of diffusion_policy: ``.ckpt`` files of its U-Net policies, low-dimensional and with pictures.

Three policies: ``DiffusionUnetLowdimPolicy``, ``DiffusionUnetImagePolicy`` (``MultiImageObsEncoder``) and
``DiffusionUnetHybridImagePolicy`` (robomimic's encoder). The observation must condition the U-Net globally.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from onedp.artifact import file_digest
from onedp.diffusion.schedule import BETA_SCHEDULES, CosineDdpm
from onedp.errors import CheckpointError
from onedp.importers.dp_encoders import Pictures, hybrid_encoder, multi_image_encoder
from onedp.importers.imported import Imported, Scaling, affine, field_stats, make_sampler, wider
from onedp.importers.options import Options
from onedp.nets.config import StateEncoderConfig, UnetConfig
from onedp.types import FieldSpec

LOWDIM, IMAGE, HYBRID = "DiffusionUnetLowdimPolicy", "DiffusionUnetImagePolicy", "DiffusionUnetHybridImagePolicy"
PARAMETERIZATIONS = {"epsilon": "eps", "sample": "x0"}
CLOSE = 1e-3
"""How near the normalised range must be to [-1, 1] to be called min_max."""
PIXELS = 255.0


def read_diffusion_policy(path: Path, data: Mapping[str, Any]) -> Imported:
    """From what ``read_checkpoint`` gave; raises ``CheckpointError`` on anything unknown, missing or not supported."""
    cfg, state_dicts = data["cfg"], data["state_dicts"]
    if not isinstance(cfg, Mapping) or not isinstance(cfg.get("policy"), Mapping):
        raise CheckpointError(f"{path}: the configuration has no 'policy'. Expected a workspace's checkpoint.")
    _require_resolved(cfg["policy"], "policy")
    policy = Options(cfg["policy"], "cfg.policy")
    kind = str(policy.take("_target_", str)).rpartition(".")[2]
    if kind not in (LOWDIM, IMAGE, HYBRID):
        raise CheckpointError(f"{path} holds a {kind}; supported: {LOWDIM}, {IMAGE}, {HYBRID}.")
    raw = _state_dict(path, cfg, state_dicts)
    policy.only("obs_as_global_cond", (True,))
    if kind == LOWDIM:
        unet, observations, action, pictures = _lowdim(policy)
    else:
        unet, observations, action, pictures = _pictures(policy, raw, hybrid=kind == HYBRID)
    scaling = {field.name: _scaling(raw, field, pictures) for field in (*observations, action)}
    low, high = _normalised_range(raw, action.name)
    z_scores = bool(max(abs(low.min()), abs(high.max())) > 1.05)
    steps = policy.take("num_inference_steps", (int, type(None)))
    schedule, sampler, parameterization, notes = _process(policy, steps, z_scores)
    imported = Imported(
        observations=observations,
        action=action,
        horizon=policy.take("horizon", int),
        n_obs_steps=policy.take("n_obs_steps", int),
        n_action_steps=policy.take("n_action_steps", int),
        scaling=scaling,
        network=_unet(unet),
        encoder=pictures.config if pictures else StateEncoderConfig(),
        schedule=schedule,
        parameterization=parameterization,
        sampler=sampler,
        weights=_renamed(raw, pictures),
        provenance={
            "imported_from": "diffusion_policy",
            "source": path.name,
            "source_digest": file_digest(path),
        },
        notes=notes + (pictures.notes if pictures else ()),
    )
    unet.finish()
    policy.finish()
    return imported


def _require_resolved(node: Any, where: str) -> None:
    """Raise ``CheckpointError`` where the configuration refers to other places; workspaces resolve that."""
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        _require_resolved(value, f"{where}.{key}")
    if isinstance(node, str) and "${" in node:
        raise CheckpointError(
            f"cfg.{where} is {node!r}, not resolved. Save the checkpoint after OmegaConf.resolve(cfg)."
        )


def _state_dict(path: Path, cfg: Mapping[str, Any], state_dicts: Any) -> dict[str, Tensor]:
    """Weights of the averaged model where the workspace kept one."""
    averaged = Options(cfg.get("training"), "cfg.training").take("use_ema", bool)
    name = "ema_model" if averaged else "model"
    found = state_dicts.get(name) if isinstance(state_dicts, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{path} has no weights 'state_dicts.{name}' (cfg.training.use_ema is {averaged}).")
    weights = {str(key): value for key, value in found.items() if not str(key).endswith("_dummy_variable")}
    for key, value in weights.items():
        plain = value.layout == torch.strided and not value.is_quantized
        if not plain or not (value.is_floating_point() or key.endswith("num_batches_tracked")):
            raise CheckpointError(f"{path}: '{key}' holds {value.dtype}, {value.layout}; expected plain floats.")
    return {key: value.detach() for key, value in weights.items()}


def _lowdim(policy: Options) -> tuple[Options, tuple[FieldSpec, ...], FieldSpec, None]:
    policy.only("obs_as_local_cond", (False,))
    policy.only("pred_action_steps_only", (False,))
    policy.only("oa_step_convention", (True,))
    unet = Options(policy.take("model", dict), "cfg.policy.model")
    if not str(unet.take("_target_", str)).endswith(".ConditionalUnet1D"):
        raise CheckpointError("cfg.policy.model is no ConditionalUnet1D, the only supported network.")
    unet.only("local_cond_dim", (None,), None)
    unet.ignore(["input_dim", "global_cond_dim"])  # follow from the action and the observation, and shapes are checked
    obs = FieldSpec("obs", (policy.take("obs_dim", int),), "unknown")
    return unet, (obs,), FieldSpec("action", (policy.take("action_dim", int),), "unknown"), None


def _pictures(
    policy: Options, raw: Mapping[str, Tensor], hybrid: bool
) -> tuple[Options, tuple[FieldSpec, ...], FieldSpec, Pictures]:
    meta = Options(policy.take("shape_meta", dict), "cfg.policy.shape_meta")
    observations = [_field(name, entry) for name, entry in meta.take("obs", dict).items()]
    action = _field("action", meta.take("action", dict))
    pictures = hybrid_encoder(policy, observations, raw) if hybrid else multi_image_encoder(policy, observations)
    return policy, pictures.observations, action, pictures


def _field(name: str, entry: Any) -> FieldSpec:
    options = Options(entry, f"cfg.policy.shape_meta, '{name}'")
    shape, kind = options.numbers("shape") or (), options.only("type", ("low_dim", "rgb"), "low_dim")
    options.ignore(["horizon", "latency_steps", "down_sample_steps"])
    options.finish()
    if kind == "rgb":
        if len(shape) != 3 or shape[0] != 3:
            raise CheckpointError(f"cfg.policy.shape_meta: the picture '{name}' has the shape {shape}, not (3, H, W).")
        return FieldSpec(name, (shape[1], shape[2], 3), "1", "uint8")
    return FieldSpec(name, shape, "unknown")


def _unet(options: Options) -> UnetConfig:
    groups, kernel = options.take("n_groups", int, 8), options.take("kernel_size", int)
    if kernel % 2 == 0:
        raise CheckpointError(f"The U-Net's 'kernel_size' is {kernel}; supported: odd ones.")
    return UnetConfig(
        channels=options.numbers("down_dims") or (),
        step_embed_dim=options.take("diffusion_step_embed_dim", int),
        kernel_size=kernel,
        n_groups=groups,
        film_scale=options.take("cond_predict_scale", bool),
        final_groups=None if groups == 8 else 8,
    )


def _process(policy: Options, steps: int | None, z_scores: bool) -> tuple[CosineDdpm, Any, str, tuple[str, ...]]:
    options = Options(policy.take("noise_scheduler", dict), "cfg.policy.noise_scheduler")
    kind = str(options.take("_target_", str)).rpartition(".")[2]
    if kind not in ("DDPMScheduler", "DDIMScheduler"):
        raise CheckpointError(f"The noise scheduler is a {kind}; supported: DDPMScheduler, DDIMScheduler.")
    total = options.take("num_train_timesteps", int)
    schedule = CosineDdpm(
        steps=total,
        beta_schedule=options.only("beta_schedule", BETA_SCHEDULES),
        beta_start=options.take("beta_start", float),
        beta_end=options.take("beta_end", float),
    )
    options.only("variance_type", ("fixed_small",), "fixed_small")
    options.only("set_alpha_to_one", (True,), True)
    options.only("steps_offset", (0,), 0)
    parameterization = PARAMETERIZATIONS[options.only("prediction_type", PARAMETERIZATIONS)]
    clip = options.take("clip_sample_range", float, 1.0) if options.take("clip_sample", bool) else None
    options.finish()
    sampler, notes = make_sampler(kind[:4], steps, total, clip, z_scores)
    return schedule, sampler, parameterization, notes


def _renamed(raw: Mapping[str, Tensor], pictures: Pictures | None) -> dict[str, Tensor]:
    """By our names; what has no place in ours keeps its name and is reported later."""
    weights = {}
    for key, value in raw.items():
        if key.startswith("normalizer.") or key.endswith("num_batches_tracked"):
            continue
        if key.startswith("model."):
            name = re.sub(r"\.blocks\.([01])\.block\.", lambda m: f".conv{int(m[1]) + 1}.block.", key)
            name = re.sub(r"^(model\.(?:down|up)_modules\.\d+\.2)\.conv\.", r"\1.", name)
            weights["backbone." + name.removeprefix("model.")] = value
        elif pictures is not None and key.startswith("obs_encoder."):
            renamed = pictures.rename(key.removeprefix("obs_encoder."))
            if renamed is not None:
                weights[renamed] = value
        else:
            weights[key] = value
    if pictures is not None:
        weights |= pictures.constants
    return weights


def _normaliser(raw: Mapping[str, Tensor], name: str) -> dict[str, ndarray]:
    """Scale, offset and the data's range of one field, float64."""
    prefix, found = f"normalizer.params_dict.{name}.", {}
    for part in ("scale", "offset", "input_stats.min", "input_stats.max", "input_stats.mean", "input_stats.std"):
        if prefix + part in raw:
            found[part] = raw[prefix + part].double().numpy()
    missing = [part for part in ("scale", "offset", "input_stats.min", "input_stats.max") if part not in found]
    if missing:
        raise CheckpointError(
            f"The checkpoint has no normalisation {missing} of '{name}'; without it the policy would see numbers in "
            "the wrong units."
        )
    if not (found["scale"] > 0).all():
        raise CheckpointError(f"The normalisation of '{name}' has a scale that is not above 0.")
    if not (found["input_stats.min"] <= found["input_stats.max"]).all():
        raise CheckpointError(f"The normalisation of '{name}' has a minimum above its maximum.")
    return found


def _normalised_range(raw: Mapping[str, Tensor], name: str) -> tuple[ndarray, ndarray]:
    found = _normaliser(raw, name)
    scale, offset = found["scale"], found["offset"]
    return found["input_stats.min"] * scale + offset, found["input_stats.max"] * scale + offset


def _scaling(raw: Mapping[str, Tensor], field: FieldSpec, pictures: Pictures | None) -> Scaling:
    found = _normaliser(raw, field.name)
    scale, offset = found["scale"], found["offset"]
    if field.is_image:
        assert pictures is not None
        scale, offset = (np.broadcast_to(part.reshape(-1), (3,)) for part in (scale, offset))
        scale, offset = scale / pictures.std, (offset - pictures.mean) / pictures.std
        shape = field.stats_shape
        return affine((scale / PIXELS).reshape(shape), offset.reshape(shape), np.zeros(shape), np.full(shape, PIXELS))
    for part, values in found.items():
        if values.size != field.size:
            raise CheckpointError(
                f"The normalisation '{part}' of '{field.name}' has {values.size} numbers, not {field.size}."
            )
    found = {part: values.reshape(field.shape) for part, values in found.items()}
    scale, offset, low, high = (found[part] for part in ("scale", "offset", "input_stats.min", "input_stats.max"))
    constant = high - low < 1e-4  # they leave the scale of such dimensions at 1
    fills = (abs(low * scale + offset + 1) < CLOSE) & (abs(high * scale + offset - 1) < CLOSE)
    if (fills | (constant & (scale == 1))).all():
        low, high = (-1 - offset) / scale, (1 - offset) / scale
        mean = found.get("input_stats.mean", (low + high) / 2)
        return Scaling("min_max", field_stats(low, high, mean, found.get("input_stats.std", (high - low) / 4)))
    if (scale == 1).all() and (offset == 0).all():
        return Scaling("identity", field_stats(low, wider(low, high), (low + high) / 2, (high - low) / 4))
    return affine(scale, offset, low, high)
