"""The README's `accelerate launch -m onedp.cli.main`: two processes learn what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onedp.train.processes_test import LAUNCH


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "CI": "true"})
    assert done.returncode == 0, done.stderr


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.slow
def test_the_command_line_trains_on_two_processes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    state, action = (rng.uniform(100, 400, (60, n)).astype(np.float32) for n in (5, 2))
    data = tmp_path / "demonstrations.npz"
    np.savez(data, state=state, action=action, episode_ends=[30, 60])
    train = ["train", "--task", "pusht-keypoints", "--data", str(data), "--network", "mlp", "--steps", "100"]
    train += ["--batch-size", "8", "--threads", "1", "--cpu", "--out"]
    run(sys.executable, "-m", "onedp.cli.main", *train, str(tmp_path / "one"))
    run(*LAUNCH, "-m", "onedp.cli.main", *train, str(tmp_path / "two"))
    assert losses(tmp_path / "one")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    provenance = json.loads((tmp_path / "two/policy/provenance.json").read_text())
    assert provenance["processes"] == 2
    assert "--steps 100" in provenance["command"]
