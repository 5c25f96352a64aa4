"""What ``onedp distill`` does when it is told nothing but a teacher."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro

from onedp.cli.distill import Distill
from onedp.methods.config import DenoisingConfig
from onedp.methods.table import recipe
from onedp.nets.config import MlpConfig
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.run import train_teacher


@pytest.mark.parametrize("process", ["ddpm", "edm"])
def test_the_recommended_recipe_of_the_teachers_process_is_the_default(process: str):
    options = Distill(teacher=f"pusht-keypoints-{process}", out=Path("student"))
    assert options.teacher_process() == process
    run = options.student_run(Path("data.npz"), process=options.teacher_process())
    assert run.method == recipe("onedp", process=process).config
    assert run.loop.steps == recipe("onedp").steps


@pytest.mark.parametrize(
    ("process", "method"), [("ddpm", "onedp-s"), ("edm", "onedp-s"), ("flow", "onedp-s"), ("flow", "onedp")]
)
def test_a_recipe_that_was_not_measured_for_the_teachers_process_says_so(
    process, method, tmp_path, monkeypatch, capsys
):
    rng = np.random.default_rng(0)
    data = tmp_path / "data.npz"
    arrays = {"state": rng.uniform(100, 400, (60, 5)), "action": rng.uniform(100, 400, (60, 2))}
    np.savez(data, **{name: values.astype(np.float32) for name, values in arrays.items()}, episode_ends=[30, 60])
    loop = LoopConfig(steps=1, batch_size=4, cpu=True)
    network = MlpConfig(width=4, blocks=1, step_embed_dim=8)
    train_teacher(TeacherRun("pusht-keypoints", data, DenoisingConfig(process), network, loop), tmp_path / "teacher")
    capsys.readouterr()
    begun: list[StudentRun] = []
    monkeypatch.setattr("onedp.train.run.distill_student", lambda run, out: begun.append(run))
    Distill(str(tmp_path / "teacher"), method=method, data=data, out=tmp_path / "student", cpu=True).run()
    assert len(begun) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if "measured" in line]
    expected = "No recipe of onedp-s was measured for teachers of the process 'flow'; it takes that for DDPM teachers."
    assert said == ([expected] if (process, method) == ("flow", "onedp-s") else [])


def test_the_regression_has_a_rate_of_its_own():
    plain = Distill(teacher="t").student_run(Path("data.npz")).method
    changed = Distill(teacher="t", regression_lr=1e-4).student_run(Path("data.npz")).method
    assert changed == dataclasses.replace(plain, regression=dataclasses.replace(plain.regression, lr=1e-4))  # type: ignore


def test_steps_and_the_paper_s_preset_apply_to_the_default():
    run = Distill(teacher="t", steps=240).student_run(Path("data.npz"), process="edm")
    assert run.method.regression_steps == 203  # type: ignore[attr-defined]  # a tenth of the recipe's
    assert (
        Distill(teacher="t", preset="paper").student_run(Path("data.npz")).method == recipe("onedp-s", "paper").config
    )


@pytest.mark.parametrize(
    ("options", "data", "beside"),
    [
        ({}, "pusht_observations.npz", ["pusht_lost_observations.npz"]),
        ({"beside": (Path("mine.hdf5"),)}, "pusht_observations.npz", ["pusht_lost_observations.npz", "mine.hdf5"]),
        ({"lost": False}, "pusht_observations.npz", []),
        ({"data": Path("own.npz"), "beside": (Path("mine.hdf5"),)}, "own.npz", ["mine.hdf5"]),
        ({"teacher": "pusht-keypoints-edm"}, "pusht_observations.npz", []),
    ],
)
def test_lost_episodes_go_beside_the_shipped_observations_of_the_teacher_they_were_measured_with(
    options: dict[str, Any], data: str, beside: list[str], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    begun: list[StudentRun] = []
    monkeypatch.setattr("onedp.train.run.distill_student", lambda run, out: begun.append(run))
    Distill(**{"teacher": "pusht-keypoints-ddpm", "out": tmp_path / "student", "cpu": True, **options}).run()
    assert (begun[0].data.name, [path.name for path in begun[0].beside]) == (data, beside)
    assert ("--no-lost" in capsys.readouterr().out) == ("pusht_lost_observations.npz" in beside)


def test_recordings_are_repeated_and_leave_the_teacher_alone() -> None:
    parsed = tyro.cli(Distill, args=["--beside", "a.hdf5", "teacher", "--beside", "b.hdf5"])
    assert (parsed.teacher, parsed.beside) == ("teacher", (Path("a.hdf5"), Path("b.hdf5")))
