"""What is recorded is what happened, and of the episodes that an evaluation would call lost."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from onedp.data.readers import open_recording
from onedp.data.robomimic_writer import robomimic_file
from onedp.errors import OneDPError
from onedp.evaluate.counter_world_test import TASK, Counter, save_counter_policy
from onedp.evaluate.record import RecordRequest, RecordSummary, record
from onedp.evaluate.recorder import Keep, record_group
from onedp.evaluate.results import EpisodeResult
from onedp.evaluate.rollout import FROZEN, run_group
from onedp.evaluate.runner import EvaluationRequest, evaluate
from onedp.policy import load_policy
from onedp.tasks import Task, get_task
from onedp.tasks.demonstrations import load_observations
from onedp.threads import one_thread
from onedp.types import PolicySpec

h5py = pytest.importorskip("h5py", reason="h5py is not installed: make simulators")
needs_pusht = pytest.mark.skipif(importlib.util.find_spec("gym_pusht") is None, reason="gym-pusht is not installed")

EPISODES = 60
"""Two full groups and a short one."""
ALL = Keep()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_counter_policy(tmp_path_factory.mktemp("policy") / "counter")


def recorded(policy: Path, out: Path, keep: Keep = ALL, workers: int = 1) -> RecordSummary:
    return record(RecordRequest(str(policy), out, EPISODES, keep=keep, workers=workers))


def results_of_a_group(policy: Path) -> list[EpisodeResult]:
    """Seeds 0 to 24, with one thread as every evaluation."""
    with one_thread():
        envs = [Counter() for _ in range(25)]
        return [each.result for each in run_group(load_policy(policy), TASK, envs, range(25))]


def seeds_in(path: Path) -> list[int]:
    with h5py.File(path) as file:
        return [int(file[f"data/demo_{i}"].attrs["seed"]) for i in range(len(file["data"]))]


def test_every_step_is_what_the_environment_gives_for_these_actions(policy: Path, tmp_path: Path) -> None:
    summary = recorded(policy, tmp_path / "all.hdf5")
    rows = results_of_a_group(policy)
    with h5py.File(tmp_path / "all.hdf5") as file:
        assert sum(len(each["actions"]) for each in file["data"].values()) == summary.steps
        for row in rows:
            demo, env = file[f"data/demo_{row.seed}"], Counter()
            assert len(demo["actions"]) == row.steps
            assert (demo.attrs["score"], demo.attrs["success"]) == (row.score, row.success)
            obs = env.reset(row.seed)
            for step, action in enumerate(demo["actions"]):
                np.testing.assert_array_equal(demo["obs/x"][step], obs["x"])
                result = env.step(action)
                assert demo["rewards"][step] == np.float32(result.reward)
                assert bool(demo["dones"][step]) == result.done
                obs = result.obs
    assert seeds_in(tmp_path / "all.hdf5") == list(range(EPISODES))


def test_the_file_says_whose_roll_outs_these_are(policy: Path, tmp_path: Path) -> None:
    recorded(policy, tmp_path / "lost.hdf5", Keep(failed=True))
    recording = open_recording(tmp_path / "lost.hdf5")
    assert recording.rate_hz == TASK.spec.rate_hz
    assert any("roll-outs of a policy" in note for note in recording.notes)
    with h5py.File(tmp_path / "lost.hdf5") as file:
        attributes = dict(file["data"].attrs)
    facts = json.loads(attributes["collected"])
    assert facts["weights_digest"] == load_policy(policy).provenance["weights_digest"]
    assert (facts["sampler"], facts["episodes_run"], facts["kept"]) == ("one-step:30", EPISODES, "without success")
    assert facts["command"]
    assert attributes["policy"].startswith(f"{facts['policy']} (one-step:30), weights ")
    assert recording.policy == attributes["policy"]  # so no teacher learns from it


@pytest.mark.parametrize("part", [0.2, 0.8])
def test_lost_episodes_are_those_that_an_evaluation_scores_below(
    policy: Path, tmp_path: Path, part: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onedp.evaluate.runner.latency_ms", lambda policy: [1.0])
    result = evaluate(EvaluationRequest(str(policy), None, None, EPISODES, first_seed=0, workers=1))
    score = float(np.quantile([row.score for row in result.per_episode if row.score > 0], part))
    below = [row for row in result.per_episode if row.score < score]
    summary = recorded(policy, tmp_path / "lost.hdf5", Keep(lost_below=score))
    assert 0 < len(below) < EPISODES
    assert (summary.kept, summary.episodes) == (len(below), EPISODES)
    with h5py.File(tmp_path / "lost.hdf5") as file:
        found = [dict(file[f"data/demo_{i}"].attrs) for i in range(len(below))]
    assert [(each["seed"], each["score"], each["num_samples"]) for each in found] == [
        (row.seed, row.score, row.steps) for row in below
    ]


def test_failed_episodes_are_those_without_success(policy: Path, tmp_path: Path) -> None:
    recorded(policy, tmp_path / "failed.hdf5", Keep(failed=True))
    assert seeds_in(tmp_path / "failed.hdf5") == [seed for seed in range(EPISODES) if seed % 7 == 6]


@pytest.mark.slow
def test_the_file_does_not_depend_on_the_workers(policy: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        recorded(policy, tmp_path / f"{workers}.hdf5", Keep(lost_below=1.0), workers)
    assert (tmp_path / "1.hdf5").read_bytes() == (tmp_path / "2.hdf5").read_bytes()


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (Keep(lost_below=1e-9), r"None of the 1 episodes is one with a score below 1e-09: the lowest score is \d"),
        (Keep(failed=True), "None of the 1 episodes is one without success: all succeeded. Nothing was written"),
    ],
)
def test_nothing_is_written_when_nothing_was_lost(policy: Path, tmp_path: Path, keep: Keep, message: str) -> None:
    rows = results_of_a_group(policy)
    seed = next(row.seed for row in rows if row.success and row.score > 0)
    with pytest.raises(OneDPError, match=message):
        record(RecordRequest(str(policy), tmp_path / "out" / "x.hdf5", 1, first_seed=seed, keep=keep, workers=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecordRequest("p", Path("x"), 11, first_seed=99_990), "99990 with 11 episodes reaches outside 0 to"),
        (lambda: RecordRequest("p", Path("x"), 1, first_seed=-1), "first-seed -1 with"),
        (lambda: RecordRequest("p", Path("x"), 0), "episodes must be at least 1, it is 0"),
        (lambda: RecordRequest("p", Path("x"), 1, workers=0), "workers must be at least 1, it is 0"),
        (lambda: Keep(failed=True, lost_below=0.5), "give one of them"),
        (lambda: Keep(lost_below=0.0), "lost-below must be above 0"),
        (lambda: Keep(lost_below=float("nan")), "lost-below must be above 0"),
    ],
)
def test_requests_that_cannot_be_meant(make: object, message: str) -> None:
    with pytest.raises(OneDPError, match=message):
        make()  # type: ignore[operator]


def test_the_last_training_start_is_allowed() -> None:
    assert RecordRequest("p", Path("x"), 10, first_seed=99_990).episodes == 10


class Wanderer:
    """A policy of any task that walks about, each episode in its own way."""

    nfe = 1

    def __init__(self, spec: PolicySpec):
        self.spec = spec
        self.noise_shape = (1, spec.horizon, spec.action_dim)

    def infer(self, obs: Mapping[str, np.ndarray], noise: np.ndarray) -> np.ndarray:
        low, high = np.array(self.spec.action_low), np.array(self.spec.action_high)
        wish = low + (high - low) * (0.5 + 0.2 * noise[:, 0, : self.spec.chunk_length])
        return np.clip(wish, low, high).astype(np.float32)


def wandered(task: Task, out: Path) -> None:
    """Two recorded episodes of a wanderer."""
    envs = [task.make_env() for _ in range(2)]
    rollouts = record_group(Wanderer(task.spec), task, envs, [3, 4], ALL, FROZEN)
    with robomimic_file(out) as file:
        for rollout in rollouts:
            assert rollout.demonstration is not None
            file.add(rollout.demonstration)
        file.finish({}, {})


@needs_pusht
@pytest.mark.parametrize("name", ["pusht-keypoints", "pusht-state", "pusht-image"])
def test_a_recording_of_push_t_is_read_as_the_observations_that_the_policy_saw(name: str, tmp_path: Path) -> None:
    task = dataclasses.replace(get_task(name), max_steps=11)
    wandered(task, tmp_path / "x.hdf5")
    episodes = load_observations(tmp_path / "x.hdf5", task)
    env = task.make_env()
    with h5py.File(tmp_path / "x.hdf5") as file:
        for index, seed in enumerate((3, 4)):
            obs = env.reset(seed)
            rows = episodes.episode(index)
            for step, action in enumerate(file[f"data/demo_{index}/actions"]):
                for field in task.spec.observations:
                    np.testing.assert_array_equal(rows[field.name][step], obs[field.name])
                obs = env.step(action).obs
    if name != "pusht-image":  # the raw state feeds the tasks with other fields too
        other = load_observations(tmp_path / "x.hdf5", get_task("pusht-state"))
        assert set(other.arrays) == {"agent_pos", "block_pos", "block_cos_sin"}


@needs_pusht
def test_a_task_of_a_higher_control_rate_is_recorded_in_steps_of_its_policy(tmp_path: Path) -> None:
    task = dataclasses.replace(get_task("pusht-drift@speed=40"), max_steps=23)  # ends within the fifth step
    wandered(task, tmp_path / "x.hdf5")
    env = task.make_env()
    with h5py.File(tmp_path / "x.hdf5") as file:
        demo = file["data/demo_1"]
        assert len(demo["actions"]) == 5
        obs = env.reset(4)
        for step, action in enumerate(demo["actions"]):
            np.testing.assert_array_equal(demo["obs/keypoints"][step], obs["keypoints"])
            results = [env.step(action) for _ in range(5 if step < 4 else 3)]
            assert demo["rewards"][step] == np.float32(max(each.reward for each in results))
            obs = results[-1].obs
