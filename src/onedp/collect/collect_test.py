"""Collecting with the table, noise and files, on a task of three lines that needs no simulator."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from onedp.collect import experts
from onedp.collect.episode import collect_episode
from onedp.collect.expert import NoiseSource, RecoveryNoise, Scripted
from onedp.collect.run import CollectRequest, collect
from onedp.data.readers import open_recording
from onedp.errors import OneDPError
from onedp.tasks import TASKS, StepResult, Task
from onedp.types import FieldSpec, PolicySpec

PLACE = FieldSpec("place", (1,), "m")


class Walk:
    """A point that should come to 0; starts of seeds divisible by 3 are out of reach."""

    def __init__(self) -> None:
        self.place = 0.0

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        self.place = 1000.0 if seed % 3 == 0 else 1.0 + seed % 5
        return self._observe()

    def step(self, action: np.ndarray) -> StepResult:
        self.place += float(action[0])
        done = abs(self.place) < 0.2
        return StepResult(self._observe(), float(done), done, done)

    def render(self, size: int) -> np.ndarray:
        return np.zeros((size, size, 3), np.uint8)

    def _observe(self) -> dict[str, np.ndarray]:
        return {"place": np.array([self.place], np.float32)}


class Walker:
    def __init__(self, env: Walk):
        self.env = env

    def start(self, rng: np.random.Generator) -> None:
        self.speed = rng.uniform(0.3, 0.5)

    def noise_share(self) -> float:
        return 1.0

    def act(self) -> np.ndarray:
        return np.clip([-self.env.place], -self.speed, self.speed)


WALK = Task(
    name="walk",
    spec=PolicySpec((PLACE,), FieldSpec("action", (1,), "m"), (-1.0,), (1.0,), rate_hz=10.0),
    make_env=Walk,
    features=lambda arrays: dict(arrays),
    raw_arrays=("place",),
    max_steps=60,
    demonstrations="none",
)
SCRIPTED = Scripted(Walker, RecoveryNoise(scale=(0.3,)), "walks")


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "walk", WALK)
    monkeypatch.setitem(experts.EXPERTS, "walk", SCRIPTED)


def episode(seed: int, noise: float) -> dict[str, np.ndarray]:
    env = Walk()
    demonstration = collect_episode(WALK, SCRIPTED, env, Walker(env), seed, noise)
    assert demonstration is not None
    return {**demonstration.observations, "actions": demonstration.actions, **demonstration.extra}


def test_noise_is_executed_and_not_recorded() -> None:
    arrays = episode(4, noise=1.0)
    wished, executed, places = arrays["actions"][:, 0], arrays["executed_actions"][:, 0], arrays["place"][:, 0]
    assert np.abs(executed - wished).max() > 0.02
    np.testing.assert_allclose(np.diff(places), executed[:-1], atol=1e-5)
    speed = np.abs(wished).max()
    np.testing.assert_allclose(wished, np.clip(-places, -speed, speed), atol=1e-5)  # the correction of where it is


def test_without_noise_both_are_the_same() -> None:
    arrays = episode(4, noise=0.0)
    np.testing.assert_array_equal(arrays["actions"], arrays["executed_actions"])


def test_an_episode_follows_from_its_seed() -> None:
    first, again, other = episode(4, 1.0), episode(4, 1.0), episode(8, 1.0)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert len(other["actions"]) != len(first["actions"]) or not np.array_equal(other["actions"], first["actions"])


def test_a_failed_episode_is_none() -> None:
    env = Walk()
    assert collect_episode(WALK, SCRIPTED, env, Walker(env), 3, 1.0) is None


def test_noise_of_no_scale_is_none_and_pushes_are_large() -> None:
    config = RecoveryNoise(scale=(0.5, 0.0), push_probability=0.2)
    draws = np.array([NoiseSource(config, 1.0, np.random.default_rng(seed)).draw() for seed in range(3)])
    source = NoiseSource(config, 1.0, np.random.default_rng(0))
    draws = np.array([source.draw() for _ in range(300)])
    assert (draws[:, 1] == 0).all()
    assert 0.2 < draws[:, 0].std() < 1.5
    assert np.abs(draws[:, 0]).max() > 1.0  # no drift of strength 1 and scale 0.5 alone does that so often
    still = NoiseSource(dataclasses.replace(config, push_probability=0.0), 0.0, np.random.default_rng(0))
    assert (still.draw() == 0).all()


@pytest.mark.usefixtures("walk")
def test_collect_keeps_successes_and_says_that_they_are_scripted(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: make simulators")
    seen: list[tuple[int, int]] = []
    out = tmp_path / "walk.hdf5"
    summary = collect(CollectRequest("walk", 5, out, seed=1, workers=1), lambda *counts: seen.append(counts))
    assert (summary.kept, summary.attempts, summary.failed_seeds) == (5, 7, (3, 6))
    assert seen[-1] == (5, 7)
    with h5py.File(out) as file:
        attributes = dict(file["data"].attrs)
        assert [file[f"data/demo_{i}"].attrs["seed"] for i in range(5)] == [1, 2, 4, 5, 7]
        assert sum(len(group["actions"]) for group in file["data"].values()) == summary.steps == attributes["total"]
    assert attributes["demonstrations"].startswith("scripted:")
    assert "not human demonstrations" in attributes["demonstrations"]
    assert open_recording(out).rate_hz == WALK.spec.rate_hz
    facts = json.loads(attributes["collected"])
    assert (facts["starts_tried"], facts["starts_failed_and_left_out"], facts["first_seed"]) == (7, 2, 1)


@pytest.mark.usefixtures("walk")
def test_too_few_successes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "walk", dataclasses.replace(WALK, max_steps=1))
    with pytest.raises(OneDPError, match=r"Only 0 of 12 starts succeeded, 3 were wanted. Nothing was written"):
        collect(CollectRequest("walk", 3, tmp_path / "walk.hdf5", workers=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1, it is 0"),
        ({"noise": -1.0}, "noise must not be negative, it is -1.0"),
        ({"workers": 0}, "workers must be at least 1, it is 0"),
        ({"seed": 99_990}, "seed 99990 with up to 40 starts reaches outside 0 to 99999: the starts above are for eval"),
        ({"seed": -1}, "seed -1 with"),
    ],
)
def test_requests_that_cannot_be_meant(options: dict[str, float], message: str) -> None:
    with pytest.raises(OneDPError, match=message):
        CollectRequest(**{"task": "lift", "episodes": 10, "out": Path("x.hdf5"), **options})  # type: ignore[arg-type]


def test_wrong_options_are_refused_before_a_worker_meets_them(tmp_path: Path) -> None:
    with pytest.raises(OneDPError, match="Unknown option of lift-moving 'sped'"):
        collect(CollectRequest("lift-moving@sped=1", 2, tmp_path / "x.hdf5", workers=2))


def test_tasks_without_an_expert() -> None:
    with pytest.raises(OneDPError, match=r"task 'tool-hang' has no scripted expert. Tasks that have one: can, "):
        experts.get_expert("tool-hang")
    with pytest.raises(OneDPError, match=r"Unknown task 'lifd'. Did you mean 'lift'\?"):
        experts.get_expert("lifd")


def test_experts_are_of_tasks_and_their_noise_fits_the_action() -> None:
    for name, scripted in experts.EXPERTS.items():
        assert len(scripted.noise.scale) == TASKS[name].spec.action_dim, name


@pytest.mark.slow
def test_the_file_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: make simulators")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    actions = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}.hdf5"
        collect(CollectRequest("pusht-state", 2, out, workers=workers))
        with h5py.File(out) as file:
            actions.append([file[f"data/demo_{i}/executed_actions"][:] for i in range(2)])
            assert file["data/demo_0/obs/state"].shape[1] == 5
            assert file["data/demo_0/rewards"][-1] == 1.0
    for one, two in zip(*actions, strict=True):
        np.testing.assert_array_equal(one, two)
