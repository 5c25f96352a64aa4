"""Distilling on several recordings: counted together, continued as one, and the same as before without."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from onedp.data.config import ReadingConfig
from onedp.data.fake_sets_test import robomimic
from onedp.data.lazy import LazyArray
from onedp.methods.config import DenoisingConfig, EmaConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.nets.config import ImageEncoderConfig, MlpConfig
from onedp.policy import TorchPolicy
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.data import data_provenance, student_observations
from onedp.train.run import distill_student, resume_run, train_teacher

LOOP = LoopConfig(steps=3, batch_size=4, log_every=1, diagnose_every=3, checkpoint_every=1, cpu=True, threads=1)
METHOD = OneDpConfig(variant="s", regression_steps=1, regression_pairs=6, tracker_warmup=1, ema=EmaConfig(0.9))
NETWORK = MlpConfig(width=8, blocks=1, step_embed_dim=8)


@pytest.fixture
def teacher(demonstrations: Path, tmp_path: Path) -> TorchPolicy:
    run = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), NETWORK, LOOP)
    policy = train_teacher(run, tmp_path / "teacher")
    assert policy is not None
    return policy


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """One more episode, of 20 steps."""
    path = tmp_path / "lost.npz"
    state = np.random.default_rng(1).uniform(100, 400, (20, 5)).astype(np.float32)
    np.savez(path, state=state, episode_ends=[20])
    return path


def test_quantities_and_digest_are_of_all(teacher: TorchPolicy, demonstrations: Path, lost: Path) -> None:
    alone = StudentRun("teacher", demonstrations, METHOD, LOOP)
    twice = dataclasses.replace(alone, beside=(demonstrations,))
    three = dataclasses.replace(alone, beside=(demonstrations, lost))
    found = [data_provenance(student_observations(run, teacher), None) for run in (alone, twice, three)]
    assert [(each["data_episodes"], each["data_steps"]) for each in found] == [(2, 60), (4, 120), (5, 140)]
    assert len({each["data_digest"] for each in found}) == 3
    both = student_observations(dataclasses.replace(alone, beside=(lost,)), teacher)
    assert both.ends.tolist() == [30, 60, 80]
    last = student_observations(dataclasses.replace(alone, data=lost), teacher)
    np.testing.assert_array_equal(both.episode(2)["keypoints"], last.dense("keypoints"))
    assert (both.source.count("demonstrations.npz"), both.source.count("lost.npz")) == (1, 1)


def test_an_interrupted_run_goes_on_with_both(
    teacher: TorchPolicy, demonstrations: Path, lost: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = StudentRun(str(tmp_path / "teacher"), demonstrations, METHOD, LOOP, beside=(Path("lost.npz"),))
    distill_student(run, tmp_path / "whole")
    distill_student(run, tmp_path / "stopped", stop_after=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume_run(tmp_path / "stopped", "StudentRun") is not None
    whole, stopped = (load_file(tmp_path / name / "policy" / "weights.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(values, stopped[name]) for name, values in whole.items())
    provenance = json.loads((tmp_path / "stopped" / "policy" / "provenance.json").read_text())
    assert (provenance["run"]["data"], provenance["run"]["beside"]) == ("demonstrations.npz", ["lost.npz"])
    assert provenance["data_steps"] == 80
    assert provenance["run"]["data_digest"] == provenance["data_digest"]
    assert str(tmp_path) not in json.dumps(provenance["run"])


def test_runs_without_have_the_identity_that_they_always_had(
    teacher: TorchPolicy, demonstrations: Path, tmp_path: Path
) -> None:
    run = StudentRun(str(tmp_path / "teacher"), demonstrations, METHOD, LOOP)
    distill_student(run, tmp_path / "student", stop_after=1)
    record = json.loads((tmp_path / "student" / "run.json").read_text())
    assert "beside" not in record["identity"]
    del record["run"]["beside"]  # as written before there was the option
    (tmp_path / "student" / "run.json").write_text(json.dumps(record))
    assert resume_run(tmp_path / "student", "StudentRun") is not None


def test_pictures_stay_on_disk_and_the_split_is_of_the_data_alone(tmp_path: Path) -> None:
    data = robomimic(tmp_path / "d.hdf5")
    encoder = ImageEncoderConfig(keypoints=4, crop=(28, 40))
    run = TeacherRun("recorded", data, DenoisingConfig(), NETWORK, LOOP, encoder=encoder)
    teacher = train_teacher(run, tmp_path / "teacher")
    assert teacher is not None
    student = StudentRun("t", data, METHOD, LOOP, reading=ReadingConfig(split="train"), beside=(data,))
    episodes = student_observations(student, teacher)
    assert len(episodes) == 2 + 3
    pictures = episodes.arrays["top_image"]
    assert isinstance(pictures, LazyArray)
    alone = student_observations(dataclasses.replace(student, reading=ReadingConfig(), beside=()), teacher)
    np.testing.assert_array_equal(pictures[episodes.n_steps - alone.n_steps :], alone.arrays["top_image"][:])
