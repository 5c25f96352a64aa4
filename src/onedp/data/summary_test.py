from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onedp.data.readers import open_recording
from onedp.data.recording import ArrayHeader
from onedp.data.summary import (
    ArraySummary,
    FoundQuaternion,
    Place,
    StuckRun,
    find_quaternions,
    is_pictures,
    rate_from_timestamps,
    stuck_runs,
    summarize,
    summarize_recording,
)

ENDS = np.array([4, 10])


def summary_of(values: np.ndarray, piece: int) -> ArraySummary:
    pieces = [values[start : start + piece] for start in range(0, len(values), piece)]
    return summarize(pieces, ENDS, int(np.prod(values.shape[1:])))


@pytest.mark.parametrize("piece", [1, 3, 4, 10])
def test_jumps_are_found_within_episodes_and_across_pieces(piece: int) -> None:
    values = np.zeros((10, 2))
    values[4:] = 100.0  # a new episode may start anywhere
    values[2:4, 0] = 3.0
    values[7:, 1] = 95.0
    found = summary_of(values, piece)
    assert found.jump is not None
    assert found.jump.tolist() == [3.0, 5.0]
    assert found.jump_at == (Place(0, 2), Place(1, 3))


@pytest.mark.parametrize("piece", [1, 3, 10])
def test_holes_are_counted_and_placed(piece: int) -> None:
    values = np.arange(20, dtype=np.float32).reshape(10, 2)
    values[6, 1] = np.nan
    values[8] = np.inf
    found = summary_of(values, piece)
    assert found.n_not_finite == 3
    assert found.first_not_finite == Place(1, 2)
    assert found.max.tolist() == [18.0, 19.0]
    assert found.jump is not None
    assert found.jump.tolist() == [2.0, 2.0]


def test_constant_dimensions() -> None:
    values = np.stack([np.arange(10), np.full(10, 7)], axis=1)
    found = summary_of(values, 3)
    assert found.constant == (1,)
    assert found.n_not_finite == 0
    assert found.first_not_finite is None


def test_pictures_are_summarised_as_a_whole() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, size=(10, 8, 8, 3)).astype(np.uint8)
    found = summary_of(pictures, 4)
    assert found.jump is None
    assert found.mean == pytest.approx(pictures.mean())
    assert is_pictures(ArrayHeader(pictures.shape, "uint8"))
    assert not is_pictures(ArrayHeader((10, 16), "float32"))


def test_summary_of_a_file_has_its_digest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", state=rng.normal(size=(10, 2)), action=rng.normal(size=(10, 1)), episode_ends=ENDS)
    recording = open_recording(tmp_path / "d.npz")
    summaries, digest = summarize_recording(recording, recording.headers)
    assert sorted(summaries) == ["action", "state"]
    assert digest == recording.episodes().digest()


def test_rate_from_timestamps(tmp_path: Path) -> None:
    time_s = np.concatenate([np.arange(4) / 20, 1000 + np.arange(6) / 20])
    np.savez(tmp_path / "d.npz", timestamp=time_s, episode_ends=ENDS)
    assert rate_from_timestamps(open_recording(tmp_path / "d.npz")) == pytest.approx(20.0)
    np.savez(tmp_path / "e.npz", state=time_s, episode_ends=ENDS)
    assert rate_from_timestamps(open_recording(tmp_path / "e.npz")) is None


def test_stuck_dimensions() -> None:
    values = np.array([[0, 5, 1], [1, 5, 2], [1, 5, 2], [1, 5, 3], [2, 5, 3], [2, 5, 3], [9, 5, 4]], dtype=np.float64)
    assert stuck_runs(values, np.array([4, 6, 7])) == [
        StuckRun(0, 3, Place(0, 1), 1),  # all of the second episode; the third has a single step
        StuckRun(2, 2, Place(0, 1), 1),
    ]


def test_quaternions_are_found_with_their_changes_of_sign() -> None:
    rng = np.random.default_rng(0)
    angle = np.linspace(0.2, 1.0, 20)
    turn = np.stack([np.zeros(20), np.sin(angle), 0.1 * np.ones(20), np.cos(angle)], axis=1)
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    turn[5:8] *= -1  # two changes within the first episode
    turn[12:] *= -1  # one where the second begins, which is none
    values = np.concatenate([rng.normal(size=(20, 2)), turn, rng.normal(size=(20, 5))], axis=1)
    ends = np.array([12, 20])
    assert find_quaternions(values, ends) == [FoundQuaternion(2, 2 / 18)]
    broken = values.copy()
    broken[3, 4] *= 1.5
    assert find_quaternions(broken, ends) == []
    assert find_quaternions(np.tile([1.0, 0, 0, 0], (20, 1)), ends) == []  # a constant is no rotation to learn from
    assert find_quaternions(values[:, 0], ends) == find_quaternions(values[:, :3], ends) == []
