"""Contract of every method in the table: it trains, resumes exactly, loads, and acts in the passes that it says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from onedp.bench.checks import OF_ONE_STEP
from onedp.diffusion.samplers import Ddim, Ddpm, OneStep
from onedp.errors import OneDPError
from onedp.methods.config import DenoisingConfig, MethodConfig
from onedp.methods.distillation import require_deterministic
from onedp.methods.input_noise import LOG_GAIN
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.presets import ONEDP_S, fitted
from onedp.methods.student_config import ProgressiveConfig
from onedp.methods.table import (
    METHODS,
    method_entry,
    method_from_json,
    method_identity,
    method_names,
    method_to_json,
    recipe,
)
from onedp.nets.config import ActConfig, MlpConfig, UnetConfig
from onedp.policy import load_policy
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.run import distill_student, resume_run, train_teacher

LOOP = LoopConfig(steps=6, batch_size=8, log_every=1, diagnose_every=6, checkpoint_every=1, cpu=True)
NETWORK = MlpConfig(width=16, blocks=1, step_embed_dim=8)
OWN_NETWORKS = {"act": ActConfig(width=16, heads=2, expansion=2, encoder_blocks=1, decoder_blocks=1, latent_dim=4)}
"""Of methods that train no denoiser."""
PASSES = {"denoising": 10, "flow-matching": 10, "mip": 2}
"""Network passes of what is trained; 1 for all others."""


def small(name: str, process: str | None = None) -> MethodConfig:
    config = fitted(recipe(name, process=process), LOOP.steps)
    return dataclasses.replace(config, first_steps=4) if isinstance(config, ProgressiveConfig) else config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty steps of made-up Push-T."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "demonstrations.npz"
    state, action = rng.uniform(100, 400, (60, 5)), rng.uniform(100, 400, (60, 2))
    np.savez(path, state=state.astype(np.float32), action=action.astype(np.float32), episode_ends=[30, 60])
    return path


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, Path]:
    """A teacher of each noise process, hardly trained."""
    folder = tmp_path_factory.mktemp("teachers")
    for process in ("ddpm", "edm", "flow"):
        run = TeacherRun("pusht-keypoints", data, DenoisingConfig(process=process), NETWORK, LOOP)
        train_teacher(run, folder / process)
    return {process: folder / process for process in ("ddpm", "edm", "flow")}


def begin(config: MethodConfig, teacher: Path | None, data: Path, out: Path, stop_after: int | None = None) -> str:
    """Start a run; returns its kind."""
    if teacher is None:
        network = OWN_NETWORKS.get(config.kind, NETWORK)
        train_teacher(TeacherRun("pusht-keypoints", data, config, network, LOOP), out, stop_after=stop_after)
        return "TeacherRun"
    distill_student(StudentRun(str(teacher), data, config, LOOP), out, stop_after=stop_after)
    return "StudentRun"


def assert_same_weights(a: Path, b: Path) -> None:
    a_weights, b_weights = (load_file(out / "policy" / "weights.safetensors") for out in (a, b))
    assert set(a_weights) == set(b_weights)
    assert {name for name in a_weights if not np.array_equal(a_weights[name], b_weights[name])} == set()


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_trains_resumes_exactly_loads_and_acts(name, tmp_path, data, teachers):
    teacher = teachers["edm" if name == "consistency-policy" else "ddpm"] if METHODS[name].teacher else None
    begin(small(name), teacher, data, tmp_path / "whole" / "run")
    kind = begin(small(name), teacher, data, tmp_path / "parts" / "run", stop_after=3)
    resume_run(tmp_path / "parts" / "run", kind)
    assert_same_weights(tmp_path / "whole" / "run", tmp_path / "parts" / "run")
    policy = load_policy(tmp_path / "whole" / "run")
    assert policy.nfe == PASSES.get(name, 1)
    assert isinstance(policy.sampler, OneStep) == (
        METHODS[name].preset.config.kind in OF_ONE_STEP
    )  # what bench refuses
    passes = []
    policy.denoiser.backbone.register_forward_hook(lambda *_: passes.append(1))
    rng = np.random.default_rng(0)
    chunk = policy.infer(policy.spec.fake_observation(3, rng), rng.standard_normal((3, *policy.noise_shape)))
    assert np.isfinite(chunk).all()
    assert len(passes) == policy.nfe


@pytest.mark.parametrize("process", ["edm", "flow"])
@pytest.mark.parametrize(
    "name",
    ["onedp", "onedp-s-adversarial", "onedp-d-annealed", "going-on", "consistency", "progressive", "gaussian"],
)
def test_distillations_take_teachers_of_every_noise_process(name, process, tmp_path, data, teachers):
    begin(small(name, process), teachers[process], data, tmp_path / "run")
    assert load_policy(tmp_path / "run").nfe == 1


def test_progressive_distillation_saves_a_policy_of_every_halving(tmp_path, data, teachers):
    begin(small("progressive"), teachers["edm"], data, tmp_path / "run")
    for size in (2, 1):
        stage = load_policy(tmp_path / "run" / "stages" / f"euler-{size}")
        assert stage.sampler.label == f"euler:{size}"
        assert stage.provenance["stage"] == f"euler-{size}"
    one, last = (load_file(tmp_path / "run" / part / "weights.safetensors") for part in ("stages/euler-1", "policy"))
    assert all(np.array_equal(one[key], last[key]) for key in last)


def test_a_student_may_have_a_network_of_its_own(tmp_path, data, teachers):
    network = UnetConfig(channels=(8, 16), step_embed_dim=8, n_groups=4)
    run = StudentRun(str(teachers["ddpm"]), data, small("onedp-s"), LOOP, network)
    distill_student(run, tmp_path / "whole" / "run")
    distill_student(run, tmp_path / "parts" / "run", stop_after=3)
    resume_run(tmp_path / "parts" / "run", "StudentRun")
    assert_same_weights(tmp_path / "whole" / "run", tmp_path / "parts" / "run")
    assert load_policy(tmp_path / "whole" / "run").network == network
    paper = StudentRun(str(teachers["ddpm"]), data, OneDpConfig(), LOOP, network)
    with pytest.raises(OneDPError, match="network of its own knows nothing yet and needs the regression phase"):
        distill_student(paper, tmp_path / "paper")


@pytest.mark.parametrize(
    ("process", "changes"),
    [
        ("ddpm", {"matching_noise": "learned", "acting_noise_scale": 1.0}),
        ("edm", {"matching_noise": "annealed", "acting_noise_scale": 0.5}),
        ("edm", {"warm_start": "consistency", "input_noise_scale": 1.0}),
        ("ddpm", {"warm_start": "consistency", "input_noise_scale": 1.0, "parameterization": "x0"}),
        ("flow", {"warm_start": "consistency", "input_noise_scale": 1.0}),
    ],
    ids=["learned", "annealed", "consistency-edm", "consistency-ddpm", "consistency-flow"],
)
def test_levers_of_onedp_train_resume_exactly_and_save_what_any_student_is(process, changes, tmp_path, data, teachers):
    changes = {"regression_steps": 3, "tracker_warmup": 1, **changes}
    recommended = small("onedp-s")
    assert isinstance(recommended, OneDpConfig)
    config = dataclasses.replace(recommended, **changes)
    begin(config, teachers[process], data, tmp_path / "whole" / "run")
    kind = begin(config, teachers[process], data, tmp_path / "parts" / "run", stop_after=5)
    resume_run(tmp_path / "parts" / "run", kind)
    assert_same_weights(tmp_path / "whole" / "run", tmp_path / "parts" / "run")
    whole, parts = (load_policy(tmp_path / each / "run") for each in ("whole", "parts"))
    assert whole.sampler == parts.sampler
    teacher = load_policy(teachers[process])
    assert whole.denoiser.state_dict().keys() == teacher.denoiser.state_dict().keys()
    assert whole.network == teacher.network
    rng = np.random.default_rng(0)
    chunk = whole.infer(whole.spec.fake_observation(3, rng), rng.standard_normal((3, *whole.noise_shape)))
    assert np.isfinite(chunk).all()
    assert isinstance(whole.sampler, OneStep)
    if config.matching_noise == "learned":
        average = load_file(tmp_path / "whole" / "run" / "checkpoint" / "state.safetensors")[
            f"ema/generator/{LOG_GAIN}"
        ]
        assert whole.sampler.noise_scale == pytest.approx(float(np.exp(average)), rel=1e-6) != 1
    else:
        assert whole.sampler.noise_scale == config.acting_noise_scale


def test_few_step_students_are_no_teachers(tmp_path, data, teachers):
    begin(small("mip"), None, data, tmp_path / "mip")
    with pytest.raises(OneDPError, match="is a one-step student itself"):
        begin(small("regression"), tmp_path / "mip", data, tmp_path / "student")


@pytest.mark.parametrize("name", list(METHODS))
def test_configs_survive_the_way_through_run_json(name):
    config = small(name)
    data = json.loads(json.dumps(method_to_json(config)))
    assert method_from_json(data, "") == config


def test_runs_from_before_the_table_are_read():
    """Their method has no kind and lacks the options that came later."""
    options = {key: value for key, value in method_to_json(ONEDP_S.config).items() if key not in ("kind", "divergence")}
    assert method_from_json(options, "onedp") == ONEDP_S.config
    with pytest.raises(OneDPError, match=r"Unknown method 'onedq'\. Did you mean 'onedp'\?"):
        method_from_json({"kind": "onedq"}, "onedp")


def test_names_are_checked_against_the_verb():
    assert "onedp-s" in method_names(teacher=True)
    assert "denoising" in method_names(teacher=False)
    with pytest.raises(OneDPError, match="one of another verb: onedp train --method mip"):
        method_entry("mip", teacher=True)
    with pytest.raises(OneDPError, match=r"Unknown method 'onedp-x'\. Did you mean 'onedp-[sd]'"):
        method_entry("onedp-x", teacher=True)
    with pytest.raises(OneDPError, match="Unknown preset of sid 'paper'"):
        recipe("sid", "paper")


@pytest.mark.parametrize("sampler", [Ddpm(10), Ddim(10, noise_scale=0.0)], ids=lambda each: each.label)
def test_a_teacher_without_one_solution_for_each_noise_is_no_regression_target(sampler):
    with pytest.raises(OneDPError, match=f"deterministic sampler that reads noise .*, not {sampler.label}: a solution"):
        require_deterministic(sampler.draws, sampler.label)


def test_rates_fall_with_the_root_of_the_weights_and_phases_with_the_steps():
    small_config, large = fitted(ONEDP_S, 120, 4_500_000), fitted(ONEDP_S, 120, 20_000_000)
    assert isinstance(small_config, OneDpConfig)
    assert isinstance(large, OneDpConfig)
    assert small_config.generator == ONEDP_S.config.generator  # type: ignore[attr-defined]
    assert large.generator.lr == pytest.approx(small_config.generator.lr / 2)
    assert large.tracker.lr == pytest.approx(small_config.tracker.lr / 2)
    assert (small_config.regression_steps, small_config.tracker_warmup) == (101, 4)
    assert fitted(ONEDP_S, 120, 20_000_000, lr=1e-3).generator.lr == 1e-3  # type: ignore[attr-defined]
    paper = METHODS["onedp-s"].presets["paper"]
    assert fitted(paper, 8000, 256_000_000) == paper.config


def test_the_recommended_recipe_follows_the_teachers_process():
    ddpm, edm = recipe("onedp", process="ddpm"), recipe("onedp", process="edm")
    assert recipe("onedp") == ddpm
    assert isinstance(ddpm.config, OneDpConfig)
    assert isinstance(edm.config, OneDpConfig)
    assert (ddpm.config.regression_sampler, edm.config.regression_sampler) == (None, "fine")
    shorter, student = fitted(ddpm, ONEDP_S.steps), fitted(ONEDP_S, ONEDP_S.steps)
    assert isinstance(student, OneDpConfig)
    gentler = dataclasses.replace(student.regression, lr=student.regression.lr / 2)
    assert shorter == dataclasses.replace(student, regression=gentler)  # onedp-s for longer, at half of this rate
    assert recipe("onedp-s", process="edm") == ONEDP_S
    assert recipe("onedp", "paper", "edm") == recipe("onedp-s", "paper")


def test_a_config_is_what_it_was_before_it_got_a_field_that_it_does_not_use():
    """So that runs and results of before are found."""
    plain = OneDpConfig()
    later = {"regression_weight", "warm_start", "matching_noise", "noise_gain_lr"}
    assert not (later | {"pair_noise_scale", "unexecuted_weight"}) & set(method_to_json(plain))
    kept = OneDpConfig(regression_pairs=5, regression_weight=0.5)
    assert method_to_json(kept)["regression_weight"] == 0.5
    for config in (plain, kept):
        assert method_from_json(method_to_json(config), "onedp") == config
    assert method_identity(plain) == method_to_json(plain)
    assert method_identity(OneDpConfig(normalize_gradient=True))["normalized_gradient"] == 2  # its formula changed
