"""Exports to LeRobot: read on LeRobot's names by forward passes of their own, and read back by our importer."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from onedp.backends import load_backend
from onedp.cli.distill import Distill
from onedp.cli.main import main
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import Ddim, OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.errors import OneDPError
from onedp.export.fold import OneStepForm, scheduler_for
from onedp.export.lerobot import export_lerobot
from onedp.importers import fake_checkpoints_test as foreign
from onedp.methods.onedp_config import OneDpConfig
from onedp.nets.build import build_denoiser
from onedp.nets.config import ImageEncoderConfig, MlpConfig, StateEncoderConfig, UnetConfig
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.tasks import PUSHT_KEYPOINTS
from onedp.types import FieldSpec, PolicySpec, episode_noise

ACTION = FieldSpec("action", (2,), "m")
VECTORS = (FieldSpec("gripper", (1,), "m"), FieldSpec("joints", (2,), "rad"), FieldSpec("scene", (4,), "m"))
RENAMES = ("observation.state=joints,gripper", "observation.environment_state=scene")
CAMERAS = (
    FieldSpec("top", (40, 48, 3), "1", "uint8"), FieldSpec("joints", (3,), "rad"),
    FieldSpec("hand", (40, 48, 3), "1", "uint8"),
)  # fmt: skip
UNET = UnetConfig(foreign.DIMS, foreign.EMBED, foreign.KERNEL, n_groups=8)
STUDENT = OneStep(65.0, noise_scale=0.75, input_scale=0.25)


def make_policy(
    fields=VECTORS, network=UNET, schedule=None, sampler=STUDENT, parameterization="x0", encoder=None, mode="min_max"
) -> TorchPolicy:
    spec = PolicySpec(fields, ACTION, (-2.0, -2.0), (2.0, 2.0), 10.0, foreign.HORIZON, foreign.OBS_STEPS, 2)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    arrays = {
        each.name: rng.integers(0, 200, (30, *each.shape), dtype=np.uint8)
        if each.is_image
        else rng.uniform(-1, 1.5, (30, *each.shape)).astype(np.float32)
        for each in (*fields, ACTION)
    }
    encoder = encoder or StateEncoderConfig()
    denoiser = build_denoiser(network, spec, schedule or CosineDdpm(), parameterization, encoder)
    for parameter in denoiser.requires_grad_(False).eval().parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return TorchPolicy(
        "p", spec, "", denoiser, sampler, fit_normalizer(arrays, spec, mode), network, {"seed": 0},
        torch.device("cpu"), encoder,
    )  # fmt: skip


def saved(tmp_path, **options):
    save_policy(tmp_path / "policy", make_policy(**options))
    return load_policy(tmp_path / "policy")


def inputs(policy, batch=3):
    rng = np.random.default_rng(1)
    obs = {
        each.name: rng.integers(0, 256, (batch, 2, *each.shape), dtype=np.uint8)
        if each.is_image
        else rng.uniform(-1, 1.5, (batch, 2, *each.shape)).astype(np.float32)
        for each in policy.spec.observations
    }
    return obs, np.stack([episode_noise(row, 0, policy.noise_shape) for row in range(batch)])


def as_lerobot_acts(folder, features, noise):
    """Actions (B, Tp, Da) from LeRobot's files alone; ``features`` are in its order, pictures (B, To, 3, H, W)."""
    config = json.loads((folder / "config.json").read_text())
    w = {key.removeprefix("diffusion."): value for key, value in load_file(folder / "model.safetensors").items()}
    pre = load_file(folder / "policy_preprocessor_step_3_normalizer_processor.safetensors")
    post = load_file(folder / "policy_postprocessor_step_0_unnormalizer_processor.safetensors")
    kinds = {"observation.state": "STATE", "observation.environment_state": "ENV"}

    def stat(table, name, part):
        return table[f"{name}.{part}"].double().numpy()

    parts = []
    for i, (name, values) in enumerate(features.items()):
        if config["normalization_mapping"][kinds.get(name, "VISUAL")] == "MIN_MAX":
            low, high = stat(pre, name, "min"), stat(pre, name, "max")
            values = 2 * (values - low) / (high - low) - 1
        else:
            values = (values - stat(pre, name, "mean")) / (stat(pre, name, "std") + 1e-8)
        values = torch.from_numpy(values).float()
        if values.dim() == 5:
            camera = i - 1 if config["use_separate_rgb_encoder_per_camera"] else None
            own = foreign.part(w, "rgb_encoder." if camera is None else f"rgb_encoder.{camera}.")
            pictures = values.flatten(0, 1)[:, :, 4:37, 8:40]
            maps = foreign.resnet(foreign.part(own, "backbone."), "sequential", pictures)
            points = foreign.keypoints(maps, own["pool.nets.weight"], own["pool.nets.bias"])
            values = (points @ own["out.weight"].T + own["out.bias"]).relu().unflatten(0, values.shape[:2])
        parts.append(values)
    cond = torch.cat(parts, dim=-1).flatten(1)
    unet = foreign.part(w, "unet.")
    x = torch.from_numpy(noise[:, 0])
    said = foreign.unet(unet, "lerobot", x, torch.zeros(len(x)), cond, config["n_groups"])
    assert (config["noise_scheduler_type"], config["num_inference_steps"]) == ("DDIM", 1)
    if config["prediction_type"] == "epsilon":  # of the schedule's only step
        assert config["num_train_timesteps"] == 1
        assert config["beta_start"] == config["beta_end"]
        said = (x - config["beta_start"] ** 0.5 * said) / (1 - config["beta_start"]) ** 0.5
    limit = config["clip_sample_range"] if config["clip_sample"] else torch.inf
    chunk = said.clamp(-limit, limit).double().numpy()
    if config["normalization_mapping"]["ACTION"] == "MIN_MAX":
        low, high = stat(post, "action", "min"), stat(post, "action", "max")
        return (chunk + 1) / 2 * (high - low) + low
    return chunk * stat(post, "action", "std") + stat(post, "action", "mean")


def in_their_order(obs):
    state = np.concatenate([obs["joints"], obs["gripper"]], axis=-1)
    return {"observation.state": state, "observation.environment_state": obs["scene"]}


CASES = {
    "x0": {},
    "x0 of EDM": {"schedule": Edm(), "sampler": OneStep(2.5, noise_scale=0.5, input_scale=0.25)},
    "eps fed unit noise": {"parameterization": "eps", "sampler": OneStep(65.0)},
    "eps fed most of it": {"parameterization": "eps", "sampler": OneStep(65.0, noise_scale=0.8)},
    "without noise": {"parameterization": "edm", "schedule": Edm(), "sampler": OneStep(2.5, noise_scale=0.0)},
    "z-scores": {"mode": "mean_std", "sampler": replace(STUDENT, clip=None)},
}


@pytest.mark.parametrize("case", CASES)
def test_the_folder_acts_as_the_policy_on_lerobots_own_terms(tmp_path, case):
    policy = saved(tmp_path, **CASES[case])
    manifest = export_lerobot(tmp_path / "policy", tmp_path / "out", renames=RENAMES)
    obs, noise = inputs(policy)
    theirs = noise if noise.shape[1] else np.zeros((3, 1, *noise.shape[2:]), dtype=np.float32) + 0.7
    expected = policy.infer(obs, noise)
    acted = as_lerobot_acts(tmp_path / "out", in_their_order(obs), theirs)[:, 1:]
    np.testing.assert_allclose(acted.clip(-2, 2), expected, atol=2e-5)
    assert np.ptp(expected, axis=0).max() > 0.05  # depends on the observation
    report = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert report["largest_distance"] <= manifest.tolerance == 1e-4
    assert {row["runtime"] for row in report["rows"]} == {"lerobot layout, read back by onedp import"}


@pytest.mark.parametrize(("norm", "shared"), [("group", True), ("group", False), ("batch", False)])
def test_pictures_are_exported_with_their_encoders(tmp_path, norm, shared):
    encoder = ImageEncoderConfig(norm=norm, keypoints=4, crop=(33, 32), shared=shared)
    policy = saved(tmp_path, fields=CAMERAS, encoder=encoder)
    export_lerobot(tmp_path / "policy", tmp_path / "out", renames=["observation.state=joints"])
    obs, noise = inputs(policy)
    features = {"observation.state": obs["joints"]}
    features |= {f"observation.images.{n}": np.moveaxis(obs[n] / 255, -1, -3) for n in ("top", "hand")}
    expected = policy.infer(obs, noise)
    np.testing.assert_allclose(as_lerobot_acts(tmp_path / "out", features, noise)[:, 1:], expected, atol=5e-5)
    assert np.abs(policy.infer({**obs, "hand": obs["top"]}, noise) - expected).max() > 1e-3
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["use_group_norm"] == (norm == "group")
    assert list(config["input_features"]) == ["observation.state", "observation.images.top", "observation.images.hand"]


def test_import_gives_the_policy_back_from_the_command_line(tmp_path, capsys):
    policy = saved(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tmp_path / "policy"), "--to", "lerobot", "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "Say what is what with --rename THEIRS=OURS" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    names = ["--rename", *RENAMES]
    main(["export", str(tmp_path / "policy"), "--to", "lerobot", "--out", str(tmp_path / "out"), *names])
    assert f"run it    lerobot-eval --policy.path={tmp_path}" in capsys.readouterr().out.replace("\n", "")
    main(["import", str(tmp_path / "out"), "--rate-hz", "10", "--out", str(tmp_path / "back")])
    back = load_policy(tmp_path / "back")
    assert back.nfe == 1
    obs, noise = inputs(policy)
    np.testing.assert_allclose(back.infer(in_their_order(obs), noise), policy.infer(obs, noise), atol=1e-5)


def test_the_folder_says_what_it_is(tmp_path):
    saved(tmp_path, mode="mean_std", sampler=replace(STUDENT, clip=None))
    export_lerobot(tmp_path / "policy", tmp_path / "out", renames=RENAMES)
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: lerobot\n")
    assert "| observation.state | (3) | `joints` [rad], then `gripper` [m] |" in card
    assert "Do not fine-tune it as it is" in card
    assert "LeRobot applies no action limits" in card
    with pytest.raises(OneDPError, match=r"a policy for LeRobot, which runs it; .* onedp import"):
        load_backend(tmp_path / "out")
    export_lerobot(tmp_path / "policy", tmp_path / "out", renames=RENAMES)  # an export may be replaced


def test_push_t_has_its_names(tmp_path):
    """Keypoints are gym-pusht's environment_state: see pusht_test for their order."""
    policy = make_policy(fields=PUSHT_KEYPOINTS.spec.observations)
    save_policy(tmp_path / "policy", replace(policy, task="pusht-keypoints"))
    export_lerobot(tmp_path / "policy", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["input_features"] == {
        "observation.state": {"type": "STATE", "shape": [2]},
        "observation.environment_state": {"type": "ENV", "shape": [16]},
    }
    assert "--env.obs_type=environment_state_agent_pos" in (tmp_path / "out" / "README.md").read_text()


def test_a_schedule_of_one_step_has_the_skip_that_is_asked_for():
    scheduler = scheduler_for(OneStepForm(skip=2.0, gain=-1.5, scale=1.0), "p")
    variance = scheduler.options["beta_start"]
    assert (1 - variance) ** -0.5 == pytest.approx(2.0)
    assert -(variance**0.5) / (1 - variance) ** 0.5 * scheduler.out == pytest.approx(-1.5)


def test_the_option_that_the_refusals_name_exists():
    method = Distill(teacher="t", method="onedp-s", parameterization="x0").student_run(Path("data.npz")).method
    assert isinstance(method, OneDpConfig)
    assert method.parameterization == "x0"
    with pytest.raises(OneDPError, match="The method regression has no choice of --parameterization"):
        Distill(teacher="t", method="regression", parameterization="x0").student_run(Path("data.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": Ddim(5)}, "is sampled with ddim:5; an export to LeRobot holds a one-step student. Distil one: "),
        ({"parameterization": "eps"}, "0.371 times the input noise plus what the network says"),
        (
            {"parameterization": "edm", "schedule": Edm(), "sampler": OneStep(2.5, noise_scale=0.5)},
            "onedp distill TEACHER --parameterization x0 --out DIR",
        ),
        ({"parameterization": "eps", "sampler": OneStep(97.0)}, "1 to 10 times it (networks that predict noise)"),
        ({"network": MlpConfig(width=8, blocks=1, step_embed_dim=8)}, "has the network 'mlp'; LeRobot's diffusion"),
        ({"network": replace(UNET, n_groups=4)}, "normalises in 4 groups; LeRobot's always has 8"),
        ({"network": replace(UNET, channels=(16, 16, 24))}, "a multiple of 2 to the number of levels (8); that of "),
        ({"fields": (replace(VECTORS[0], shape=(4,), quaternions=(0,)), *VECTORS[1:])}, "train with --task recorded"),
        ({"fields": VECTORS[:1]}, "observes observation.state, and beside it observation.environment_state or pic"),
    ],
)
def test_what_lerobot_cannot_hold_is_refused(tmp_path, options, message):
    saved(tmp_path, **options)
    renames = ["observation.state=gripper"] if options.get("fields") == VECTORS[:1] else RENAMES
    with pytest.raises(OneDPError, match=re.escape(message)):
        export_lerobot(tmp_path / "policy", tmp_path / "out", renames=renames)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("renames", "message"),
    [
        (["observation.state"], "Expected THEIRS=OURS, each name once"),
        (["observation.state=joints", "observation.environment_state=joints"], "each name once"),
        (["observation.state=joint"], "has no observation ['joint']; it has gripper, joints, scene"),
        (["observation.state=joints", "observation.environment_state=scene"], "Say what is what with --rename"),
    ],
)
def test_wrong_names_are_explained(tmp_path, renames, message):
    saved(tmp_path)
    with pytest.raises(OneDPError, match=re.escape(message)):
        export_lerobot(tmp_path / "policy", tmp_path / "out", renames=renames)


@pytest.mark.parametrize("other", [{"pool": "average"}, {"backbone": "light"}, {"resize": (32, 32)}, {"features": 9}])
def test_other_encoders_are_refused(tmp_path, other):
    saved(tmp_path, fields=CAMERAS, encoder=ImageEncoderConfig(**other))
    with pytest.raises(OneDPError, match="LeRobot's, as it is written, is a ResNet that does not resize"):
        export_lerobot(tmp_path / "policy", tmp_path / "out", renames=["observation.state=joints"])
