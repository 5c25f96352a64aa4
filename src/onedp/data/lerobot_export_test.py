from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from onedp.data.fake_sets_test import ENDS, FPS, LENGTHS, N, numbers, pictures, recording_of, robomimic, step_of
from onedp.data.lerobot_export import ExportConfig, export_lerobot
from onedp.data.readers import open_recording
from onedp.errors import DataError

H264 = ExportConfig(task="lift the cube", codec="h264")


def test_robomimic_to_lerobot_and_back_to_arrays(tmp_path: Path) -> None:
    source = open_recording(robomimic(tmp_path / "d.hdf5"))
    written, left_out = export_lerobot(source, tmp_path / "out", H264)
    assert (len(written.ends), left_out) == (3, ())
    result = open_recording(tmp_path / "out")
    assert (result.rate_hz, result.ends.tolist(), result.notes) == (20.0, ENDS.tolist(), ("Task: lift the cube",))
    own = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
    assert set(result.headers) - own == {
        "action", "observation.robot0_eef_pos", "states", "observation.images.top_image"
    }  # fmt: skip
    np.testing.assert_array_equal(result.read("action"), source.read("actions"))
    assert result.read("states").dtype == np.float64
    np.testing.assert_array_equal(result.read("states"), source.read("states"))
    shown = result.read("observation.images.top_image")[:]
    assert [step_of(picture) for picture in shown] == list(range(N))
    assert np.abs(shown.astype(int) - pictures()).mean() < 3


def test_a_second_round_changes_no_number(tmp_path: Path) -> None:
    arrays = {**numbers(), "next.done": np.arange(N) % 5 == 0, "observation.grid": np.arange(N * 6).reshape(N, 2, 3)}
    export_lerobot(recording_of(arrays), tmp_path / "once", H264)
    export_lerobot(open_recording(tmp_path / "once"), tmp_path / "twice", H264)
    once, twice = (open_recording(tmp_path / name) for name in ("once", "twice"))
    for name, values in arrays.items():
        np.testing.assert_array_equal(np.asarray(once.read(name)).reshape(values.shape), values)
        assert once.read(name).dtype == values.dtype
    assert once.episodes().digest() == twice.episodes().digest()
    first, second = ((tmp_path / name / "meta" / "info.json").read_text() for name in ("once", "twice"))
    assert first == second


def test_roll_outs_of_a_policy_do_not_become_demonstrations(tmp_path: Path) -> None:
    recording = replace(open_recording(robomimic(tmp_path / "d.hdf5")), policy="student (one-step)")
    with pytest.raises(DataError, match=r"holds roll-outs of student \(one-step\), and LeRobot's layout has no place"):
        export_lerobot(recording, tmp_path / "out", ExportConfig(None))
    assert not (tmp_path / "out").exists()


def test_statistics_and_metadata_are_lerobots(tmp_path: Path) -> None:
    arrays = {**numbers(), "observation.image": pictures()}
    export_lerobot(recording_of(arrays), tmp_path / "out", H264)
    statistics = json.loads((tmp_path / "out" / "meta" / "stats.json").read_text())
    np.testing.assert_allclose(statistics["action"]["mean"], arrays["action"].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(statistics["action"]["std"], arrays["action"].std(axis=0), rtol=1e-5)
    image = statistics["observation.image"]
    assert np.shape(image["min"]) == (3, 1, 1)
    np.testing.assert_allclose(np.ravel(image["mean"]), pictures().mean(axis=(0, 1, 2)) / 255, rtol=1e-4)
    episodes = pq.read_table(tmp_path / "out" / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    assert episodes[1]["videos/observation.image/from_timestamp"] == pytest.approx(6 / FPS)
    assert (episodes[1]["dataset_from_index"], episodes[1]["length"], episodes[1]["tasks"]) == (6, 5, ["lift the cube"])


def test_real_columns_are_those_of_the_real_set(tmp_path: Path, pusht_human: Path) -> None:
    """Names and types of every parquet column, and the metadata pandas needs, as in lerobot/pusht itself."""
    real = pusht_human.parent / "pusht_human_lerobot_v3"
    export_lerobot(open_recording(real), tmp_path / "out", ExportConfig(task="push"))
    for file in ("data/chunk-000/file-000.parquet", "meta/tasks.parquet"):
        ours, theirs = (pq.read_schema(root / file) for root in (tmp_path / "out", real))
        assert {field.name: field.type for field in ours} == {field.name: field.type for field in theirs}
    ours, theirs = (open_recording(root).episodes(("action", "observation.state")) for root in (tmp_path / "out", real))
    assert ours.digest() == theirs.digest()
    named = json.loads(pq.read_schema(tmp_path / "out" / "meta" / "tasks.parquet").metadata[b"pandas"])
    assert named["index_columns"] == ["__index_level_0__"]


def test_each_step_keeps_its_task(tmp_path: Path) -> None:
    index = np.repeat([1, 0, 1], LENGTHS)
    several = replace(recording_of({**numbers(), "task_index": index}), tasks=("push", "pull"))
    export_lerobot(several, tmp_path / "out", replace(H264, task=None))
    result = open_recording(tmp_path / "out")
    assert result.tasks == ("push", "pull")
    np.testing.assert_array_equal(np.asarray(result.read("task_index")).ravel(), index)
    episodes = pq.read_table(tmp_path / "out" / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    assert [each["tasks"] for each in episodes] == [["pull"], ["push"], ["pull"]]
    export_lerobot(several, tmp_path / "named", replace(H264, task="move"))
    assert open_recording(tmp_path / "named").tasks == ("move",)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    arrays = {**numbers(), "depth": np.zeros((N, 4, 4, 1), np.float32)}
    _, (left_out,) = export_lerobot(recording_of(arrays), tmp_path / "out", H264)
    assert left_out.startswith(
        "'depth' has the shape (4, 4, 1) and the type float32 in each step, pictures are (height"
    )
    with pytest.raises(DataError, match=r"out is there already. Choose another --out"):
        export_lerobot(recording_of(arrays), tmp_path / "out", H264)
    with pytest.raises(DataError, match=r"does not say at how many steps a second .* Give it: --fps 10"):
        export_lerobot(recording_of(arrays, rate_hz=None), tmp_path / "b", H264)
    with pytest.raises(DataError, match=r"two arrays would be named 'action'"):
        export_lerobot(recording_of({**numbers(), "actions": np.zeros((N, 2))}), tmp_path / "c", H264)
    odd = recording_of({"obs/cam": pictures(size=(33, 48))})
    with pytest.raises(DataError, match=r"'obs/cam' have 33 x 48 pixels; video needs even numbers"):
        export_lerobot(odd, tmp_path / "d", H264)
    assert not (tmp_path / "d").exists()
