"""Training on other people's data, pictures among them: small, but all the way to a policy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from onedp.data.config import ReadingConfig, RecordedConfig
from onedp.data.fake_sets_test import SIZE, lerobot_v3, robomimic
from onedp.errors import DataError, TrainingError
from onedp.export.reference import WINDOWS, recorded_observations
from onedp.methods.config import DenoisingConfig, EmaConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.nets.config import ImageEncoderConfig, MlpConfig
from onedp.nets.encoder_choice import usual_encoder
from onedp.policy import load_policy
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.data import teacher_data
from onedp.train.run import distill_student, resume_run, train_teacher

LOOP = LoopConfig(steps=3, batch_size=4, log_every=1, diagnose_every=3, checkpoint_every=1, cpu=True, threads=1)


def run_on(path: Path, threads: int = 2) -> TeacherRun:
    return TeacherRun(
        task="recorded",
        data=path,
        method=DenoisingConfig(),
        network=MlpConfig(width=16, blocks=1),
        loop=dataclasses.replace(LOOP, loader_threads=threads),
        encoder=ImageEncoderConfig(keypoints=4, crop=(28, 40)),
    )


def test_pictures_from_a_video_to_a_student(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights are the same whatever the loader's threads, the frame cache and an interruption."""
    data = lerobot_v3(tmp_path / "set")
    teacher = train_teacher(run_on(data), tmp_path / "teacher")
    assert teacher is not None
    assert "Pictures: the loader makes" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "teacher" / "metrics.jsonl").read_text().splitlines()]
    assert {"loader/windows_per_s", "loader/training_windows_per_s", "loader/waiting_share"} <= set(lines[0])
    cached = dataclasses.replace(run_on(data, threads=0), reading=ReadingConfig(frame_cache=tmp_path / "cache"))
    train_teacher(cached, tmp_path / "again", stop_after=1)
    resume_run(tmp_path / "again", "TeacherRun")
    first, again = (load_file(tmp_path / name / "policy" / "weights.safetensors") for name in ("teacher", "again"))
    assert all(torch.equal(value, again[name]) for name, value in first.items())

    config = OneDpConfig(variant="s", regression_steps=1, regression_pairs=6, tracker_warmup=1, ema=EmaConfig(0.9))
    distill_student(StudentRun(str(tmp_path / "teacher"), data, config, LOOP), tmp_path / "student")
    student = load_policy(tmp_path / "student" / "policy")
    assert (student.nfe, student.task) == (1, "")
    real = recorded_observations(tmp_path / "student", data)  # what an export is checked on
    assert real is not None
    assert real.windows["observation.images.top"].shape == (WINDOWS, 2, *SIZE, 3)
    obs = student.spec.fake_observation(2, np.random.default_rng(0))
    assert obs["observation.images.top"].shape == (2, 2, *SIZE, 3)
    assert student.infer(obs, np.zeros((2, *student.noise_shape), np.float32)).shape == (2, 15, 2)


def test_split_and_scaling(tmp_path: Path) -> None:
    """The usual crop is 7/8, and pictures keep their scaling whatever the numbers have."""
    run = dataclasses.replace(
        run_on(robomimic(tmp_path / "d.hdf5")),
        encoder=None,
        normalization="mean_std",
        reading=ReadingConfig(split="train"),
    )
    data = teacher_data(run)
    assert len(data.episodes) == 2
    assert usual_encoder(data.task.spec) == data.encoder == ImageEncoderConfig(crop=(28, 42))
    assert data.normalizer.modes == {"robot0_eef_pos": "mean_std", "top_image": "min_max", "action": "mean_std"}
    batch = data.windows.batch(torch.arange(15), torch.device("cpu"), np.random.default_rng(0))
    assert batch.nobs["top_image"].shape == (15, 2, 28, 42, 3)
    newest = batch.nobs["robot0_eef_pos"][:, -1]
    torch.testing.assert_close(newest.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(newest.std(dim=0, unbiased=False), torch.ones(3))


def test_actions_that_never_move_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "still.npz"
    state = np.random.default_rng(0).uniform(50, 450, (40, 5)).astype(np.float32)
    np.savez(path, state=state, action=np.full((40, 2), 200.0, np.float32), episode_ends=np.array([40]))
    run = dataclasses.replace(run_on(path), task="pusht-keypoints", encoder=None)
    with pytest.raises(DataError, match=r"'action' is the same in all 40 steps, so there is nothing to learn"):
        teacher_data(run)


def test_a_teacher_does_not_learn_from_roll_outs(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "lost.hdf5")
    with h5py.File(path, "a") as file:
        file["data"].attrs.update({"policy": "student (one-step)", "collected": '{"policy": "student"}'})
    with pytest.raises(
        DataError, match=r"holds roll-outs of student \(one-step\), its failures.*distill TEACHER --beside"
    ):
        teacher_data(run_on(path))


def test_a_task_of_the_table_says_itself_where_its_quaternions_are(tmp_path: Path) -> None:
    run = dataclasses.replace(
        run_on(tmp_path / "d.npz"), task="pusht-state", recorded=RecordedConfig(quaternions=("state:0",))
    )
    with pytest.raises(TrainingError, match=r"'pusht-state' says itself where quaternions are; --quaternions is for"):
        teacher_data(run)
