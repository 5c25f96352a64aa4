"""A run that stops by itself keeps its best result, exactly, and over a resume too."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.numpy import load_file

from onedp.errors import OneDPError, TrainingError
from onedp.methods.config import DenoisingConfig
from onedp.methods.method import Method
from onedp.methods.onedp import OneDp
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.table import recipe
from onedp.nets.config import MlpConfig
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.metrics import read_metrics
from onedp.train.run import distill_student, resume_run, train_teacher
from onedp.train.stopping import LOOKS, BestSoFar, best_so_far

NETWORK = MlpConfig(width=16, blocks=1, step_embed_dim=8)
METHOD = OneDpConfig(regression_steps=3, regression_pairs=20)
DISTANCES = [0.1, 0.1, 0.1, 0.5, 0.4, 0.4, 0.3, 0.6, 0.3, 0.2]
"""Diagnosed after each step. The first three are those of the regression phase."""


def loop(steps: int, patience: int | None = None) -> LoopConfig:
    return LoopConfig(
        steps, batch_size=8, log_every=1, diagnose_every=1, checkpoint_every=1, cpu=True, patience=patience
    )


@pytest.fixture
def distil(demonstrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs with made-up diagnostics; the second argument may stop them early."""
    teacher = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), NETWORK, loop(2))
    train_teacher(teacher, tmp_path / "teacher")
    seen: list[float] = []

    def diagnose(self: OneDp, *_: object) -> dict[str, float]:
        seen.append(DISTANCES[len(seen) % len(DISTANCES)])
        return {"energy_distance": seen[-1]}

    monkeypatch.setattr(OneDp, "diagnose", diagnose)

    def run(name: str, config: LoopConfig, stop_after: int | None = None):
        seen.clear()
        student = StudentRun(str(tmp_path / "teacher"), demonstrations, METHOD, config)
        return distill_student(student, tmp_path / name, stop_after=stop_after), tmp_path / name

    return run


def weights(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / "policy" / "weights.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_it_stops_when_nothing_falls_and_keeps_the_best(distil, tmp_path, capsys) -> None:
    policy, out = distil("patient", loop(10, patience=2))
    assert policy is not None
    # 0.5, 0.4, then 0.4 (no better), 0.3, then 0.6 and 0.3
    assert policy.provenance["best_step"] == 7
    assert policy.provenance["final_diagnostics"] == {"energy_distance": 0.3}
    assert policy.provenance["last_step"] == 9 == read_metrics(out / "metrics.jsonl")[-1]["step"]
    assert "did not fall in the last 2 diagnoses" in capsys.readouterr().out
    _, whole = distil("whole", loop(10))
    distil("first-seven", loop(10), stop_after=7)
    seventh = load_file(tmp_path / "first-seven" / "checkpoint" / "state.safetensors")
    assert same(weights(out), {name: seventh[f"network/generator/{name}"] for name in weights(out)})
    assert not same(weights(out), weights(whole))


def test_a_run_that_diagnoses_nothing_else_looks_often_enough_to_stop(distil) -> None:
    policy, _ = distil("patient", replace(loop(10, patience=2), diagnose_every=1000))
    assert policy is not None  # looks after steps 4 to 10, at 0.1, 0.1 (no better), 0.1
    assert (policy.provenance["best_step"], policy.provenance["last_step"]) == (4, 6)


def test_what_is_diagnosed_beside_is_not_judged(distil, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "DISTANCES", [0.5])
    policy, _ = distil("patient", loop(43, patience=3))  # 40 steps of matching, so each second one is judged
    assert policy is not None
    assert (policy.provenance["best_step"], policy.provenance["last_step"]) == (5, 11)


@pytest.mark.parametrize("method", ["onedp", "onedp-s", "onedp-d", "regression", "consistency-policy"])
def test_the_last_phase_of_every_recipe_is_looked_at_often(method: str) -> None:
    """A patience of a few must be able to run out: the matching of ``onedp`` has an eighth of its steps."""
    preset = recipe(method, process="ddpm")
    settled = getattr(preset.config, "regression_steps", 0) + getattr(preset.config, "tracker_warmup", 0)
    stub = Mock(spec=Method, measure="energy_distance", settled_step=settled)
    best = best_so_far(stub, loop(preset.steps, patience=3))
    assert best is not None
    assert sum(best.wants(step) for step in range(1, preset.steps + 1)) >= LOOKS
    assert not any(best.wants(step) for step in range(1, settled + 1))


@pytest.mark.parametrize("killed", [2, 5, 8])
def test_a_killed_run_resumes_to_the_same_best(distil, killed: int) -> None:
    _, whole = distil("whole", loop(10, patience=2))
    nothing, parts = distil("parts", loop(10, patience=2), stop_after=killed)
    assert nothing is None
    policy = resume_run(parts, "StudentRun")  # the made-up diagnostics go on where they were
    assert policy is not None
    assert policy.provenance["best_step"] == 7
    assert same(weights(whole), weights(parts))


def test_only_what_falls_is_better_and_what_is_not_a_number_stops_the_run() -> None:
    best = BestSoFar(patience=3, measure="distance", from_step=0)

    def look(step: int, value: float) -> None:
        best.look(step, {"distance": value}, {"w": torch.tensor(float(step))}, Accelerator(cpu=True))

    for step, value in enumerate((2.0, 1.0, 1.0, 1.5), start=1):
        look(step, value)
    assert (best.step, best.value, best.not_better, float(best.weights["w"])) == (2, 1.0, 2, 2.0)
    assert not best.ended
    with pytest.raises(TrainingError, match="distance is not a number after step 5: the student has diverged"):
        look(5, math.nan)


def test_patience_that_cannot_be_meant(demonstrations: Path, tmp_path: Path) -> None:
    with pytest.raises(OneDPError, match="patience must be at least 1"):
        loop(3, patience=0)
    run = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), NETWORK, loop(2, patience=1))
    with pytest.raises(TrainingError, match="no held-out measure to stop by; leave out --patience"):
        train_teacher(run, tmp_path / "teacher")
    assert not (tmp_path / "teacher/run.json").exists()  # without the option the same folder is free
