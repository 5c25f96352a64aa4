"""Checkpoints of diffusion_policy, made by hand: equal actions, nothing executed, everything odd refused by name."""

from __future__ import annotations

import copy
import os
import re
import sys

import numpy as np
import pytest
import torch

from onedp.diffusion.samplers import Ddim, Ddpm
from onedp.errors import CheckpointError, OneDPError
from onedp.importers.fake_checkpoints_test import (
    DIMS,
    EMBED,
    HORIZON,
    KERNEL,
    keypoints,
    part,
    random_weights,
    reference_actions,
    resnet,
    resnet_shapes,
    unet_shapes,
    write_ckpt,
)
from onedp.importers.formats import read_foreign_policy
from onedp.importers.imported import to_policy
from onedp.importers.lerobot_test import inputs
from onedp.policy import load_policy, save_policy
from onedp.tasks import PUSHT_KEYPOINTS

SCHEDULER = {
    "_target_": "diffusers.schedulers.scheduling_ddpm.DDPMScheduler", "num_train_timesteps": 10, "beta_start": 0.0001,
    "beta_end": 0.02, "beta_schedule": "squaredcos_cap_v2", "variance_type": "fixed_small", "clip_sample": True,
    "prediction_type": "epsilon",
}  # fmt: skip
UNET = {
    "diffusion_step_embed_dim": EMBED,
    "down_dims": list(DIMS),
    "kernel_size": KERNEL,
    "n_groups": 8,
    "cond_predict_scale": True,
}
TIMING = {"horizon": HORIZON, "n_action_steps": 2, "n_obs_steps": 2, "num_inference_steps": 10}
LOWDIM = {
    "policy": {
        "_target_": "diffusion_policy.policy.diffusion_unet_lowdim_policy.DiffusionUnetLowdimPolicy",
        "model": {
            "_target_": "diffusion_policy.model.diffusion.conditional_unet1d.ConditionalUnet1D",
            "input_dim": 2, "local_cond_dim": None, "global_cond_dim": 10, **UNET,
        },
        "noise_scheduler": SCHEDULER, **TIMING, "obs_dim": 5, "action_dim": 2, "obs_as_local_cond": False,
        "obs_as_global_cond": True, "pred_action_steps_only": False, "oa_step_convention": True,
    },
    "training": {"use_ema": True, "seed": 42},
    "task": {"name": "anything", "values": [1, 2.5, None]},
}  # fmt: skip
SHAPE_META = {
    "action": {"shape": [2]},
    "obs": {"side": {"shape": [3, 40, 48], "type": "rgb"}, "agent": {"shape": [3], "type": "low_dim"}},
}


def normaliser(name: str, size: int, seed: int, kind: str = "limits") -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-3, -1, size)
    high = low + rng.uniform(1, 4, size)
    scale = 2 / (high - low) if kind == "limits" else 4 / (high - low)
    offset = -1 - scale * low if kind == "limits" else -scale * (low + high) / 2
    numbers = {"scale": scale, "offset": offset, "input_stats.min": low, "input_stats.max": high}
    numbers |= {"input_stats.mean": (low + high) / 2, "input_stats.std": (high - low) / 4}
    return {f"normalizer.params_dict.{name}.{k}": torch.from_numpy(np.float32(v)) for k, v in numbers.items()}


def picture_normaliser(name: str) -> dict[str, torch.Tensor]:
    numbers = {"scale": 2.0, "offset": -1.0, "input_stats.min": 0.0, "input_stats.max": 1.0}
    return {f"normalizer.params_dict.{name}.{k}": torch.tensor([v]) for k, v in numbers.items()}


def lowdim_weights(obs_dim: int = 5, seed: int = 1, kind: str = "limits") -> dict[str, torch.Tensor]:
    unet = random_weights(unet_shapes(2, 2 * obs_dim, "dp"), seed)
    weights = {"model." + key: value for key, value in unet.items()}
    weights |= normaliser("obs", obs_dim, 5) | normaliser("action", 2, 6, kind)
    return weights | {"mask_generator._dummy_variable": torch.zeros(0), "_dummy_variable": torch.zeros(0)}


def changed(cfg: dict, **entries) -> dict:
    """A copy of ``cfg`` with ``policy__model__n_groups=4`` set (``...`` removes)."""
    cfg = copy.deepcopy(cfg)
    for path, value in entries.items():
        *folders, name = path.split("__")
        place = cfg
        for folder in folders:
            place = place[folder]
        place.pop(name) if value is ... else place.update({name: value})
    return cfg


def imported(file, **options):
    options.setdefault("rate_hz", 10.0)
    return to_policy(read_foreign_policy(file), "p", options.pop("task", None), **options)


def normalised(weights, name, values):
    scale, offset = (weights[f"normalizer.params_dict.{name}.{key}"].double().numpy() for key in ("scale", "offset"))
    return values * scale + offset


def unnormalised(weights, values):
    scale, offset = (weights[f"normalizer.params_dict.action.{key}"].double().numpy() for key in ("scale", "offset"))
    return (values - offset) / scale


@pytest.mark.parametrize(("averaged", "kind"), [(True, "ddpm"), (False, "ddim")])
@pytest.mark.parametrize("scaling", ["limits", "gaussian"])
def test_low_dimensional_policy_acts_as_theirs(tmp_path, monkeypatch, averaged, kind, scaling):
    own, other = lowdim_weights(kind=scaling), lowdim_weights(seed=9, kind=scaling)
    states = {"ema_model": own, "model": other} if averaged else {"model": own}
    cfg = changed(LOWDIM, training__use_ema=averaged)
    if kind == "ddim":
        scheduler = {**SCHEDULER, "_target_": "diffusers.DDIMScheduler", "set_alpha_to_one": True, "steps_offset": 0}
        scheduler.pop("variance_type")
        cfg = changed(cfg, policy__noise_scheduler=scheduler, policy__num_inference_steps=5)
    file = write_ckpt(tmp_path / "theirs.ckpt", monkeypatch, cfg, {**states, "optimizer": {"state": {}}})
    save_policy(tmp_path / "ours", imported(file))
    policy = load_policy(tmp_path / "ours")
    clip = 1.0 if scaling == "limits" else None
    assert policy.sampler == (Ddpm(10, clip) if kind == "ddpm" else Ddim(5, clip, "leading", False))
    assert policy.normalizer.modes["action"] == ("min_max" if scaling == "limits" else "mean_std")
    obs, noise = inputs(policy)
    cond = torch.from_numpy(normalised(own, "obs", obs["obs"]).reshape(3, -1)).float()
    chunk = reference_actions(part(own, "model."), "dp", cond, noise, kind, policy.sampler.steps, 10, clip)
    expected = unnormalised(own, chunk)[:, 1:].clip(policy.spec.action_low, policy.spec.action_high)
    np.testing.assert_allclose(policy.infer(obs, noise), expected, atol=2e-4)
    assert np.ptp(expected) > 0.1


def test_one_vector_becomes_the_observations_of_a_task(tmp_path, monkeypatch):
    cfg = changed(LOWDIM, policy__obs_dim=18)
    file = write_ckpt(tmp_path / "theirs.ckpt", monkeypatch, cfg, {"ema_model": lowdim_weights(18)})
    plain = imported(file)
    cut = imported(file, task=PUSHT_KEYPOINTS, task_name="pusht-keypoints", renames=["obs=agent_pos,keypoints"])
    obs, noise = inputs(plain)
    ours = {"agent_pos": obs["obs"][..., :2], "keypoints": obs["obs"][..., 2:]}
    expected = plain.infer(obs, noise).clip(0, 512)
    np.testing.assert_allclose(cut.infer(ours, noise), expected, atol=1e-5)
    assert [field.name for field in cut.spec.observations] == ["keypoints", "agent_pos"]
    with pytest.raises(CheckpointError, match=r"observes obs \(18,\); the task 'pusht-keypoints' has keypoints"):
        imported(file, task=PUSHT_KEYPOINTS)


def test_image_policy_acts_as_theirs(tmp_path, monkeypatch):
    """MultiImageObsEncoder: ImageNet's constants, average pooling, pictures first, then the rest."""
    encoder = {
        "_target_": "diffusion_policy.model.vision.multi_image_obs_encoder.MultiImageObsEncoder",
        "shape_meta": SHAPE_META, "resize_shape": None, "crop_shape": [33, 32], "random_crop": True,
        "use_group_norm": True, "share_rgb_model": False, "imagenet_norm": True,
        "rgb_model": {"_target_": "x.model_getter.get_resnet", "name": "resnet18", "weights": None},
    }  # fmt: skip
    policy_cfg = {
        "_target_": "diffusion_policy.policy.diffusion_unet_image_policy.DiffusionUnetImagePolicy",
        "shape_meta": SHAPE_META, "noise_scheduler": SCHEDULER, "obs_encoder": encoder, "obs_as_global_cond": True,
        **TIMING, **UNET,
    }  # fmt: skip
    cnn = random_weights(resnet_shapes("torchvision", batch_norm=False), 3)
    unet = random_weights(unet_shapes(2, 2 * (512 + 3), "dp"), 1)
    own = {"model." + key: value for key, value in unet.items()}
    own |= {"obs_encoder.key_model_map.side." + key: value for key, value in cnn.items()}
    own |= normaliser("agent", 3, 5) | normaliser("action", 2, 6) | picture_normaliser("side")
    cfg = {**LOWDIM, "policy": policy_cfg}
    policy = imported(write_ckpt(tmp_path / "theirs.ckpt", monkeypatch, cfg, {"ema_model": own}))
    assert [field.name for field in policy.spec.observations] == ["side", "agent"]
    obs, noise = inputs(policy)
    pictures = np.moveaxis(obs["side"] / 255, -1, -3).reshape(6, 3, 40, 48)[:, :, 4:37, 8:40] * 2 - 1
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pictures = (pictures - mean[:, None, None]) / std[:, None, None]
    features = resnet(cnn, "torchvision", torch.from_numpy(pictures).float()).mean(dim=(2, 3)).view(3, 2, 512)
    agent = torch.from_numpy(normalised(own, "agent", obs["agent"])).float()
    cond = torch.cat([features, agent], dim=-1).flatten(1)
    chunk = reference_actions(unet, "dp", cond, noise, "ddpm", 10, 10, 1.0)
    np.testing.assert_allclose(policy.infer(obs, noise), unnormalised(own, chunk)[:, 1:], atol=5e-4)


@pytest.mark.parametrize("fixed_crop", [True, False])
def test_hybrid_policy_acts_as_theirs(tmp_path, monkeypatch, fixed_crop):
    """robomimic's encoder: spatial softmax, a linear layer, ReLU; fields in the order of shape_meta."""
    policy_cfg = {
        "_target_": "diffusion_policy.policy.diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy",
        "shape_meta": SHAPE_META, "noise_scheduler": SCHEDULER, "obs_as_global_cond": True, "crop_shape": [33, 32],
        "obs_encoder_group_norm": True, "eval_fixed_crop": fixed_crop, **TIMING, **UNET,
    }  # fmt: skip
    prefix = "obs_encoder.obs_nets.side.nets."
    shapes = {f"0.nets.{key}": shape for key, shape in resnet_shapes("sequential", batch_norm=False).items()}
    shapes |= {"1.nets.weight": (4, 512, 1, 1), "1.nets.bias": (4,), "3.weight": (6, 8), "3.bias": (6,)}
    cnn, unet = random_weights(shapes, 3), random_weights(unet_shapes(2, 2 * (6 + 3), "dp"), 1)
    own = {"model." + key: value for key, value in unet.items()} | {prefix + key: value for key, value in cnn.items()}
    own |= {prefix + "1.pos_x": torch.zeros(1, 2), prefix + "1.temperature": torch.ones(1)}
    own |= normaliser("agent", 3, 5) | normaliser("action", 2, 6) | picture_normaliser("side")
    file = write_ckpt(tmp_path / "t.ckpt", monkeypatch, {**LOWDIM, "policy": policy_cfg}, {"ema_model": own})
    policy = imported(file)
    assert bool(policy.provenance["notes"]) != fixed_crop  # a random crop when acting cannot be reproduced
    obs, noise = inputs(policy)
    pictures = np.moveaxis(obs["side"] / 255, -1, -3).reshape(6, 3, 40, 48)[:, :, 4:37, 8:40] * 2 - 1
    features = resnet(part(cnn, "0.nets."), "sequential", torch.from_numpy(pictures).float())
    points = keypoints(features, cnn["1.nets.weight"], cnn["1.nets.bias"])
    seen = (points @ cnn["3.weight"].T + cnn["3.bias"]).relu().view(3, 2, 6)
    agent = torch.from_numpy(normalised(own, "agent", obs["agent"])).float()
    cond = torch.cat([seen, agent], dim=-1).flatten(1)
    chunk = reference_actions(unet, "dp", cond, noise, "ddpm", 10, 10, 1.0)
    np.testing.assert_allclose(policy.infer(obs, noise), unnormalised(own, chunk)[:, 1:], atol=5e-4)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)


class HostileEval:
    def __reduce__(self):
        return eval, ("open('executed', 'w')",)


@pytest.mark.parametrize(
    ("payload", "name"), [(Hostile(), r"(posix|nt)\.system"), (HostileEval(), r"(__builtin__|builtins)\.eval")]
)
@pytest.mark.parametrize("place", ["state_dicts", "extra"])
def test_a_hostile_checkpoint_is_refused_by_name(tmp_path, monkeypatch, payload, name, place):
    monkeypatch.chdir(tmp_path)
    states = {"ema_model": lowdim_weights()}
    if place == "state_dicts":
        states["optimizer"] = payload
    file = write_ckpt(
        tmp_path / "t.ckpt", monkeypatch, LOWDIM, states, **({"extra": payload} if place == "extra" else {})
    )
    before = set(sys.modules)
    with pytest.raises(CheckpointError, match=rf"is refused: .* refers to {name}, and .*Nothing was executed"):
        read_foreign_policy(file)
    assert not (tmp_path / "executed").exists()
    assert not {"dill", "omegaconf"} & (set(sys.modules) - before)


def test_pickles_inside_are_never_opened(tmp_path, monkeypatch):
    """The entry ``pickles`` holds bytes that the workspace would unpickle; here they are only bytes."""
    import pickle

    monkeypatch.chdir(tmp_path)
    bomb = {"pickles": {"epoch": pickle.dumps(Hostile())}}
    file = write_ckpt(tmp_path / "t.ckpt", monkeypatch, LOWDIM, {"ema_model": lowdim_weights()}, **bomb)
    assert imported(file).spec.horizon == HORIZON
    assert not (tmp_path / "executed").exists()


def without(*names):
    return {key: value for key, value in lowdim_weights().items() if key not in names}


def with_bias(value):
    return {**lowdim_weights(), "model.final_conv.1.bias": value}


@pytest.mark.parametrize(
    ("cfg", "states", "message"),
    [
        (changed(LOWDIM, policy__oa_step_convention=False), None, "'oa_step_convention' is False; supported: True"),
        (changed(LOWDIM, policy__obs_as_global_cond=False), None, "'obs_as_global_cond' is False; supported: True"),
        (changed(LOWDIM, policy__eta=0.5), None, "cfg.policy has the unknown entries ['eta']"),
        (changed(LOWDIM, policy__model__attention=1), None, "cfg.policy.model has the unknown entries ['attention']"),
        (changed(LOWDIM, policy__horizon="${horizon}"), None, "cfg.policy.horizon is '${horizon}', not resolved"),
        (changed(LOWDIM, policy__horizon=...), None, "cfg.policy has no 'horizon'"),
        (changed(LOWDIM, policy___target_="a.BETLowdimPolicy"), None, "holds a BETLowdimPolicy; supported"),
        (
            changed(LOWDIM, policy__noise_scheduler__variance_type="learned"),
            None,
            "'variance_type' is 'learned'; supported: 'fixed_small'",
        ),
        (LOWDIM, {"model": lowdim_weights()}, "no weights 'state_dicts.ema_model' (cfg.training.use_ema is True)"),
        (LOWDIM, {"ema_model": without("model.final_conv.1.bias")}, "missing backbone.final_conv.1.bias;"),
        (
            LOWDIM,
            {"ema_model": {**lowdim_weights(), "model.extra": torch.zeros(1)}},
            "not expected backbone.extra;",
        ),
        (
            LOWDIM,
            {"ema_model": {**lowdim_weights(), "model.final_conv.1.bias": torch.zeros(3)}},
            "wrong shape backbone.final_conv.1.bias (3,) instead of (2,)",
        ),
        (
            LOWDIM,
            {"ema_model": without("normalizer.params_dict.obs.scale")},
            "no normalisation ['scale'] of 'obs'",
        ),
        (changed(LOWDIM, policy__obs_dim=6), None, "'scale' of 'obs' has 5 numbers, not 6"),
        (LOWDIM, {"ema_model": with_bias(torch.zeros(2).to_sparse())}, "torch.sparse_coo; expected plain floats"),
        (
            LOWDIM,
            {"ema_model": with_bias(torch.zeros(2, dtype=torch.complex64))},
            "torch.complex64, torch.strided; exp",
        ),
        (LOWDIM, {"ema_model": with_bias(torch.zeros(2, dtype=torch.int64))}, "holds torch.int64, torch.strided; exp"),
        (
            LOWDIM,
            {"ema_model": with_bias(torch.full((2,), torch.nan))},
            "weights ['backbone.final_conv.1.bias'] are not",
        ),
        (
            LOWDIM,
            {"ema_model": {**lowdim_weights(), "normalizer.params_dict.obs.input_stats.min": torch.full((5,), 1e9)}},
            "The normalisation of 'obs' has a minimum above its maximum",
        ),
        (changed(LOWDIM, policy__horizon=2**30), None, "horizon is 1,073,741,824, expected at most 10,000"),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path, monkeypatch, cfg, states, message):
    file = write_ckpt(tmp_path / "t.ckpt", monkeypatch, cfg, states or {"ema_model": lowdim_weights()})
    with pytest.raises(OneDPError, match=re.escape(message)):
        imported(file)


def test_a_configuration_that_holds_itself_or_unfolds_without_end_is_refused(tmp_path):
    circle: dict = {}
    circle["policy"] = circle
    bomb: list = [1]
    for _ in range(30):
        bomb = [bomb, bomb]
    for number, cfg in enumerate((circle, {"policy": bomb})):
        torch.save({"cfg": cfg, "state_dicts": {}}, tmp_path / f"{number}.ckpt")
        with pytest.raises(CheckpointError, match="it holds itself, or was made to exhaust memory"):
            read_foreign_policy(tmp_path / f"{number}.ckpt")


def test_damaged_and_other_files_are_explained(tmp_path, monkeypatch):
    file = write_ckpt(tmp_path / "t.ckpt", monkeypatch, LOWDIM, {"ema_model": lowdim_weights()})
    (tmp_path / "cut.ckpt").write_bytes(file.read_bytes()[:5000])
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.ckpt")
    for name in ("cut", "old"):
        with pytest.raises(CheckpointError, match="is not a PyTorch archive"):
            read_foreign_policy(tmp_path / f"{name}.ckpt")
    with pytest.raises(CheckpointError, match="has no 'cfg' and 'state_dicts'"):
        read_foreign_policy(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"does not exist\. Expected a LeRobot folder"):
        read_foreign_policy(tmp_path / "nowhere.ckpt")
