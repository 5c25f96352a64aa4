"""The lid: both ways close it, straight ahead opens it further, and the way is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onedp.collect import experts
from onedp.collect.episode import collect_episode
from onedp.collect.run import CollectRequest, collect
from onedp.data.readers import open_recording
from onedp.tasks import get_task
from onedp.tasks.robosuite_lid import CoffeeLidEnvironment


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_lid_is_closed_from_either_side_and_the_file_says_from_which(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: make simulators")
    summary = collect(CollectRequest("coffee-lid", 8, tmp_path / "lid.hdf5", workers=1))
    assert summary.attempts == 8
    assert set(summary.ways) == {"left", "right"}
    assert sum(summary.ways.values()) == 8
    assert len(open_recording(tmp_path / "lid.hdf5").ends) == 8
    with h5py.File(tmp_path / "lid.hdf5") as file:
        assert json.loads(file["data"].attrs["collected"])["ways"] == summary.ways


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_side_that_the_gripper_passes_is_the_way_and_straight_ahead_is_none() -> None:
    task, scripted = get_task("coffee-lid"), experts.get_expert("coffee-lid")
    env = task.make_env()
    assert isinstance(env, CoffeeLidEnvironment)
    expert = scripted.make(env)
    demonstration = collect_episode(task, scripted, env, expert, 0, 0.0)
    assert demonstration is not None
    aside = -demonstration.observations["object"][:, 5]  # the gripper's place seen from the hinge, along y
    farthest = aside[np.abs(aside).argmax()]
    assert demonstration.attributes["way"] == ("left" if farthest > 0 else "right")
    obs = env.reset(1)
    np.testing.assert_allclose(obs["object"][4:], obs["object"][1:4] - obs["robot0_eef_pos"], atol=1e-6)
    opened = obs["object"][0]
    for _ in range(60):
        ahead = np.clip(20 * obs["object"][4:] * [1, 1, 0], -1, 1)
        result = env.step(np.array([*ahead[:2], -0.3, 0, 0, 0, 1]))
        obs = result.obs
    assert obs["object"][0] > opened - 0.05
    assert not result.success
    assert result.way is None


@pytest.mark.slow
@pytest.mark.robosuite
def test_a_simulation_that_falls_apart_closes_no_lid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warning there
    env = get_task("coffee-lid").make_env()
    assert isinstance(env, CoffeeLidEnvironment)
    env.reset(0)
    env.data.qvel[0] = np.nan
    result = env.step(np.zeros(7))
    assert env.simulator.lid_angle < 0.1  # every joint is at 0 now
    assert (result.success, result.reward, result.done) == (False, 0.0, True)
    env.reset(1)
    assert not env.step(np.zeros(7)).done
