"""Pictures are encoded once a frame, and reduced precision is written only when it acts as float32."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from onedp.backends import load_backend
from onedp.backends.policy import FEATURES
from onedp.backends.runtimes import usable_runtimes
from onedp.cli.main import main
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import Ddim, OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import OneDPError
from onedp.evaluate.fake_results_test import fake_evaluation
from onedp.evaluate.results import EpisodeResult, EvaluationResult
from onedp.evaluate.runner import EvaluationRequest, evaluate
from onedp.export import export as export_module
from onedp.export.export import export_policy
from onedp.export.gate import (
    FEWEST_STARTS,
    GateReport,
    gate_lines,
    heldout_gate,
    judge_actions,
    judge_scores,
    paired_gate,
)
from onedp.export.reference import Recorded
from onedp.nets.build import build_denoiser
from onedp.nets.config import ImageEncoderConfig, UnetConfig
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.tasks.recorded import reading_task
from onedp.types import FieldSpec, PolicySpec, episode_noise

SPEC = PolicySpec(
    observations=(FieldSpec("side.view", (40, 44, 3), "1", "uint8"), FieldSpec("where", (3,), "m")),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    rate_hz=10.0,
    horizon=8,
    n_obs_steps=2,
    n_action_steps=4,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with an image ``policy``, its float32 ONNX export ``out`` and windows of observations."""
    folder = tmp_path_factory.mktemp("images")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    frames = observe(30, rng)
    arrays = {name: values[:, 0] for name, values in frames.items()}
    arrays["action"] = rng.uniform(-1, 1, (30, 2)).astype(np.float32)
    network = UnetConfig(channels=(8, 16), step_embed_dim=8, kernel_size=3, n_groups=4)
    encoder = ImageEncoderConfig(keypoints=4, crop=(36, 36))
    denoiser = build_denoiser(network, SPEC, CosineDdpm(), "x0", encoder).requires_grad_(False).eval()
    policy = TorchPolicy(
        name="p", spec=SPEC, task="", denoiser=denoiser, sampler=OneStep(65.0), network=network, encoder=encoder,
        normalizer=fit_normalizer(arrays, SPEC), provenance={}, device=torch.device("cpu"),
    )  # fmt: skip
    save_policy(folder / "policy", policy)
    export_policy(folder / "policy", "onnx", folder / "out", recorded=Recorded("frames", frames))
    return folder, frames


def observe(count, rng):
    """Pictures with a bright spot, so that features differ."""
    pictures = rng.integers(0, 60, (count, 2, 40, 44, 3), dtype=np.uint8)
    for row, (y, x) in enumerate(rng.integers(4, 30, (count, 2))):
        pictures[row, :, y : y + 8, x : x + 8] = 250
    return {"side.view": pictures, "where": rng.normal(0, 1, (count, 2, 3)).astype(np.float32)}


def noise_of(policy, count):
    return np.stack([episode_noise(row, 0, policy.noise_shape) for row in range(count)])


def counted(backend):
    """The backend with a list of how many pictures its encoder was given, call by call."""
    calls = []
    (camera,) = backend.encoders
    original = backend.encoders[camera]

    def encode(inputs):
        calls.append(len(inputs["pictures"]))
        return original(inputs)

    return replace(backend, encoders={camera: encode}), calls


def test_the_encoder_runs_once_for_every_new_frame(exported):
    folder, frames = exported
    backend, calls = counted(load_backend(folder / "out"))
    torch_policy = load_policy(folder / "policy")
    torch_calls = []
    encoder: Any = torch_policy.denoiser.encoder
    encoder.rgb_encoder[0].register_forward_hook(lambda *_: torch_calls.append(1))
    uncached = replace(torch_policy, seen=None)
    film, poses = frames["side.view"][:5, 0], frames["where"][:1]
    answers = []
    for newest in range(1, 5):
        obs = {"side.view": film[None, newest - 1 : newest + 1], "where": poses}
        answers.append(backend.infer(obs, noise_of(backend, 1)))
        seen = len(torch_calls)
        mine = torch_policy.infer(obs, noise_of(backend, 1))
        assert len(torch_calls) - seen == (2 if newest == 1 else 1)
        np.testing.assert_allclose(mine, uncached.infer(obs, noise_of(backend, 1)), atol=1e-5)
        np.testing.assert_allclose(mine, answers[-1], atol=1e-4)
        fresh = load_backend(folder / "out")
        np.testing.assert_array_equal(answers[-1], fresh.infer(obs, noise_of(backend, 1)))  # whatever was seen before
    assert calls == [1] * 5
    assert np.ptp([answer.mean() for answer in answers]) > 1e-4  # pictures matter


def test_the_model_takes_features_in_place_of_pictures(exported):
    folder, _ = exported
    manifest = load_backend(folder / "out").manifest
    assert manifest.encoders == {"side.view": "encoder-0.onnx"}
    assert set(manifest.files) == {"policy.onnx", "encoder-0.onnx"}
    import onnx

    names = [item.name for item in onnx.load(folder / "out" / "policy.onnx").graph.input]
    assert names == [FEATURES + "side.view", "where", "noise"]


def report(passed, value=-0.01):
    return GateReport("difference", value, (value - 0.01, value + 0.01), -0.03, passed, 500, {"score": 0.9})


def test_int8_is_written_when_the_gate_opens(exported, tmp_path):
    folder, frames = exported
    folders = []

    def gate(reduced, full):
        folders.extend([reduced, full])
        precisions = [load_backend(each).manifest.precision for each in (reduced, full)]
        assert precisions == ["int8", "float32"]
        return report(True)

    recorded = Recorded("frames", frames)
    manifest = export_policy(
        folder / "policy", "onnx", tmp_path / "out", recorded=recorded, precision="int8", gate=gate
    )
    assert manifest.gate is not None
    assert manifest.gate["cases"] == 500
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["gate"]["passed"] is True
    assert "difference is -0.0100 [-0.0200, +0.0000] over 500" in (tmp_path / "out" / "README.md").read_text()
    obs = {name: values[:4] for name, values in frames.items()}
    for runtime in usable_runtimes("policy.onnx", "int8"):
        reduced, full = load_backend(tmp_path / "out", runtime), load_backend(folder / "out", runtime)
        mine, theirs = (each.infer(obs, noise_of(full, 4)) for each in (reduced, full))
        assert 1e-4 < np.abs(mine - theirs).max() < 0.7
    size = [(each / "out" / "encoder-0.onnx").stat().st_size for each in (tmp_path, folder)]
    assert size[0] < 0.4 * size[1]


def test_a_shut_gate_leaves_nothing(exported, tmp_path):
    folder, frames = exported
    options: dict[str, Any] = {"recorded": Recorded("frames", frames), "precision": "int8"}
    with pytest.raises(OneDPError, match=r"int8 does not act as float32: difference is -0.0500 \[-0.0600, -0.0400\]"):
        export_policy(folder / "policy", "onnx", tmp_path / "out", gate=lambda *_: report(False, -0.05), **options)
    with pytest.raises(OneDPError, match="An export in int8 needs a gate"):
        export_policy(folder / "policy", "onnx", tmp_path / "out", **options)
    with pytest.raises(OneDPError, match="int8 takes its ranges from real observations: give a data set with --data"):
        export_policy(folder / "policy", "onnx", tmp_path / "out", precision="int8", gate=lambda *_: report(True))
    assert list(tmp_path.iterdir()) == []


def test_bf16_is_for_processors_that_have_it(exported, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    folder, frames = exported
    options: dict[str, Any] = {
        "recorded": Recorded("frames", frames),
        "precision": "bfloat16",
        "gate": lambda *_: report(True),
    }
    monkeypatch.setattr(export_module, "processor_has_bfloat16", lambda: False)
    with pytest.raises(OneDPError, match="This processor does not compute in bf16"):
        export_policy(folder / "policy", "openvino", tmp_path / "out", **options)
    monkeypatch.setattr(export_module, "processor_has_bfloat16", lambda: True)
    export_policy(folder / "policy", "openvino", tmp_path / "out", **options)
    backend = load_backend(tmp_path / "out")
    assert (backend.runtime, backend.manifest.precision) == ("openvino", "bfloat16")
    with pytest.raises(OneDPError, match=r"'onnxruntime' reads .onnx, not policy.xml"):
        load_backend(tmp_path / "out", "onnxruntime")


def scored(scores):
    """An evaluation with these scores."""
    return EvaluationResult.from_episodes(
        [EpisodeResult(200_000 + i, float(score), False, 100) for i, score in enumerate(scores)],
        **{name: getattr(fake_evaluation(episodes=2), name) for name in GIVEN},
    )


COMPUTED = {"episodes", "first_seed", "score_mean", "score_ci95", "success_rate", "success_ci95", "per_episode"}
GIVEN = {field.name for field in dataclasses.fields(EvaluationResult)} - COMPUTED


def test_scores_decide_by_the_lower_end_of_the_paired_interval():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 0.9, 500)
    reference = scored(base)
    for loss, passed in ((0.0, True), (0.02, True), (0.05, False)):
        candidate = scored(base - loss + rng.normal(0, 0.02, 500))
        verdict = judge_scores(candidate, reference)
        assert verdict.passed == passed == (verdict.ci95[0] >= -0.03)
        assert verdict.value == pytest.approx(-loss, abs=0.005)
        assert verdict.cases == 500
        assert json.dumps(verdict.to_json(), allow_nan=False)
    with pytest.raises(OneDPError, match=f"--gate-episodes is 100; the gate asks for at least {FEWEST_STARTS} starts"):
        paired_gate(lambda *_: reference, 100)


def test_a_gate_that_opens_still_says_that_fewer_episodes_finish():
    """int8 of the shipped student kept its score and lost 0.16 of its successes."""
    details = {"success_difference": -0.16, "success_difference_ci95": [-0.2, -0.12]}
    gate = GateReport("paired difference of the score", -0.01, (-0.02, 0.001), -0.03, True, 500, details).to_json()
    assert gate_lines(gate) == [
        "paired difference of the score -0.0100 [-0.0200, +0.0010] over 500, limit -0.03",
        "success rate -0.160 [-0.200, -0.120]",
        "it finishes less often than float32: where precise finishes matter, stay with fp32",
    ]
    details["success_difference_ci95"] = [-0.2, 0.01]
    assert len(gate_lines(gate | {"details": details})) == 2
    assert len(gate_lines(gate | {"details": {}})) == 1  # held-out observations


class Shifted:
    spec = SPEC
    noise_shape = (1, 8, 2)
    nfe = 1

    def __init__(self, shift):
        self.shift = shift

    def infer(self, obs, noise):
        return noise[:, 0, :7] + np.float32(self.shift)


def test_actions_decide_without_an_environment():
    obs = {"where": np.zeros((40, 2, 3), dtype=np.float32)}
    width, episode = np.array([2.0, 2.0]), np.repeat(np.arange(5), 8)
    for shift, passed in ((0.02, True), (0.1, False), (np.nan, False)):
        verdict = judge_actions(Shifted(shift), Shifted(0.0), obs, width, episode)
        assert verdict.passed == passed
        json.dumps(verdict.to_json(), allow_nan=False)
    assert judge_actions(Shifted(0.02), Shifted(0.0), obs, width, episode).value == pytest.approx(0.01, rel=1e-3)


class WrongInOneEpisode(Shifted):
    """Twice the limit off where the first coordinate is 1."""

    def infer(self, obs, noise):
        return noise[:, 0, :7] + np.float32(0.08) * obs["where"][:, 1:2, :1]


def test_one_episode_is_one_witness_however_many_observations_it_gives():
    """The mean over all observations is below the limit; over episodes the interval reaches above it."""
    episode = np.repeat(np.arange(6), [5, 19, 19, 19, 19, 19])
    obs = {"where": np.zeros((100, 2, 3), dtype=np.float32)}
    obs["where"][episode == 0] = 1
    verdict = judge_actions(WrongInOneEpisode(0), Shifted(0.0), obs, np.array([2.0, 2.0]), episode)
    assert verdict.value < 0.02 < verdict.ci95[1]
    assert (verdict.passed, verdict.cases, verdict.details["episodes"]) == (False, 100, 6)


@pytest.mark.parametrize(
    ("episodes", "steps", "message"),
    [
        (30, 200, "from 1 episodes in all; the gate asks for at least 100 observations from 5"),
        (10, 6, "gives 60 observations of all 10 episodes"),
        (10, 12, None),
    ],
)
def test_few_heldout_observations_are_no_gate(exported, tmp_path, episodes, steps, message):
    folder, _ = exported
    frames = observe(episodes * steps, np.random.default_rng(1))
    ends = steps * np.arange(1, episodes + 1)
    np.savez(tmp_path / "data.npz", episode_ends=ends, **{name: values[:, 0] for name, values in frames.items()})
    gate = heldout_gate(tmp_path / "data.npz", reading_task("", SPEC, {}))
    if message is None:
        verdict = gate(folder / "out", folder / "out")
        assert (verdict.passed, verdict.cases, verdict.details["episodes"]) == (True, 120, 10)
        return
    with pytest.raises(OneDPError, match=message):
        gate(folder / "out", folder / "out")


def test_what_is_not_ours_in_an_export_is_not_replaced(exported, tmp_path):
    folder, frames = exported
    export_policy(folder / "policy", "onnx", tmp_path / "out", recorded=Recorded("frames", frames))
    export_policy(folder / "policy", "onnx", tmp_path / "out", recorded=Recorded("frames", frames))
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(OneDPError, match=r"holds what no export wrote: mine\.txt. Move it, or choose another --out"):
        export_policy(folder / "policy", "onnx", tmp_path / "out", recorded=Recorded("frames", frames))


def test_an_export_is_evaluated_as_a_policy(tmp_path):
    pytest.importorskip("gym_pusht")
    export_policy("pusht-keypoints-onedp-s", "onnx", tmp_path / "out")
    result = evaluate(EvaluationRequest(str(tmp_path / "out"), None, None, episodes=2, first_seed=200_000, workers=1))
    original = evaluate(EvaluationRequest("pusht-keypoints-onedp-s", None, None, 2, 200_000, workers=1))
    assert result.policy == "pusht-keypoints-onedp-s-onnxruntime-float32"
    assert (result.passes_counted, result.nfe, result.weights_digest) == (None, 1, original.weights_digest)
    assert result.parameters == original.parameters
    assert result.scores == pytest.approx(original.scores, abs=0.2)
    with pytest.raises(OneDPError, match="its sampler is part of it"):
        evaluate(EvaluationRequest(str(tmp_path / "out"), "ddim:3", None, 2, 200_000, workers=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "fp8"], "Unknown precision 'fp8'"),
        (["--precision", "int8", "--to", "lerobot"], "LeRobot's policies are float32. Use --precision fp32, or --to"),
        (["--precision", "int8", "--gate-episodes", "20"], "has no task to be evaluated on"),
    ],
)
def test_command_line_errors(exported, tmp_path, capsys, arguments, message):
    folder, _ = exported
    with pytest.raises(SystemExit) as stop:
        main(["export", str(folder / "policy"), "--out", str(tmp_path / "out"), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_int8_is_for_one_pass(exported, tmp_path):
    folder, frames = exported
    policy = replace(load_policy(folder / "policy"), sampler=Ddim(2), seen=None)
    save_policy(tmp_path / "teacher", policy)
    with pytest.raises(OneDPError, match="int8 is for policies of one network pass"):
        export_policy(
            tmp_path / "teacher", "onnx", tmp_path / "out", recorded=Recorded("frames", frames), precision="int8",
            gate=lambda *_: report(True),
        )  # fmt: skip
