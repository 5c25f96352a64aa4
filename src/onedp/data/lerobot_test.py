from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onedp.data import lerobot
from onedp.data.config import ReadingConfig
from onedp.data.episodes import Episodes
from onedp.data.fake_sets_test import ENDS, FPS, LENGTHS, SIZE, N, lerobot_v2, lerobot_v3, numbers, pictures, step_of
from onedp.data.lazy import LazyArray
from onedp.data.lerobot_meta import picture_shape
from onedp.data.parquet import read_columns
from onedp.data.readers import open_episodes, open_recording
from onedp.data.video_writer import VideoWriter
from onedp.errors import DataError

CAMERA = "observation.images.top"
VIDEO_V3 = f"videos/{CAMERA}/chunk-000/file-000.mp4"
DATA_V3 = "data/chunk-000/file-000.parquet"
SKIP = ReadingConfig(skip_bad_episodes=True)


@pytest.fixture(scope="module", name="v3")
def stored_v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lerobot_v3(tmp_path_factory.mktemp("v3") / "set")


@pytest.fixture(scope="module", name="v2")
def stored_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lerobot_v2(tmp_path_factory.mktemp("v2") / "set")


@pytest.fixture(name="copy_v3")
def writable_v3(v3: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(v3, tmp_path / "v3"))


@pytest.fixture(name="copy_v2")
def writable_v2(v2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(v2, tmp_path / "v2"))


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_both_versions_give_the_same(version: str, v3: Path, v2: Path) -> None:
    recording = open_recording(v3 if version == "v3.0" else v2)
    assert recording.format == f"LeRobot {version} (with video)"
    assert (recording.rate_hz, recording.ends.tolist()) == (FPS, ENDS.tolist())
    assert recording.splits == {"train": (0, 1, 2)}
    assert recording.notes == ("Task: push",)
    for name, values in numbers().items():
        np.testing.assert_array_equal(recording.read(name), values)
    assert recording.headers[CAMERA].shape == (N, *SIZE, 3)
    assert recording.headers["frame_index"].shape == (N, 1)
    np.testing.assert_array_equal(np.asarray(recording.read("episode_index"))[:, 0], np.repeat([0, 1, 2], LENGTHS))


def test_a_column_is_read_once_for_its_faults_and_its_values(v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
        read.extend(names)
        return read_columns(path, names)

    recording = open_recording(v2)
    monkeypatch.setattr(lerobot, "read_columns", counted)
    array = recording.usable(("action",), skip=False).episodes(("action",)).arrays["action"]
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, numbers()["action"])
    assert read == ["action"] * len(ENDS)  # a file an episode, and no other column
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0  # another who reads it may be given the same


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_every_step_has_its_own_picture_in_any_order(version: str, v3: Path, v2: Path) -> None:
    frames = open_episodes(v3 if version == "v3.0" else v2, (CAMERA,)).arrays[CAMERA]
    assert isinstance(frames, LazyArray)
    assert [step_of(picture) for picture in frames[:]] == list(range(N))
    order = np.random.default_rng(0).permutation(N)
    assert [step_of(picture) for picture in frames[order]] == order.tolist()
    twice = frames[np.array([[7, 8], [8, 0]])]
    assert twice.shape == (2, 2, *SIZE, 3)
    assert abs(twice.astype(int) - pictures()[[[7, 8], [8, 0]]]).mean() < 3


def test_av1_and_a_keyframe_far_away(tmp_path: Path) -> None:
    """LeRobot writes AV1; other tools write a keyframe every few hundred frames, and frames out of order."""
    root = lerobot_v3(tmp_path / "av1", codec="av1")
    shuffled = np.array([13, 2, 19, 3])
    frames = open_episodes(root, (CAMERA,)).arrays[CAMERA]
    assert [step_of(picture) for picture in frames[shuffled]] == shuffled.tolist()
    import av

    with av.open(str(root / VIDEO_V3), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "250", "bf": "2", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    frames = open_episodes(root, (CAMERA,)).arrays[CAMERA]
    assert isinstance(frames, LazyArray)
    assert frames.run == N
    assert [step_of(picture) for picture in frames[shuffled]] == shuffled.tolist()
    assert [step_of(picture) for picture in frames[:]] == list(range(N))


def test_digest_is_of_what_the_files_hold(v3: Path, copy_v3: Path) -> None:
    names = ("action", CAMERA)
    assert open_episodes(v3, names).digest() == open_episodes(copy_v3, names).digest()
    arrays = {"action": numbers()["action"]}
    assert open_episodes(v3, ("action",)).digest() == Episodes(arrays, ENDS, "memory").digest()
    lerobot_v3(copy_v3.parent / "other", {CAMERA: pictures()[::-1]})
    shutil.copy(copy_v3.parent / "other" / VIDEO_V3, copy_v3 / VIDEO_V3)
    assert open_episodes(v3, names).digest() != open_episodes(copy_v3, names).digest()


def test_shape_of_pictures_in_either_order() -> None:
    for feature in (
        {"shape": [3, 32, 48], "names": ["channels", "height", "width"]},
        {"shape": [32, 48, 3], "names": ["height", "width", "channel"]},
        {"shape": [3, 32, 48], "names": None},
        {"shape": [32, 48, 3]},
    ):
        assert picture_shape(feature) == (32, 48, 3)


# --- what is wrong


def same_message(root: Path, message: str, left: list[int], names: tuple[str, ...] = ("action", CAMERA)) -> None:
    """The error without --skip-bad-episodes, and the episodes that are left with it."""
    with pytest.raises(DataError, match=message) as caught:
        open_recording(root).usable(names, skip=False)
    assert "--skip-bad-episodes" in str(caught.value)
    kept = open_recording(root, SKIP).usable(names, skip=True)
    assert kept.selection == tuple(left)
    assert len(kept.skipped) == 3 - len(left)
    good = np.concatenate([np.arange(ENDS[each] - LENGTHS[each], ENDS[each]) for each in left])
    np.testing.assert_array_equal(kept.read("action"), numbers()["action"][good])
    if CAMERA in names:
        assert [step_of(picture) for picture in kept.read(CAMERA)[:]] == good.tolist()


def rewrite_video(path: Path, shown: np.ndarray, fps: float = FPS) -> None:
    with VideoWriter(path, shown.shape[1], shown.shape[2], fps, "h264") as writer:
        for picture in shown:
            writer.write(picture)


def test_video_with_too_few_frames(copy_v3: Path) -> None:
    rewrite_video(copy_v3 / VIDEO_V3, pictures()[:15])
    message = r"episode 2 lacks 5 of its 9 pictures 'observation.images.top': .*file-000.mp4 has no frame at 1.500 s"
    same_message(copy_v3, message, [0, 1])
    open_recording(copy_v3).usable(("action",), skip=False)  # whoever needs no pictures is not bothered


def test_a_video_of_more_frames_than_its_episode_has_steps(copy_v2: Path) -> None:
    video = next((copy_v2 / "videos").glob("chunk-000/*/episode_000000.mp4"))
    length = int(LENGTHS[0])
    for spare in (1, 2):
        with VideoWriter(video, *SIZE, FPS, "h264") as writer:
            for picture in [*pictures()[:length], *[pictures()[0]] * spare]:
                writer.write(picture)
        bad = open_recording(copy_v2).check_array("observation.images.top")
        assert list(bad) == ([] if spare == 1 else [0])
    assert f"has {length} steps and {length + 2} pictures 'observation.images.top' in" in bad[0]


def test_truncated_video(copy_v2: Path) -> None:
    video = copy_v2 / "videos" / "chunk-000" / CAMERA / "episode_000001.mp4"
    video.write_bytes(video.read_bytes()[:-300])
    message = r"episode 1 has no pictures 'observation.images.top': The video .*001.mp4 cannot be opened .* truncated"
    same_message(copy_v2, message, [0, 2])


def test_video_damaged_inside_is_named_with_its_place(copy_v3: Path) -> None:
    video = copy_v3 / VIDEO_V3
    content = bytearray(video.read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov")
    content[start : end - 8] = bytes(end - 8 - start)
    video.write_bytes(bytes(content))
    frames = open_episodes(copy_v3, (CAMERA,)).arrays[CAMERA]
    with pytest.raises(DataError, match=r"The video .*file-000.mp4 cannot be decoded at 0.00 s .*Copy or download it"):
        frames[np.array([0])]


def test_missing_camera(copy_v3: Path, copy_v2: Path) -> None:
    (copy_v2 / "videos" / "chunk-001" / CAMERA / "episode_000002.mp4").unlink()
    same_message(copy_v2, r"episode 2 has no pictures 'observation.images.top': The video .*002.mp4 is missing", [0, 1])
    shutil.rmtree(copy_v2 / "videos")
    message = rf"'{CAMERA}' has no video: .*episode_000000.mp4 and all others of this camera are missing. Copy or"
    with pytest.raises(DataError, match=message):
        open_episodes(copy_v2, (CAMERA,))
    assert len(open_episodes(copy_v2, ("action",))) == 3
    with pytest.raises(DataError, match=r"missing \['observation.images.tip'\]. Did you mean 'observation.images.top'"):
        open_episodes(copy_v2, ("observation.images.tip",))


def test_pictures_of_another_size(copy_v2: Path) -> None:
    rewrite_video(copy_v2 / "videos" / "chunk-000" / CAMERA / "episode_000000.mp4", pictures(6, (24, 48)))
    same_message(
        copy_v2, r"episode 0 has pictures .* of 24 x 48 pixels in .*, the data set says 32 x 48 with 3", [1, 2]
    )


def test_mixed_frame_rates(copy_v2: Path) -> None:
    path = copy_v2 / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    times = pa.array((np.arange(5) / 30).astype(np.float32))
    pq.write_table(table.set_column(table.schema.get_field_index("timestamp"), "timestamp", times), path)
    same_message(copy_v2, r"episode 1 runs at 30 Hz by its timestamps, the data set at 10 Hz: frame rates", [0, 2])


def test_video_of_another_rate(copy_v2: Path) -> None:
    rewrite_video(copy_v2 / "videos" / "chunk-000" / CAMERA / "episode_000001.mp4", pictures()[6:11], fps=30)
    same_message(
        copy_v2, r"episode 1 lacks 3 of its 5 pictures .* has no frame at 0.200 s \(5 frames at 30 Hz\)", [0, 2]
    )


def test_unreadable_parquet(copy_v2: Path, copy_v3: Path) -> None:
    path = copy_v2 / "data" / "chunk-000" / "episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    same_message(copy_v2, r"episode 1 cannot be read: .*episode_000001.parquet cannot be read .* It is damaged", [0, 2])
    path.unlink()
    same_message(copy_v2, r"episode 1 cannot be read: .*episode_000001.parquet is missing", [0, 2])
    (copy_v3 / DATA_V3).write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"episode 0 cannot be read: .*file-000.parquet cannot be read.* 2 more cannot"):
        open_recording(copy_v3)
    with pytest.raises(DataError, match="no episodes are left"):
        open_recording(copy_v3, SKIP)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda column: pa.array([None, *column.to_pylist()[1:]], column.type),
            r"001.parquet 1 rows have no value",
        ),
        (lambda column: None, r"001.parquet has no columns \['action'\]"),
        (
            lambda column: pa.array([[*row, 0.0] for row in column.to_pylist()]),
            r"each step has the shape \(3,\)",
        ),
    ],
)
def test_an_array_that_is_bad_in_one_episode(copy_v2: Path, damage: Callable[[pa.Array], Any], message: str) -> None:
    path = next((copy_v2 / "data").rglob("episode_000001.parquet"))
    table = pq.read_table(path)
    place = table.schema.get_field_index("action")
    column = damage(table.column("action").combine_chunks())
    table = table.remove_column(place) if column is None else table.set_column(place, "action", column)
    pq.write_table(table, path)
    same_message(copy_v2, r"episode 1 has no 'action' that can be used: .*" + message, [0, 2])


def test_steps_that_are_missing_or_of_another_episode(copy_v3: Path) -> None:
    table = pq.read_table(copy_v3 / DATA_V3)
    pq.write_table(table.slice(0, 15), copy_v3 / DATA_V3)
    same_message(copy_v3, r"episode 2 has 4 of its 9 steps in .*file-000.parquet", [0, 1])
    swapped = np.repeat([0, 2, 1], LENGTHS)
    place = table.schema.get_field_index("episode_index")
    pq.write_table(table.set_column(place, "episode_index", pa.array(swapped)), copy_v3 / DATA_V3)
    with pytest.raises(DataError, match=r"episode 1 has steps of episode 2 among its own in .* 1 more cannot be used"):
        open_recording(copy_v3)


def test_gap_in_the_steps(copy_v3: Path) -> None:
    table = pq.read_table(copy_v3 / DATA_V3)
    index = table.column("frame_index").to_numpy().copy()
    index[8:11] += 2
    place = table.schema.get_field_index("frame_index")
    pq.write_table(table.set_column(place, "frame_index", pa.array(index)), copy_v3 / DATA_V3)
    same_message(copy_v3, r"episode 1 has a gap: step 2 is numbered 4", [0, 2])


def test_empty_episode(copy_v2: Path) -> None:
    file = copy_v2 / "meta" / "episodes.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[1]["length"] = 0
    file.write_text("\n".join(json.dumps(line) for line in lines))
    same_message(copy_v2, r"episode 1 is empty: it has 0 steps by meta/", [0, 2], ("action",))


Change = Callable[[dict], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.update(codebase_version="v1.6"), r"version v1.6; v2.0, v2.1 and v3.0 are read. Convert it"),
        (lambda info: info.pop("fps"), r"info.json lacks or misstates 'fps'. The data set is damaged"),
        (lambda info: info.update(fps=0), r"fps is 0, expected a rate \[Hz\]"),
        (lambda info: info["features"]["action"].pop("shape"), r"info.json lacks or misstates 'shape'"),
    ],
)
def test_wrong_info(copy_v3: Path, change: Change, message: str) -> None:
    file = copy_v3 / "meta" / "info.json"
    info = json.loads(file.read_text())
    change(info)
    file.write_text(json.dumps(info))
    with pytest.raises(DataError, match=message):
        open_recording(copy_v3)


def test_unreadable_metadata(copy_v3: Path, copy_v2: Path) -> None:
    (copy_v2 / "meta" / "episodes.jsonl").write_text('{"episode_index": 0')
    with pytest.raises(DataError, match=r"episodes.jsonl cannot be read .*Copy or download the data set again"):
        open_recording(copy_v2)
    (copy_v3 / "meta" / "info.json").write_text("{")
    with pytest.raises(DataError, match=r"info.json cannot be read .*Copy or download the data set again"):
        open_recording(copy_v3)


# --- the real data


def test_real_set_without_its_video(pusht_human: Path) -> None:
    root = pusht_human.parent / "pusht_human_lerobot_v3"
    recording = open_recording(root)
    assert (recording.rate_hz, len(recording.ends), int(recording.ends[-1])) == (10.0, 206, 25650)
    assert "has no video" in recording.problem("observation.image")
    original = open_episodes(pusht_human / "pusht_cchi_v7_replay_lowdim.npz", ("action", "state"))
    np.testing.assert_array_equal(recording.read("action"), original.arrays["action"])
    np.testing.assert_array_equal(recording.read("observation.state"), original.dense("state")[:, :2])
    np.testing.assert_array_equal(recording.ends, original.ends)
