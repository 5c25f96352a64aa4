"""The README's `accelerate launch --multi_gpu -m onedp.cli.main`: two processes learn what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onedp.train.processes_test import LAUNCH


def run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "CI": "true"})
    assert done.returncode == 0, done.stderr
    return done


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def demonstrations_in(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    state, action = (rng.uniform(100, 400, (60, n)).astype(np.float32) for n in (5, 2))
    data = folder / "demonstrations.npz"
    np.savez(data, state=state, action=action, episode_ends=[30, 60])
    return data


@pytest.mark.slow
def test_the_command_line_trains_on_two_processes(tmp_path: Path) -> None:
    data = demonstrations_in(tmp_path)
    train = ["train", "--task", "pusht-keypoints", "--data", str(data), "--network", "mlp", "--steps", "100"]
    train += ["--batch-size", "8", "--threads", "1", "--cpu", "--out"]
    run(sys.executable, "-m", "onedp.cli.main", *train, str(tmp_path / "one"))
    launched = run(*LAUNCH, "-m", "onedp.cli.main", *train, str(tmp_path / "two"))
    assert launched.stdout.count("Training with 2 processes, each with 4 of the 8 rows of a batch.") == 1
    assert losses(tmp_path / "one")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    provenance = json.loads((tmp_path / "two/policy/provenance.json").read_text())
    assert provenance["processes"] == 2
    assert "--steps 100" in provenance["command"]


@pytest.mark.slow
def test_a_launch_that_made_one_process_of_two_is_told(tmp_path: Path) -> None:
    """What accelerate does on a CPU unless it is told --multi_gpu; a version that does otherwise shows here."""
    data = demonstrations_in(tmp_path)
    alone = [part for part in LAUNCH if part != "--multi_gpu"]
    train = ["train", "--task", "pusht-keypoints", "--data", str(data), "--network", "mlp", "--steps", "1"]
    done = run(*alone, "-m", "onedp.cli.main", *train, "--batch-size", "8", "--cpu", "--out", str(tmp_path / "run"))
    assert "Training with" not in done.stdout
    assert "accelerate launch was asked for several processes and made one" in done.stderr
    assert "--multi_gpu --num_processes N" in done.stderr
