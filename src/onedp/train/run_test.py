"""Whole runs: a killed one continues to the very same policy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from onedp.errors import OneDPError
from onedp.methods.config import DenoisingConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.nets.config import MlpConfig
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.run import distill_student, resume_run, train_teacher

LOOP = LoopConfig(steps=4, batch_size=8, log_every=1, diagnose_every=2, checkpoint_every=1, cpu=True)
NETWORK = MlpConfig(width=16, blocks=1, step_embed_dim=8)


def weights(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / "policy" / "weights.safetensors")


def test_a_killed_teacher_run_resumes_to_the_same_policy(tmp_path: Path, demonstrations: Path) -> None:
    run = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), NETWORK, LOOP, mirror=True)
    train_teacher(run, tmp_path / "whole" / "run")
    assert train_teacher(run, tmp_path / "parts" / "run", stop_after=2) is None
    begun = json.loads((tmp_path / "parts" / "run" / "run.json").read_text())
    assert not (tmp_path / "parts" / "run" / "policy").exists()
    policy = resume_run(tmp_path / "parts" / "run", "TeacherRun")
    assert policy is not None
    assert policy.provenance["command"] == begun["command"]
    whole, parts = weights(tmp_path / "whole" / "run"), weights(tmp_path / "parts" / "run")
    assert {name for name in whole if not np.array_equal(whole[name], parts[name])} == set()


def test_a_killed_student_run_resumes_to_the_same_policy(tmp_path: Path, demonstrations: Path) -> None:
    run = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), NETWORK, LOOP)
    train_teacher(run, tmp_path / "teacher")
    method = OneDpConfig(regression_steps=1, regression_pairs=20)
    student = StudentRun(str(tmp_path / "teacher"), demonstrations, method, LOOP)
    distill_student(student, tmp_path / "whole" / "run")
    distill_student(student, tmp_path / "parts" / "run", stop_after=2)
    resume_run(tmp_path / "parts" / "run", "StudentRun")
    whole, parts = weights(tmp_path / "whole" / "run"), weights(tmp_path / "parts" / "run")
    assert {name for name in whole if not np.array_equal(whole[name], parts[name])} == set()


def test_resuming_with_the_other_verb_or_nothing_to_resume_is_explained(tmp_path: Path, demonstrations: Path) -> None:
    run = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), NETWORK, LOOP)
    train_teacher(run, tmp_path / "run", stop_after=1)
    with pytest.raises(OneDPError, match=r"is a run of the other kind\. Continue it with: onedp train --resume"):
        resume_run(tmp_path / "run", "StudentRun")
    with pytest.raises(OneDPError, match="holds no run to resume"):
        resume_run(tmp_path, "TeacherRun")


def test_a_warm_up_longer_than_the_run_is_refused(tmp_path: Path, demonstrations: Path) -> None:
    run = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), NETWORK, LOOP)
    train_teacher(run, tmp_path / "teacher")
    for method, message in (
        (OneDpConfig(regression_steps=2, regression_pairs=20, tracker_warmup=2), "leave none of the 4 steps for"),
        (OneDpConfig(level_low=97), r"end \(95\) below their start \(97\)"),
        (OneDpConfig(level_high=100), "must be steps of the process: 0 to 99"),
        (OneDpConfig(regression_steps=1, regression_pairs=9, regression_sampler="ddpm:4"), "deterministic sampler"),
    ):
        with pytest.raises(OneDPError, match=message):
            distill_student(StudentRun(str(tmp_path / "teacher"), demonstrations, method, LOOP), tmp_path / "student")
    with pytest.raises(OneDPError, match=r"end \(2\) below their start \(5\)"):
        OneDpConfig(level_low=5, level_high=2)
