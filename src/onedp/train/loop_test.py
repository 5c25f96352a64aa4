"""The loop: exact resume, schedules, guards."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from onedp.data.episodes import Episodes
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import Ddim
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.errors import TrainingError
from onedp.methods.config import DenoisingConfig, EmaConfig, OptimizerConfig
from onedp.methods.denoising import Denoising
from onedp.methods.input_noise import LOG_GAIN
from onedp.methods.onedp import OneDp
from onedp.methods.onedp_config import OneDpConfig
from onedp.nets.build import build_denoiser
from onedp.nets.config import MlpConfig, NetworkConfig, UnetConfig
from onedp.train.config import LoopConfig
from onedp.train.loop import learning_rate, make_accelerator, run_training
from onedp.train.windows import batch_indices, window_tensors
from onedp.types import FieldSpec, PolicySpec

SPEC = PolicySpec(
    observations=(FieldSpec("where", (3,), "m"),),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    rate_hz=10.0,
    horizon=4,
    n_obs_steps=2,
    n_action_steps=2,
)
NETWORKS: dict[str, NetworkConfig] = {
    "mlp": MlpConfig(width=16, blocks=1),
    "unet": UnetConfig(channels=(8, 16), step_embed_dim=8, n_groups=4),
}


def small_data():
    rng = np.random.default_rng(0)
    arrays = {
        "where": rng.normal(size=(60, 3)).astype(np.float32),
        "action": rng.uniform(-1, 1, (60, 2)).astype(np.float32),
    }
    episodes = Episodes(arrays, np.array([20, 40, 60]), "test")
    return window_tensors(episodes, SPEC, fit_normalizer(arrays, SPEC))


def method_of(kind, steps=4, network="mlp"):
    torch.manual_seed(0)
    if kind == "denoising":
        return Denoising(DenoisingConfig(), build_denoiser(NETWORKS[network], SPEC, CosineDdpm(), "eps"), steps)
    teacher = build_denoiser(NETWORKS[network], SPEC, CosineDdpm(), "eps")
    fast = OptimizerConfig(lr=1e-3, betas=(0.0, 0.999), clip_norm=1.0, decay="cosine")
    config = OneDpConfig(
        variant=kind[-1],
        generator=fast,
        tracker=fast,
        regression_steps=1,
        regression_pairs=20,
        tracker_warmup=1,
        ema=EmaConfig(0.99),
    )
    return OneDp(config, teacher, Ddim(2), steps)


def train(tmp_path, method, loop=None, **options):
    loop = loop or LoopConfig(steps=4, batch_size=8, log_every=1, diagnose_every=2, checkpoint_every=1, cpu=True)
    accelerator = make_accelerator(loop, tmp_path)
    return run_training(method, small_data(), loop, tmp_path, {"run": "a"}, accelerator, **options)


@pytest.mark.parametrize(
    ("kind", "network"), [("denoising", "mlp"), ("denoising", "unet"), ("onedp-s", "mlp"), ("onedp-d", "mlp")]
)
def test_two_steps_resumed_for_two_more_equal_four_bit_for_bit(tmp_path, kind, network):
    """Weights, averages, optimizer moments and the logged numbers."""
    train(tmp_path / "whole", method_of(kind, network=network))
    train(tmp_path / "parts", method_of(kind, network=network), stop_after=2)
    train(tmp_path / "parts", method_of(kind, network=network), resume=True)
    whole, parts = (load_file(tmp_path / name / "checkpoint" / "state.safetensors") for name in ("whole", "parts"))
    assert set(whole) == set(parts)
    assert any(name.startswith("ema/") for name in whole)
    assert any(name.startswith("optimizer/") for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in file.read_text().splitlines()]
        for file in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "parts" / "metrics.jsonl")
    ]
    assert logs[0] == logs[1]


def test_a_parameter_may_have_a_rate_of_its_own(tmp_path):
    """Adam's first step is as long as the rate: the noise's factor moves by its own, the weights by theirs."""
    method = method_of("onedp-s")
    config = replace(method.config, matching_noise="learned", noise_gain_lr=0.05)
    method = OneDp(config, method.teacher, Ddim(2), 4)
    train(tmp_path, method, stop_after=2)
    before = {name: value.clone() for name, value in method.networks["generator"].state_dict().items()}
    assert before[LOG_GAIN] == 0  # matching begins with the third step
    train(tmp_path, method, resume=True, stop_after=3)
    moved = {
        name: (value - before[name]).abs().max() for name, value in method.networks["generator"].named_parameters()
    }
    assert moved.pop(LOG_GAIN).item() == pytest.approx(0.05, rel=1e-3)
    assert max(moved.values()).item() == pytest.approx(1e-3, rel=1e-3)


def test_a_changed_seed_changes_the_result(tmp_path):
    """Otherwise the test above proves nothing."""
    other = LoopConfig(steps=4, batch_size=8, seed=1, cpu=True)
    train(tmp_path / "a", method_of("denoising"))
    train(tmp_path / "b", method_of("denoising"), loop=other)
    a, b = (load_file(tmp_path / name / "checkpoint" / "state.safetensors") for name in "ab")
    assert not torch.equal(a["network/denoiser/backbone.head.weight"], b["network/denoiser/backbone.head.weight"])


def test_checkpoint_of_another_run_is_refused(tmp_path):
    train(tmp_path, method_of("denoising"), stop_after=2)
    loop = LoopConfig(steps=4, batch_size=8, cpu=True)
    with pytest.raises(TrainingError, match="belongs to another run: run differ"):
        run_training(
            method_of("denoising"), small_data(), loop, tmp_path, {"run": "b"}, make_accelerator(loop, tmp_path), True
        )


def test_options_that_came_after_a_run_was_begun_do_not_stop_it(tmp_path):
    """They have their defaults, which change nothing; a changed option does."""

    def resume(options):
        loop = LoopConfig(steps=4, batch_size=8, cpu=True)
        accelerator = make_accelerator(loop, tmp_path)
        return run_training(method_of("denoising"), small_data(), loop, tmp_path, {"run": options}, accelerator, True)

    loop = LoopConfig(steps=4, batch_size=8, checkpoint_every=1, cpu=True)
    begun = {"run": {"method": {"lr": 1.0}}}
    run_training(
        method_of("denoising"), small_data(), loop, tmp_path, begun, make_accelerator(loop, tmp_path), stop_after=2
    )
    assert resume({"method": {"lr": 1.0, "kind": "denoising"}}).step == 4
    with pytest.raises(TrainingError, match="belongs to another run: run differ"):
        resume({"method": {"lr": 2.0, "kind": "denoising"}})


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_damaged_checkpoint_is_explained(tmp_path, damage):
    train(tmp_path, method_of("denoising"), stop_after=2)
    file = tmp_path / "checkpoint" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:100]) if damage == "truncate" else file.unlink()
    with pytest.raises(TrainingError, match="cannot be read"):
        train(tmp_path, method_of("denoising"), resume=True)


def test_not_a_number_stops_training_with_an_explanation(tmp_path):
    method = method_of("denoising")
    with torch.no_grad():
        next(method.networks["denoiser"].parameters()).fill_(float("nan"))
    with pytest.raises(
        TrainingError, match=r"gradient of the loss 'denoising' is nan at step 0.*Lower its optimizer's learning rate"
    ):
        train(tmp_path, method)
    assert not (tmp_path / "checkpoint").exists()


def test_every_window_is_seen_once_an_epoch():
    seen = torch.cat([batch_indices(10, 4, seed=3, draw=draw) for draw in range(5)])  # two epochs of ten
    assert sorted(seen[:10].tolist()) == list(range(10)) == sorted(seen[10:].tolist())
    assert seen[:10].tolist() != seen[10:].tolist()


def test_learning_rate_warms_up_and_decays():
    config = OptimizerConfig(lr=1.0, warmup_steps=10, decay="cosine")
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=1e-3)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert learning_rate(OptimizerConfig(lr=1.0), 77, 100) == 1.0


def test_learning_actually_lowers_the_heldout_loss(tmp_path):
    loop = LoopConfig(steps=60, batch_size=32, log_every=10, diagnose_every=1, checkpoint_every=60, cpu=True)
    torch.manual_seed(0)
    config = DenoisingConfig(optimizer=OptimizerConfig(lr=1e-2), ema=EmaConfig(max_decay=0.9))
    train(tmp_path, Denoising(config, build_denoiser(NETWORKS["mlp"], SPEC, CosineDdpm(), "eps"), 60), loop=loop)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["diagnostics/heldout_loss"] for line in lines if "diagnostics/heldout_loss" in line]
    assert losses[-1] < 0.9 * losses[0]


def test_edm_teacher_trains(tmp_path):
    torch.manual_seed(0)
    denoiser = build_denoiser(NETWORKS["mlp"], SPEC, Edm(), "edm")
    state = train(tmp_path, Denoising(DenoisingConfig(process="edm"), denoiser, 4))
    assert state.step == 4
