"""A one-step student as a stock ``diffusion`` policy of LeRobot: its own tools run it, with no plugin.

Only entries that LeRobot 0.4 and 0.6 both know are written, and all that matter: their defaults differ. The folder is
read back with our own importer and must answer as the policy, or it does not appear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from safetensors.torch import save_file
from torch import Tensor

from onedp.backends.manifest import MANIFEST_FILE, ExportManifest
from onedp.errors import OneDPError
from onedp.evaluate.scores import Scores
from onedp.export.fold import folded_unet, one_step_form, scheduler_for
from onedp.export.lerobot_card import lerobot_card
from onedp.export.lerobot_features import Feature, feature_statistics, lerobot_features, normalization_mode
from onedp.export.parity import check_parity, parity_report, require_parity
from onedp.export.reference import Recorded, checked_scores, make_manifest, require_free
from onedp.files import replaced_folder, write_json, write_text
from onedp.importers.imported import to_policy
from onedp.importers.lerobot import read_lerobot
from onedp.nets.config import ImageEncoderConfig, StateEncoderConfig, UnetConfig
from onedp.nets.fields_encoder import FieldsEncoder
from onedp.policy import TorchPolicy, load_policy
from onedp.tasks.task import Environment, Task
from onedp.threads import one_thread
from onedp.types import PolicySpec, episode_noise

LAST_GROUPS = 8
"""Groups of the last block's normalisation in LeRobot's U-Net, whatever ``n_groups`` says."""
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor", "policy_postprocessor"
RUNTIME = "lerobot layout, read back by onedp import"


def export_lerobot(
    policy: str | Path,
    out: Path,
    sampler: str | None = None,
    renames: Sequence[str] = (),
    recorded: Recorded | None = None,
    results: Scores | None = None,
) -> ExportManifest:
    """Write the folder ``out``; an earlier export there is replaced.

    ``renames``: see ``lerobot_features``. ``results``: an evaluation of this policy, for the model card. Raises
    ``OneDPError`` when LeRobot's policy cannot be exactly this one, saying why and what to do; ``out`` is then left as
    it was.
    """
    require_free(out)
    reference = load_policy(policy, sampler).plain()
    results = checked_scores(results, reference)
    features = lerobot_features(reference.spec, reference.task, renames)
    form = one_step_form(reference)
    scheduler = scheduler_for(form, reference.name)
    weights = _encoder(reference)
    weights |= _backbone(reference, features, folded_unet(reference, form, scheduler.out))
    everything = (*features, Feature("action", "ACTION", (reference.spec.action,)))
    modes = {kind: _mode(kind, everything, reference) for kind in dict.fromkeys(each.kind for each in everything)}
    config = _config(reference, everything, modes, scheduler.options)
    with replaced_folder(out) as folder, one_thread():
        write_json(folder / "config.json", config)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        files = ["model.safetensors", "config.json", *_write_processors(folder, everything, modes, reference)]
        manifest = make_manifest(reference, folder, files, target="lerobot")
        twin = _ReadBack(_read_back(folder, reference, features), reference.sampler.draws)
        rows = check_parity({RUNTIME: twin}, manifest, reference, recorded.windows if recorded else None)
        require_parity(rows, manifest.tolerance)
        report = parity_report(rows, manifest, recorded.source if recorded else None)
        write_json(folder / MANIFEST_FILE, manifest.to_json())
        write_json(folder / "parity.json", report)
        write_text(folder / "README.md", lerobot_card(manifest, report, results, features, _limit_note(reference)))
    return manifest


def _mode(kind: str, features: Sequence[Feature], policy: TorchPolicy) -> str:
    return normalization_mode([each for each in features if each.kind == kind], policy.normalizer)


# --- weights


def _backbone(policy: TorchPolicy, features: Sequence[Feature], unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net under LeRobot's names, the condition's columns in the order of ``features``."""
    network, encoder, spec = policy.network, policy.denoiser.encoder, policy.spec
    assert isinstance(network, UnetConfig)  # folded_unet
    if (network.final_groups or network.n_groups) != LAST_GROUPS:
        raise OneDPError(
            f"The last block of {policy.name} normalises in {network.final_groups or network.n_groups} groups; "
            f"LeRobot's always has {LAST_GROUPS}."
        )
    assert isinstance(encoder, FieldsEncoder)  # _encoder
    sizes = {field.name: encoder.encoded_size(field) for field in spec.observations}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    one_step = np.concatenate(
        [starts[field.name] + np.arange(sizes[field.name]) for feature in features for field in feature.fields]
    )
    embedding, width = network.step_embed_dim, sum(sizes.values())
    steps = [embedding + step * width + one_step for step in range(spec.n_obs_steps)]
    columns = torch.from_numpy(np.concatenate([np.arange(embedding), *steps]))
    return {
        f"diffusion.unet.{key}": (value[:, columns] if key.endswith(".cond_encoder.1.weight") else value).contiguous()
        for key, value in unet.items()
    }


def _encoder(policy: TorchPolicy) -> dict[str, Tensor]:
    """The cameras' networks under LeRobot's names; batch normalisation gets the counter that it has there."""
    encoder, config = policy.denoiser.encoder, policy.encoder
    if isinstance(config, StateEncoderConfig):
        return {}
    if (
        not isinstance(config, ImageEncoderConfig)
        or not config.backbone.startswith("resnet")
        or config.pool != "spatial_softmax"
        or config.resize is not None
        or config.features not in (None, 2 * config.keypoints)
    ):
        raise OneDPError(
            f"{policy.name} has the encoder {config}. LeRobot's, as it is written, is a ResNet that does not resize "
            "pictures, with a spatial softmax and two features for each of its keypoints."
        )
    weights = {}
    for key, value in encoder.state_dict().items():
        name = key.replace("rgb_encoder.0.", "rgb_encoder.") if config.shared else key
        weights[f"diffusion.{name}"] = value.detach().float().contiguous()
        if key.endswith(".running_mean"):
            weights[f"diffusion.{name.removesuffix('running_mean')}num_batches_tracked"] = torch.tensor(0)
    return weights


# --- files


def _config(
    policy: TorchPolicy, features: Sequence[Feature], modes: Mapping[str, str], scheduler: Mapping[str, Any]
) -> dict[str, Any]:
    spec, network, encoder = policy.spec, policy.network, policy.encoder
    assert isinstance(network, UnetConfig)  # folded_unet
    halvings = 2 ** len(network.channels)
    if spec.horizon % halvings:
        raise OneDPError(
            f"LeRobot demands a horizon that is a multiple of 2 to the number of levels ({halvings}); that of "
            f"{policy.name} is {spec.horizon}."
        )
    pictures = encoder if isinstance(encoder, ImageEncoderConfig) else ImageEncoderConfig(shared=True)
    clip = policy.sampler.clip
    observed = [each for each in features if each.kind != "ACTION"]
    return {
        "type": "diffusion",
        "n_obs_steps": spec.n_obs_steps,
        "input_features": _feature_table(observed),
        "output_features": _feature_table([each for each in features if each.kind == "ACTION"]),
        "device": "cpu",
        "use_amp": False,
        "push_to_hub": False,
        "horizon": spec.horizon,
        "n_action_steps": spec.n_action_steps,
        "normalization_mapping": dict(modes),
        "drop_n_last_frames": spec.chunk_length - spec.n_action_steps,
        "vision_backbone": pictures.backbone,
        "crop_shape": None if pictures.crop is None else list(pictures.crop),
        "crop_is_random": False,
        "pretrained_backbone_weights": None,
        "use_group_norm": pictures.norm == "group",
        "spatial_softmax_num_keypoints": pictures.keypoints,
        "use_separate_rgb_encoder_per_camera": not pictures.shared,
        "down_dims": list(network.channels),
        "kernel_size": network.kernel_size,
        "n_groups": network.n_groups,
        "diffusion_step_embed_dim": network.step_embed_dim,
        "use_film_scale_modulation": network.film_scale,
        **scheduler,
        "clip_sample": clip is not None,
        "clip_sample_range": 1.0 if clip is None else float(clip),
        "do_mask_loss_for_padding": False,
        "optimizer_lr": 1e-4,
        "optimizer_betas": [0.95, 0.999],
        "optimizer_eps": 1e-8,
        "optimizer_weight_decay": 1e-6,
        "scheduler_name": "cosine",
        "scheduler_warmup_steps": 500,
    }


def _feature_table(features: Sequence[Feature]) -> dict[str, Any]:
    return {each.name: {"type": each.kind, "shape": list(each.shape)} for each in features}


def _write_processors(
    folder: Path, features: Sequence[Feature], modes: Mapping[str, str], policy: TorchPolicy
) -> list[str]:
    """Both processors and their statistics; returns the names of the files."""
    statistics = {
        f"{each.name}.{part}": torch.from_numpy(np.ascontiguousarray(values))
        for each in features
        for part, values in feature_statistics(each, modes[each.kind], policy.normalizer).items()
    }
    device = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
    before = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        device,
    ]
    outputs = [each for each in features if each.kind == "ACTION"]
    files = []
    for name, kind, first, last, seen in (
        (PREPROCESSOR, "normalizer_processor", before, [], features),
        (POSTPROCESSOR, "unnormalizer_processor", [], [device], outputs),
    ):
        state = f"{name}_step_{len(first)}_{kind}.safetensors"
        settings = {"eps": 1e-8, "features": _feature_table(seen), "norm_map": dict(modes)}
        step = {"registry_name": kind, "config": settings, "state_file": state}
        write_json(folder / f"{name}.json", {"name": name, "steps": [*first, step, *last]})
        save_file(statistics, folder / state)
        files += [f"{name}.json", state]
    return files


def _limit_note(policy: TorchPolicy) -> str:
    """What to say where LeRobot, which knows no action limits, may act outside of ours; empty where it cannot."""
    spec, clip = policy.spec, policy.sampler.clip
    centre, width = policy.normalizer.centre_width(spec.action.name)
    reach = np.inf if clip is None else clip
    low, high = centre - reach * width, centre + reach * width
    if (low >= np.asarray(spec.action_low)).all() and (high <= np.asarray(spec.action_high)).all():
        return ""
    return (
        "LeRobot applies no action limits: its actions may leave those above, where this package would have cut them. "
        "Limit them on the robot's side."
    )


# --- the check


@dataclass(frozen=True)
class _ReadBack:
    """The folder as a policy that takes the reference's noise; a student without noise gets some, and ignores it."""

    policy: TorchPolicy
    draws: int

    @property
    def spec(self) -> PolicySpec:
        return self.policy.spec

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.draws, *self.policy.noise_shape[1:])

    @property
    def nfe(self) -> int:
        return self.policy.nfe

    def infer(self, obs: Mapping[str, Any], noise: Any) -> Float32[ndarray, "b tc da"]:
        if not self.draws:
            noise = np.stack([episode_noise(0, row, self.policy.noise_shape) for row in range(len(noise))])
        return self.policy.infer(obs, noise)


def _read_back(folder: Path, reference: TorchPolicy, features: Sequence[Feature]) -> TorchPolicy:
    """The written folder, imported under our names and limits."""
    task = Task(
        name=reference.name,
        spec=reference.spec,
        make_env=_no_environment,
        features=dict,
        raw_arrays=(),
        max_steps=1,
        demonstrations="",
    )
    renames = [f"{each.name}={','.join(field.name for field in each.fields)}" for each in features]
    return to_policy(read_lerobot(folder), reference.name, task, reference.task, renames)


def _no_environment() -> Environment:
    raise OneDPError("This task only holds the names of an export's observations.")
