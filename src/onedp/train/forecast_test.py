"""A forecast counts a run's phases, adds up what they take, and changes nothing."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from onedp.methods.config import DenoisingConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.pairs import PairPool, forecast_pairs
from onedp.nets.config import MlpConfig, UnetConfig
from onedp.train import loop as loop_module
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.forecast import Forecast, Phase, in_words
from onedp.train.run import distill_student, train_teacher

LOOP = LoopConfig(steps=6, batch_size=8, log_every=1, diagnose_every=9, checkpoint_every=9, cpu=True)
METHOD = OneDpConfig(regression_steps=2, regression_pairs=20, tracker_warmup=1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Forecast]:
    """Forecasts are made for runs however short, with a clock that ticks once a look, and kept here."""
    made: list[Forecast] = []
    real = loop_module.forecast
    ticks = itertools.count()

    def kept(method, data, config, accelerator, first_step=0, preparation=0.0):
        ticking = lambda: float(next(ticks))  # noqa: E731
        made.append(real(method, data, config, accelerator, first_step, ticking, preparation))
        return made[-1]

    monkeypatch.setattr(loop_module, "SHORTEST_RUN", 1)
    monkeypatch.setattr(loop_module, "forecast", kept)
    return made


@pytest.mark.parametrize("network", [MlpConfig(width=16, blocks=1, step_embed_dim=8), UnetConfig(channels=(8, 16))])
def test_a_run_with_a_forecast_trains_to_the_same_policy(tmp_path, demonstrations, network, request):
    teacher = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), network, LOOP)
    train_teacher(teacher, tmp_path / "a" / "teacher")
    student = StudentRun(str(tmp_path / "a" / "teacher"), demonstrations, METHOD, LOOP)
    distill_student(student, tmp_path / "a" / "student")
    torch.manual_seed(99)
    made = request.getfixturevalue("seen")
    distill_student(student, tmp_path / "b" / "student")
    plain, forecast = (load_file(tmp_path / run / "student" / "policy" / "weights.safetensors") for run in "ab")
    assert {name for name in plain if not np.array_equal(plain[name], forecast[name])} == set()
    assert len(made) == 1


def test_phases_are_counted_and_added_up(tmp_path, demonstrations, seen, capsys):
    network = MlpConfig(width=16, blocks=1, step_embed_dim=8)
    train_teacher(TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), network, LOOP), tmp_path / "teacher")
    distill_student(StudentRun(str(tmp_path / "teacher"), demonstrations, METHOD, LOOP), tmp_path / "student")
    teacher, student = seen
    assert [(phase.first_step, phase.steps) for phase, _ in teacher.phases] == [(0, 6)]
    assert [phase for phase, _ in student.phases] == [
        Phase(("regression",), 0, 2),
        Phase(("tracker",), 2, 1),
        Phase(("tracker", "generator"), 3, 3),
    ]
    assert student.seconds - student.preparation == 2 * 2 + 1 * 2 + 3 * 4  # a tick for an update, one for its optimizer
    assert student.preparation > 0
    assert student.memory_bytes > teacher.memory_bytes / 2 > 10e6
    assert "3 x tracker + generator" in student.text()
    said = capsys.readouterr().out
    prepared = (
        r"Forecast: .* for the teacher's solutions \(.*\), 2 x regression, 1 x tracker, 3 x tracker \+ generator,"
    )
    assert re.search(prepared, said)  # no seconds: the solutions are made in real time here


def test_the_preparation_is_forecast_from_one_batch_of_it():
    now = [0.0]
    counts: list[int] = []

    def make(count, generator):
        """Half a second a pair, and once what only the first pass costs."""
        now[0] += 0.5 * count + (0 if counts else 100)
        counts.append(count)
        return PairPool({}, torch.zeros(count, 4, 2), torch.zeros(count, 4, 2), 0.0)

    seconds, pool = forecast_pairs(make, 10_000, torch.device("cpu"), lambda: now[0])
    assert (seconds, len(pool.noise)) == (5_000, 256)
    assert counts == [8, 256]
    assert forecast_pairs(make, 3, torch.device("cpu"), lambda: now[0])[0] == 1.5


def test_memory_grows_with_the_batch(tmp_path, demonstrations, seen):
    network = UnetConfig(channels=(8, 16))
    for batch in (8, 512):
        config = LoopConfig(steps=1, batch_size=batch, cpu=True)
        run = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(), network, config)
        train_teacher(run, tmp_path / str(batch))
    small, large = seen
    assert large.memory_bytes - small.memory_bytes > 5e6


def test_repeated_updates_are_counted():
    assert Phase(("tracker", "tracker", "generator"), 0, 9).text == "2 tracker + generator"
    assert (
        Forecast(((Phase(("tracker", "tracker", "generator"), 0, 9), 1.0),), 0)
        .text()
        .startswith("Forecast: 9 s for 9 x 2 tracker + generator, ")
    )


def test_durations_are_in_words():
    assert [in_words(s) for s in (40.2, 720, 12_600)] == ["40 s", "12 min", "3.5 h"]
