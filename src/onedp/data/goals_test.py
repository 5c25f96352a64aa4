"""Goals are later steps of the same episode, the same whenever they are drawn, and constant over a window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedp.data.episodes import Episodes
from onedp.data.goals import future_steps, with_goals
from onedp.data.normalize import fit_normalizer
from onedp.data.windows import gather_windows, window_index
from onedp.errors import DataError, SpecError
from onedp.tasks.demonstrations import load_demonstrations, load_observations
from onedp.tasks.task import Task
from onedp.types import FieldSpec, PolicySpec

POSE, ACTION = FieldSpec("pose", (2,), "m"), FieldSpec("action", (1,), "m")


def spec_of(*observations: FieldSpec) -> PolicySpec:
    return PolicySpec(observations, ACTION, (-1.0,), (1.0,), rate_hz=10.0, horizon=4, n_obs_steps=2, n_action_steps=2)


SPEC = spec_of(POSE, FieldSpec("wish", (2,), "m", goal_of="pose"))
ENDS = np.array([10, 12, 30])
POSES = np.stack([np.arange(30.0), np.zeros(30)], axis=1).astype(np.float32)
TASK = Task("t", SPEC, lambda: None, dict, ("pose",), 10, "made up")  # type: ignore[arg-type, return-value]


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_goals_lie_ahead_in_the_same_episode(lengths: list[int], seed: int) -> None:
    ends = np.cumsum(lengths)
    steps = future_steps(ends, np.random.default_rng(seed))
    own = np.arange(ends[-1])
    episode = np.searchsorted(ends, own, side="right")
    assert (np.searchsorted(ends, steps, side="right") == episode).all()
    is_last = own == ends[episode] - 1
    assert (steps[~is_last] > own[~is_last]).all()
    assert (steps[is_last] == own[is_last]).all()


def test_every_later_step_is_a_goal_equally_often() -> None:
    steps = [future_steps(np.array([5]), np.random.default_rng(seed))[0] for seed in range(2000)]
    counts = np.bincount(steps, minlength=5)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 500, atol=100)  # five deviations


def test_missing_goals_are_added_and_given_ones_kept() -> None:
    episodes = Episodes({"pose": POSES}, ENDS, "test")
    made = with_goals(episodes, SPEC)
    assert made.digest() == with_goals(episodes, SPEC).digest() != with_goals(episodes, SPEC, seed=1).digest()
    assert (made.arrays["wish"][:29, 0] >= POSES[:29, 0]).all()
    assert with_goals(made, SPEC) is made
    assert with_goals(episodes, spec_of(POSE)) is episodes


def test_a_window_has_one_goal_that_is_scaled_as_the_observation(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", pose=POSES, action=np.zeros((30, 1)), episode_ends=ENDS)
    episodes = load_demonstrations(tmp_path / "d.npz", TASK)
    alone = load_observations(tmp_path / "d.npz", TASK)  # what a distillation sees
    np.testing.assert_array_equal(alone.arrays["wish"], episodes.arrays["wish"])
    obs, _ = gather_windows(episodes.arrays, window_index(ENDS, SPEC, max_padding=2), SPEC)
    assert len(obs["wish"]) == 30
    np.testing.assert_array_equal(obs["wish"][:, 0], obs["wish"][:, 1])
    np.testing.assert_array_equal(obs["wish"][:, 1], episodes.arrays["wish"])
    assert (obs["pose"][1:10, 0] != obs["pose"][1:10, 1]).any()
    normalizer = fit_normalizer(episodes.arrays, SPEC)
    assert normalizer.stats["wish"].min.tolist() == normalizer.stats["pose"].min.tolist() == [0, 0]


@pytest.mark.parametrize(
    "field",
    [
        FieldSpec("wish", (2,), "m", goal_of="poze"),
        FieldSpec("wish", (3,), "m", goal_of="pose"),
        FieldSpec("wish", (2,), "m", goal_of="wish"),
    ],
)
def test_a_goal_of_nothing_is_refused(field: FieldSpec) -> None:
    with pytest.raises(SpecError, match=r"'wish' is the goal of '\w+', which must be another observation of its shape"):
        spec_of(POSE, field)


def test_indices_are_left_as_they_are_and_must_be_in_range(tmp_path: Path) -> None:
    spec = spec_of(FieldSpec("which", (1,), "1", "int64", classes=3), POSE)
    task = Task("t", spec, lambda: None, dict, ("unused",), 10, "made up")  # type: ignore[arg-type, return-value]
    arrays = {"pose": POSES, "action": np.zeros((30, 1)), "episode_ends": ENDS}
    np.savez(tmp_path / "d.npz", which=np.repeat([[0.0], [2.0]], 15, axis=0), **arrays)
    episodes = load_demonstrations(tmp_path / "d.npz", task)
    assert episodes.arrays["which"].dtype == np.int64
    normalizer = fit_normalizer(episodes.arrays, spec, "mean_std")
    assert normalizer.modes == {"which": "identity", "pose": "mean_std", "action": "mean_std"}
    assert normalizer.normalize("which", episodes.arrays["which"])[-1] == 2.0
    for bad in (3.0, -1.0, 0.5):
        np.savez(tmp_path / "d.npz", which=np.full((30, 1), bad), **arrays)
        with pytest.raises(DataError, match=r"the indices 'which' have values from .*, expected whole numbers 0 to 2"):
            load_demonstrations(tmp_path / "d.npz", task)
