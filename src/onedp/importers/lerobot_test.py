"""LeRobot folders, made by hand: the imported policy gives the actions that their formulas give."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from onedp.diffusion.samplers import Ddim, Ddpm
from onedp.errors import CheckpointError, OneDPError
from onedp.importers.fake_checkpoints_test import (
    LEROBOT_06,
    MODES,
    keypoints,
    lerobot_features,
    part,
    random_weights,
    reference_actions,
    resnet,
    resnet_shapes,
    statistics,
    unet_shapes,
    write_lerobot,
)
from onedp.importers.formats import read_foreign_policy
from onedp.importers.imported import to_policy
from onedp.policy import load_policy, save_policy
from onedp.tasks import PUSHT_KEYPOINTS
from onedp.types import episode_noise

OBSERVED = ("observation.state", "observation.environment_state")
NAMES: dict[str, tuple[int, ...]] = {"observation.state": (3,), "observation.environment_state": (4,), "action": (2,)}
RENAMES = ("observation.state=agent_pos", "observation.environment_state=keypoints")


def state_folder(path, names=NAMES, **changes):
    features = lerobot_features(
        state=names["observation.state"], environment_state=names["observation.environment_state"]
    )
    condition = 2 * sum(shape[0] for name, shape in names.items() if name != "action")
    weights = random_weights(unet_shapes(2, condition, "lerobot", changes.get("use_film_scale_modulation", True)), 1)
    stats = changes.pop("stats", None) or statistics(names)
    return (
        write_lerobot(path, features, {"unet." + key: value for key, value in weights.items()}, stats, **changes),
        weights,
        stats,
    )


def inputs(policy, seed=0):
    rng = np.random.default_rng(seed)
    obs = {
        field.name: rng.integers(0, 256, (3, 2, *field.shape), dtype=np.uint8)
        if field.is_image
        else rng.uniform(-1, 1, (3, 2, *field.shape)).astype(np.float32)
        for field in policy.spec.observations
    }
    return obs, np.stack([episode_noise(i, 0, policy.noise_shape) for i in range(3)])


def scaled(values, stats, name, mode):
    low, high, mean, std = (stats[f"{name}.{key}"].double().numpy() for key in ("min", "max", "mean", "std"))
    if mode == "MIN_MAX":
        return 2 * (values - low) / (high - low) - 1
    return (values - mean) / (std + 1e-8) if mode == "MEAN_STD" else values


def unscaled(values, stats, mode):
    low, high, mean, std = (stats[f"action.{key}"].double().numpy() for key in ("min", "max", "mean", "std"))
    if mode == "MIN_MAX":
        return (values + 1) / 2 * (high - low) + low
    return values * std + mean if mode == "MEAN_STD" else values


def imported(folder, **options):
    options.setdefault("rate_hz", 10.0)
    return to_policy(read_foreign_policy(folder), "p", options.pop("task", None), **options)


@pytest.mark.parametrize("layout", ["processors", "buffers"])
@pytest.mark.parametrize("mode", ["MIN_MAX", "MEAN_STD", "IDENTITY"])
def test_state_policy_acts_as_lerobot_computes(tmp_path, layout, mode):
    modes = {"VISUAL": "MEAN_STD", "STATE": mode, "ENV": mode, "ACTION": mode}
    folder, weights, stats = state_folder(tmp_path / "theirs", modes=modes, layout=layout)
    save_policy(tmp_path / "ours", imported(folder))
    policy = load_policy(tmp_path / "ours")
    assert policy.sampler == Ddim(5, None if mode == "MEAN_STD" else 1.0, "leading", recompute_eps=False)
    obs, noise = inputs(policy)
    parts = [scaled(obs[name], stats, name, mode) for name in OBSERVED]
    cond = torch.from_numpy(np.concatenate(parts, axis=-1).reshape(3, -1)).float()
    expected = unscaled(
        reference_actions(weights, "lerobot", cond, noise, "ddim", 5, 10, policy.sampler.clip), stats, mode
    )
    actions = policy.infer(obs, noise)
    assert actions.shape == (3, 3, 2)
    inside = np.clip(expected[:, 1:], policy.spec.action_low, policy.spec.action_high)
    np.testing.assert_allclose(actions, inside, atol=2e-4)
    assert np.abs(np.diff(actions, axis=0)).max() > 0.05  # they depend on the observation


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_scheduler_type": "DDPM", "num_inference_steps": None, "beta_schedule": "linear", **LEROBOT_06},
        {"prediction_type": "sample", "use_film_scale_modulation": False, "beta_schedule": "scaled_linear"},
        {"n_groups": 4, "clip_sample_range": 0.7},
    ],
    ids=["ddpm of 0.6", "sample without scale", "groups"],
)
def test_options_of_the_checkpoint_are_kept(tmp_path, changes):
    folder, weights, stats = state_folder(tmp_path / "theirs", modes={**MODES, "ENV": "MIN_MAX"}, **changes)
    policy = imported(folder)
    obs, noise = inputs(policy)
    parts = [
        scaled(obs[name], stats, name, "MIN_MAX") for name in ("observation.state", "observation.environment_state")
    ]
    cond = torch.from_numpy(np.concatenate(parts, axis=-1).reshape(3, -1)).float()
    kind, steps = ("ddpm", 10) if changes.get("noise_scheduler_type") == "DDPM" else ("ddim", 5)
    chunk = reference_actions(
        weights, "lerobot", cond, noise, kind, steps, 10, changes.get("clip_sample_range", 1.0),
        changes.get("prediction_type", "epsilon"), changes.get("beta_schedule", "squaredcos_cap_v2"),
        changes.get("n_groups", 8), changes.get("use_film_scale_modulation", True),
    )  # fmt: skip
    np.testing.assert_allclose(policy.infer(obs, noise), unscaled(chunk, stats, "MIN_MAX")[:, 1:], atol=2e-4)
    assert isinstance(policy.sampler, Ddpm) == (kind == "ddpm")


@pytest.mark.parametrize("separate", [False, True])
def test_picture_policy_acts_as_lerobot_computes(tmp_path, separate):
    """Two cameras; pictures of [0, 1] and channels first there, 0 to 255 and channels last here."""
    shapes = {"state": (3,), "images__top": (3, 40, 48), "images__hand": (3, 40, 48)}
    cameras = ("observation.images.top", "observation.images.hand")
    names: dict[str, tuple[int, ...]] = {"observation.state": (3,), "action": (2,)}
    names |= dict.fromkeys(cameras, (3, 1, 1))
    own = {f"backbone.{key}": shape for key, shape in resnet_shapes("sequential", batch_norm=separate).items()}
    own |= {"pool.nets.weight": (4, 512, 1, 1), "pool.nets.bias": (4,), "out.weight": (8, 8), "out.bias": (8,)}
    prefixes = ["rgb_encoder.0.", "rgb_encoder.1."] if separate else ["rgb_encoder."]
    unet = random_weights(unet_shapes(2, 2 * (3 + 8 + 8), "lerobot"), 1)
    encoders = {p + key: value for i, p in enumerate(prefixes) for key, value in random_weights(own, 2 + i).items()}
    rows = 2  # a crop of 33 x 32 leaves 2 x 1 features
    grid = torch.stack([torch.full((rows,), -1.0), torch.linspace(-1, 1, rows)], dim=1)
    buffers = {p + "pool.pos_grid": grid.clone() for p in prefixes}
    if separate:
        buffers |= {p + "backbone.1.num_batches_tracked": torch.tensor(7) for p in prefixes}
    stats = statistics(names)
    named = {"unet." + key: value for key, value in unet.items()}
    folder = write_lerobot(
        tmp_path / "theirs", lerobot_features(**shapes), {**named, **encoders, **buffers}, stats,
        use_separate_rgb_encoder_per_camera=separate, use_group_norm=not separate,
    )  # fmt: skip
    save_policy(tmp_path / "ours", imported(folder))
    policy = load_policy(tmp_path / "ours")
    assert [field.shape for field in policy.spec.observations] == [(3,), (40, 48, 3), (40, 48, 3)]
    obs, noise = inputs(policy)
    parts = [torch.from_numpy(scaled(obs["observation.state"], stats, "observation.state", "MIN_MAX")).float()]
    for i, name in enumerate(cameras):
        w = part(encoders, prefixes[i if separate else 0])
        pictures = np.moveaxis(obs[name] / 255, -1, -3).reshape(6, 3, 40, 48)
        pictures = scaled(pictures, stats, name, "MEAN_STD")[:, :, 4:37, 8:40]
        features = resnet(part(w, "backbone."), "sequential", torch.from_numpy(pictures).float())
        points = keypoints(features, w["pool.nets.weight"], w["pool.nets.bias"])
        parts.append((points @ w["out.weight"].T + w["out.bias"]).relu().view(3, 2, 8))
    cond = torch.cat(parts, dim=-1).flatten(1)
    expected = unscaled(reference_actions(unet, "lerobot", cond, noise, "ddim", 5, 10, 1.0), stats, "MIN_MAX")
    np.testing.assert_allclose(policy.infer(obs, noise), expected[:, 1:], atol=5e-4)
    other = {**obs, "observation.images.hand": obs["observation.images.hand"][::-1].copy()}
    assert np.abs(policy.infer(other, noise) - expected[:, 1:]).max() > 1e-3


def test_a_task_renames_and_reorders(tmp_path):
    """LeRobot's condition begins with the state, our Push-T's with the keypoints; the actions stay the same."""
    names = {"observation.state": (2,), "observation.environment_state": (16,), "action": (2,)}
    folder, _, _ = state_folder(tmp_path / "theirs", names=names, modes={**MODES, "ENV": "MIN_MAX"})
    plain = imported(folder)
    renamed = imported(folder, task=PUSHT_KEYPOINTS, task_name="pusht-keypoints", renames=RENAMES, rate_hz=None)
    assert [field.name for field in renamed.spec.observations] == ["keypoints", "agent_pos"]
    assert (renamed.spec.rate_hz, renamed.spec.horizon, renamed.spec.n_action_steps) == (10.0, 4, 2)
    assert renamed.spec.action_high == PUSHT_KEYPOINTS.spec.action_high
    obs, noise = inputs(plain)
    ours = {"keypoints": obs["observation.environment_state"], "agent_pos": obs["observation.state"]}
    expected = plain.infer(obs, noise).clip(0, np.float32(PUSHT_KEYPOINTS.spec.action_high[0]))
    np.testing.assert_allclose(renamed.infer(ours, noise), expected, atol=1e-5)
    assert np.ptp(expected) > 0.05


def test_constant_dimensions_are_lerobots(tmp_path):
    """A constant observation reaches the network as -1, a constant action is its value whatever the network says."""
    stats = statistics(NAMES)
    for name, value in (("observation.state", 0.7), ("action", 300.0)):
        for key in ("min", "max"):
            stats[f"{name}.{key}"][0] = value
    folder, _, _ = state_folder(tmp_path / "theirs", stats=stats, modes={**MODES, "ENV": "MIN_MAX"})
    policy = imported(folder)
    seen = policy.normalizer.normalize("observation.state", np.array([[0.7, 0, 0]], dtype=np.float32))
    assert seen[0, 0] == pytest.approx(-1)
    obs, noise = inputs(policy)
    np.testing.assert_allclose(policy.infer(obs, noise)[..., 0], 300.0, atol=0.01)


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))


def write_steps(folder, steps):
    (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": steps}))


def edit_weights(folder, name, edit):
    tensors = load_file(folder / name)
    edit(tensors)
    save_file(tensors, folder / name)


PRE = "policy_preprocessor_step_3_normalizer_processor.safetensors"
POST = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
KEY = "diffusion.unet.down_modules.0.0.conv1.block.0.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: edit_config(f, type="act"), "policy of the type 'act'; only 'diffusion' is supported"),
        (lambda f: edit_config(f, attention=True), r"has the unknown entries \['attention'\]"),
        (lambda f: edit_config(f, horizon="gone"), "has no 'horizon'. Defaults differ between versions"),
        (lambda f: edit_config(f, horizon="16"), "'horizon' is '16', expected int"),
        (
            lambda f: edit_config(f, prediction_type="v_prediction"),
            "'prediction_type' is 'v_prediction'; supported: 'epsilon', 'sample'",
        ),
        (
            lambda f: edit_config(f, noise_scheduler_type="EDM"),
            "'noise_scheduler_type' is 'EDM'; supported: 'DDPM', 'DDIM'",
        ),
        (lambda f: edit_config(f, kernel_size=4), "'kernel_size' is 4; supported: odd ones"),
        (lambda f: edit_config(f, diffusion_step_embed_dim=10**6), r"weights do not fit its configuration"),
        (lambda f: edit_config(f, diffusion_step_embed_dim=10**9), r"sizes fit no machine"),
        (lambda f: edit_config(f, down_dims=[16, 32]), r"wrong shape .*24, 16, 3\) instead of \(32, 16, 3\)"),
        (
            lambda f: edit_weights(f, "model.safetensors", lambda t: t.pop(KEY)),
            r"missing backbone.down_modules.0.0.conv1.block.0.weight; not",
        ),
        (
            lambda f: edit_weights(
                f, "model.safetensors", lambda t: t.update({"diffusion.extra.weight": torch.zeros(2)})
            ),
            "not expected extra.weight;",
        ),
        (
            lambda f: edit_weights(f, PRE, lambda t: t.pop("observation.state.min")),
            r"no statistics \['min'\] of 'observation.state', which MIN_MAX needs",
        ),
        (
            lambda f: edit_weights(f, POST, lambda t: [t.pop(k) for k in list(t) if k.startswith("action")]),
            r"no statistics \['min', 'max'\] of 'action'",
        ),
        (
            lambda f: edit_weights(f, PRE, lambda t: t.update({"observation.state.min": torch.zeros(4)})),
            "'observation.state.min' are not 3 finite numbers",
        ),
        (
            lambda f: edit_weights(
                f, PRE, lambda t: t.update({"observation.environment_state.std": torch.full((4,), -0.5)})
            ),
            "'observation.environment_state.std' hold -0.5; deviations are 0 or more",
        ),
        (lambda f: (f / PRE).unlink(), "normalizer_processor.safetensors cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"PK"), "model.safetensors cannot be read"),
        (lambda f: write_steps(f, [{"registry_name": "delta_actions"}]), "has the step 'delta_actions'; supported"),
        (lambda f: write_steps(f, []), "has no 'normalizer_processor', so there are no statistics"),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path, edit, message):
    folder, _, _ = state_folder(tmp_path / "theirs", modes={**MODES, "ENV": "MEAN_STD"})
    edit(folder)
    with pytest.raises(CheckpointError, match=message):
        imported(folder)


def test_other_normalisations_are_refused(tmp_path):
    folder, _, _ = state_folder(tmp_path / "theirs", modes={**MODES, "STATE": "QUANTILES"})
    with pytest.raises(CheckpointError, match="STATE is normalised with 'QUANTILES'; supported: MIN_MAX, MEAN"):
        imported(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate_hz": None}, "does not say how often it acts. Give --rate-hz"),
        ({"task": PUSHT_KEYPOINTS}, "observation.environment_state (4,); the task 'pusht-keypoints' has"),
        ({"renames": ["observation.stat=x"]}, "no observation 'observation.stat'. Did you mean 'observation.state'?"),
        ({"renames": ["observation.state"]}, "Expected THEIRS=OURS"),
        ({"renames": ["observation.state=a,b"]}, "can only be cut into observations of a task"),
        ({"renames": ["observation.state=noise"]}, "Observations cannot be named ['noise']"),
        ({"rate_hz": float("inf")}, "rate_hz is inf, expected a control rate above 0 and up to 1e+06 Hz"),
    ],
)
def test_wrong_options_are_explained(tmp_path, options, message):
    folder, _, _ = state_folder(tmp_path / "theirs", modes={**MODES, "ENV": "MIN_MAX"})
    with pytest.raises(OneDPError, match=re.escape(message)):
        imported(folder, **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train_timesteps": 10**9}, "steps (1000000000) must be 1 to 100,000"),
        ({"horizon": 2**30}, "horizon is 1,073,741,824, expected at most 10,000 steps"),
    ],
)
def test_sizes_that_nobody_has_are_refused(tmp_path, changes, message):
    folder, _, _ = state_folder(tmp_path / "theirs")
    edit_config(folder, **changes)
    with pytest.raises(OneDPError, match=re.escape(message)):
        imported(folder)


def test_a_configuration_without_end_is_refused(tmp_path):
    folder, _, _ = state_folder(tmp_path / "theirs")
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read: maximum recursion"):
        imported(folder)


def test_limits_of_z_scored_actions_need_the_range(tmp_path):
    stats = {k: v for k, v in statistics(NAMES).items() if k not in ("action.min", "action.max")}
    modes = {**MODES, "ENV": "MIN_MAX", "ACTION": "MEAN_STD"}
    folder, _, _ = state_folder(tmp_path / "theirs", stats=stats, modes=modes)
    with pytest.raises(CheckpointError, match="no 'min' and 'max' of the action"):
        imported(folder)


def test_a_folder_that_is_neither_is_explained(tmp_path):
    with pytest.raises(CheckpointError, match=r"is a folder without config.json. Expected a LeRobot folder"):
        read_foreign_policy(tmp_path)
