"""LeRobot's ``diffusion`` policies: folders of versions 0.1 to 0.6 with ``config.json`` and ``model.safetensors``.

Statistics are in the processors' files (since 0.4) or, before, in the model file as ``normalize_inputs.buffer_*``.
Pictures are (C, H, W) in [0, 1] there and (H, W, C) of 0 to 255 here; the normalisation holds the difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from onedp.artifact import file_digest
from onedp.diffusion.samplers import Ddim
from onedp.diffusion.schedule import BETA_SCHEDULES, CosineDdpm
from onedp.errors import CheckpointError
from onedp.importers.imported import Imported, make_sampler
from onedp.importers.lerobot_statistics import feature_scaling, mode_of, read_json, read_statistics, read_weights
from onedp.importers.options import Options
from onedp.nets.config import EncoderConfig, ImageEncoderConfig, StateEncoderConfig, UnetConfig
from onedp.types import FieldSpec

NO_ACCOUNT = (
    "type", "device", "use_amp", "use_peft", "push_to_hub", "repo_id", "private", "tags", "license",
    "pretrained_path", "drop_n_last_frames", "do_mask_loss_for_padding", "pretrained_backbone_weights",
    "crop_is_random", "gradient_checkpointing", "compile_model", "compile_mode", "policy_action_contract",
    "optimizer_lr", "optimizer_betas", "optimizer_eps", "optimizer_weight_decay", "scheduler_name",
    "scheduler_warmup_steps",
)  # fmt: skip
"""Entries of config.json about training, hardware and publishing."""
PARAMETERIZATIONS = {"epsilon": "eps", "sample": "x0"}


def is_lerobot(path: Path) -> bool:
    """Whether ``path`` is such a folder, or a training checkpoint that has one."""
    return _folder(path) is not None


def _folder(path: Path) -> Path | None:
    return next((each for each in (path, path / "pretrained_model") if (each / "config.json").is_file()), None)


def read_lerobot(path: Path) -> Imported:
    """Read the folder; raises ``CheckpointError`` on anything unknown, missing or not supported."""
    folder = _folder(path)
    assert folder is not None  # is_lerobot
    config = read_json(folder / "config.json")
    if config.get("type") != "diffusion":
        raise CheckpointError(
            f"{folder} is a policy of the type {config.get('type')!r}; only 'diffusion' is supported."
        )
    options = Options(config, str(folder / "config.json"))
    raw = read_weights(folder / "model.safetensors")
    features = _features(options)
    modes = {kind: str(mode) for kind, mode in options.take("normalization_mapping", dict).items()}
    statistics, modes = read_statistics(folder, raw, list(features), modes)
    cameras = [name for name, (kind, _) in features.items() if kind == "VISUAL"]
    fields = [_field(name, *features[name]) for name in _condition_order(features)]
    scaling = {name: feature_scaling(name, *features[name], modes, statistics) for name in features}
    z_scores = mode_of("ACTION", modes) == "MEAN_STD"
    sampler, notes = _sampler(options, z_scores)
    imported = Imported(
        observations=tuple(fields),
        action=_field("action", *features["action"]),
        horizon=options.take("horizon", int),
        n_obs_steps=options.take("n_obs_steps", int),
        n_action_steps=options.take("n_action_steps", int),
        scaling=scaling,
        network=_unet(options),
        encoder=_encoder(options, bool(cameras)),
        schedule=_schedule(options),
        parameterization=PARAMETERIZATIONS[options.only("prediction_type", PARAMETERIZATIONS)],
        sampler=sampler,
        weights=_renamed(raw),
        provenance={
            "imported_from": "LeRobot",
            "source": path.name,
            "source_digest": file_digest(folder / "model.safetensors"),
        },
        notes=notes,
        has_action_range={"min", "max"} <= set(statistics.get("action", {})),
    )
    options.ignore(NO_ACCOUNT)
    options.finish()
    return imported


def _features(options: Options) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name to kind (STATE, ENV, VISUAL, ACTION) and shape."""
    found = {}
    for entry in ("input_features", "output_features"):
        for name, feature in options.take(entry, dict).items():
            each = Options(feature, f"{entry} of config.json, '{name}'")
            kind = each.only("type", ("ACTION",) if entry == "output_features" else ("STATE", "ENV", "VISUAL"))
            shape = each.numbers("shape")
            if shape is None or len(shape) != (3 if kind == "VISUAL" else 1) or (kind == "VISUAL" and shape[0] != 3):
                raise CheckpointError(f"config.json: '{name}' ({kind}) has the shape {shape}; pictures are (3, H, W).")
            each.finish()
            found[name] = (kind, shape)
    allowed = {"STATE": "observation.state", "ENV": "observation.environment_state", "ACTION": "action"}
    wrong = [name for name, (kind, _) in found.items() if name != allowed.get(kind, name)]
    if wrong or not {"observation.state", "action"} <= set(found):
        raise CheckpointError(
            f"config.json has the features {sorted(found)}; LeRobot's diffusion policy uses observation.state, "
            "pictures, observation.environment_state and action."
        )
    return found


def _condition_order(features: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    """State, pictures, environment state: as their model concatenates them."""
    order = ("STATE", "VISUAL", "ENV")
    return [name for kind in order for name, (own, _) in features.items() if own == kind]


def _field(name: str, kind: str, shape: tuple[int, ...]) -> FieldSpec:
    if kind == "VISUAL":
        return FieldSpec(name, (shape[1], shape[2], shape[0]), "1", "uint8")
    return FieldSpec(name, shape, "unknown")


def _unet(options: Options) -> UnetConfig:
    groups = options.take("n_groups", int)
    kernel = options.take("kernel_size", int)
    if kernel % 2 == 0:
        raise CheckpointError(f"config.json: 'kernel_size' is {kernel}; supported: odd ones.")
    return UnetConfig(
        channels=options.numbers("down_dims") or (),
        step_embed_dim=options.take("diffusion_step_embed_dim", int),
        kernel_size=kernel,
        n_groups=groups,
        film_scale=options.take("use_film_scale_modulation", bool),
        final_groups=None if groups == 8 else 8,
    )


def _encoder(options: Options, pictures: bool) -> EncoderConfig:
    resize, ratio = options.numbers("resize_shape", None), options.take("crop_ratio", float, 1.0)
    crop = options.numbers("crop_shape")
    if resize is not None:
        crop = None if ratio >= 1 else (int(resize[0] * ratio), int(resize[1] * ratio))
    options.ignore(["vision_backbone"])
    group_norm = options.take("use_group_norm", bool)
    keypoints = options.take("spatial_softmax_num_keypoints", int)
    separate = options.take("use_separate_rgb_encoder_per_camera", bool)
    if not pictures:
        return StateEncoderConfig()
    return ImageEncoderConfig(
        backbone=options.only("vision_backbone", ("resnet18", "resnet34")),
        norm="group" if group_norm else "batch",
        keypoints=keypoints,
        crop=_pair("crop_shape", crop),
        resize=_pair("resize_shape", resize),
        shared=not separate,
    )


def _pair(name: str, values: tuple[int, ...] | None) -> tuple[int, int] | None:
    if values is None:
        return None
    if len(values) != 2:
        raise CheckpointError(f"config.json: '{name}' is {list(values)}, expected a height and a width.")
    return values[0], values[1]


def _schedule(options: Options) -> CosineDdpm:
    return CosineDdpm(
        steps=options.take("num_train_timesteps", int),
        beta_schedule=options.only("beta_schedule", BETA_SCHEDULES),
        beta_start=options.take("beta_start", float),
        beta_end=options.take("beta_end", float),
    )


def _sampler(options: Options, z_scores: bool) -> tuple[Ddim, tuple[str, ...]]:
    kind = options.only("noise_scheduler_type", ("DDPM", "DDIM"))
    clips, limit = options.take("clip_sample", bool), options.take("clip_sample_range", float)
    steps, total = options.take("num_inference_steps", (int, type(None))), options.take("num_train_timesteps", int)
    return make_sampler(kind, steps, total, limit if clips else None, z_scores)


def _renamed(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By our names; what has no place in ours keeps its name and is reported later."""
    weights = {}
    for key, value in raw.items():
        if key.endswith("num_batches_tracked") or re.match(r"(un)?normalize_(inputs|targets|outputs)\.", key):
            continue
        name = key.removeprefix("diffusion.").replace("unet._orig_mod.", "unet.")
        name = re.sub(r"^unet\.", "backbone.", name)
        name = re.sub(r"^rgb_encoder\.(?=\d)", "encoder.rgb_encoder.", name)
        weights[re.sub(r"^rgb_encoder\.", "encoder.rgb_encoder.0.", name)] = value
    return weights
