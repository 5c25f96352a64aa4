from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from onedp.data import lerobot_stills
from onedp.data.fake_sets_test import ENDS, SIZE, N, lerobot_v2, lerobot_v3, pictures, step_of, with_stills
from onedp.data.frame_cache import with_frame_cache
from onedp.data.kept import KEPT_BYTES, Kept
from onedp.data.lazy import LazyArray
from onedp.data.lerobot import Steps
from onedp.data.lerobot_meta import LeRobotMeta, read_meta
from onedp.data.lerobot_stills import StillCamera
from onedp.data.parquet import read_group
from onedp.data.readers import open_episodes, open_recording
from onedp.errors import DataError

CAMERA = "observation.images.top"
MAKERS = {"v3.0": lerobot_v3, "v2.1": lerobot_v2}


@pytest.fixture(scope="module", name="sets")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: with_stills(make(tmp_path_factory.mktemp(name) / "set")) for name, make in MAKERS.items()}


@pytest.fixture(name="copy_v2")
def writable(sets: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(sets["v2.1"], tmp_path / "v2"))


@pytest.mark.parametrize("version", MAKERS)
def test_every_step_has_its_own_picture_in_any_order(version: str, sets: dict[str, Path]) -> None:
    recording = open_recording(sets[version])
    assert recording.format == f"LeRobot {version} (with pictures)"
    assert recording.headers[CAMERA].shape == (N, *SIZE, 3)
    assert not recording.bad_episodes
    frames = open_episodes(sets[version], (CAMERA,)).arrays[CAMERA]
    assert isinstance(frames, LazyArray)
    np.testing.assert_array_equal(frames[:], pictures())  # PNG loses nothing
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_array_equal(frames[order], pictures()[order])


def test_jpeg(tmp_path: Path) -> None:
    frames = open_episodes(with_stills(lerobot_v2(tmp_path / "set"), "JPEG"), (CAMERA,)).arrays[CAMERA]
    assert [step_of(picture) for picture in frames[:]] == list(range(N))


def test_the_cache_holds_the_same(sets: dict[str, Path], tmp_path: Path) -> None:
    recording = open_recording(sets["v3.0"])
    cached, direct = with_frame_cache(recording, (CAMERA,), tmp_path).read(CAMERA), recording.read(CAMERA)
    assert isinstance(cached, LazyArray)
    assert isinstance(direct, LazyArray)
    np.testing.assert_array_equal(cached[np.arange(N)], pictures())
    assert cached.content is not None
    assert direct.content is not None
    assert cached.content() == direct.content()


def camera_of(meta: LeRobotMeta, most_bytes: int = KEPT_BYTES) -> StillCamera:
    return StillCamera(meta, CAMERA, ENDS, Steps(meta).files, Kept(most_bytes))


@pytest.mark.parametrize(("most_bytes", "reads"), [(KEPT_BYTES, 5), (1, 7)])
def test_a_row_group_is_read_once_while_there_is_room(
    sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch, most_bytes: int, reads: int
) -> None:
    """Five groups of four; then a picture of the first again and two of the second."""
    read = []

    def counted(path: Path, number: int, name: str) -> Any:
        read.append(number)
        return read_group(path, number, name)

    monkeypatch.setattr(lerobot_stills, "read_group", counted)
    camera = camera_of(read_meta(sets["v3.0"]), most_bytes)
    frames = camera.frames()
    assert not read  # nothing is until a picture is asked for
    for step in (*range(N), 0, 4, 5):
        np.testing.assert_array_equal(frames[np.array([step])][0], pictures()[step])
    assert len(read) == reads
    largest = max(read_group(path, number, CAMERA).nbytes for path in camera.files for number in range(5))
    assert 0 < camera.kept.nbytes <= max(most_bytes, largest)


def damaged(folder: Path, change: Callable[[list[Any]], list[Any]]) -> Path:
    """The pictures of episode 1 changed."""
    path = folder / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index(CAMERA)
    stored = change(table.column(CAMERA).to_pylist())
    kind = pa.array(stored)
    pq.write_table(table.set_column(at, CAMERA, kind), path)
    return folder


def picture_of(size: tuple[int, int], mode: str = "RGB") -> dict[str, Any]:
    with io.BytesIO() as file:
        Image.new(mode, (size[1], size[0])).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": ""}


def torn_picture() -> dict[str, Any]:
    """A PNG whose second piece of pixels is damaged, which Pillow reports by another kind of error."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(noise).save(file, "PNG")
        data = bytearray(file.getvalue())
    second = data.index(b"IDAT", data.index(b"IDAT") + 4)
    data[second : second + 4] = b"\xff\x00\xff\x00"
    return {"bytes": bytes(data), "path": ""}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"bytes": b"\x89PNG\r\n\x1a\n nothing", "path": ""}, r"episode 1, step 2 has a picture .* that is damaged"),
        ({"bytes": None, "path": "frame.png"}, r"episode 1, step 2 has no picture 'observation.images.top'"),
        (None, r"episode 1, step 2 has no picture"),
        (torn_picture(), r"episode 1, step 2 has a picture .* that is damaged"),
        (picture_of(SIZE, "I;16"), r"episode 1, step 2 .* of Pillow's mode I;16, the data set says 3 channels \(RGB\)"),
        (picture_of(SIZE, "RGBA"), r"episode 1, step 2 .* of Pillow's mode RGBA"),
        (picture_of((16, 48)), r"episode 1, step 2 .* of 16 x 48 pixels, the data set says 32 x 48"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(copy_v2: Path, tmp_path: Path, broken: Any, message: str) -> None:
    damaged(copy_v2, lambda stored: [*stored[:2], broken, *stored[3:]])
    recording = open_recording(copy_v2)
    frames = recording.read(CAMERA)
    np.testing.assert_array_equal(frames[: ENDS[0]], pictures()[: ENDS[0]])  # the others are there
    with pytest.raises(DataError, match=message):
        frames[:]
    assert list(with_frame_cache(recording, (CAMERA,), tmp_path / "cache").bad_episodes) == [1]


def test_a_file_without_pictures(copy_v2: Path) -> None:
    damaged(copy_v2, lambda stored: [0.0 for _ in stored])
    with pytest.raises(DataError, match=r"episode 1 has no pictures .* holds double there, expected pictures"):
        open_episodes(copy_v2, (CAMERA,))
    path = copy_v2 / "data" / "chunk-000" / "episode_000001.parquet"
    pq.write_table(pq.read_table(path).drop_columns([CAMERA]), path)
    with pytest.raises(DataError, match=r"episode 1 has no pictures .* has no column of that name"):
        open_episodes(copy_v2, (CAMERA,))
    with pytest.raises(DataError, match=r"episode 1 has no pictures .* has no column of that name"):
        open_recording(copy_v2).read(CAMERA)[np.array([0, ENDS[0]])]
    kept = open_recording(copy_v2).usable((CAMERA,), skip=True).episodes((CAMERA,))
    expected = np.delete(pictures(), np.arange(ENDS[0], ENDS[1]), axis=0)
    np.testing.assert_array_equal(kept.arrays[CAMERA][np.arange(len(expected))], expected)


@pytest.mark.parametrize("rows", [3, 9])
def test_a_file_of_more_or_fewer_rows_spoils_no_other(copy_v2: Path, rows: int) -> None:
    path = copy_v2 / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]).slice(0, rows), path, row_group_size=2)
    camera = camera_of(read_meta(copy_v2))
    assert list(camera.bad_episodes) == [1]
    frames = camera.frames()
    for part in (slice(0, ENDS[0]), slice(ENDS[1], ENDS[2])):
        np.testing.assert_array_equal(frames[part], pictures()[part])
    with pytest.raises(DataError, match=rf"episode 1 has no pictures .* has {rows} rows, its episodes have 5 steps"):
        frames[np.array([ENDS[0]])]


def test_episodes_of_one_file_need_not_follow_each_other(copy_v2: Path) -> None:
    files = [copy_v2 / "data" / f"chunk-{each // 2:03d}" / f"episode_{each:06d}.parquet" for each in range(3)]
    pq.write_table(pa.concat_tables([pq.read_table(files[0]), pq.read_table(files[2])]), files[0], row_group_size=5)
    meta = read_meta(copy_v2)
    episodes = (*meta.episodes[:2], dataclasses.replace(meta.episodes[2], data=files[0]))
    frames = camera_of(dataclasses.replace(meta, episodes=episodes)).frames()
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_array_equal(frames[order], pictures()[order])


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGBA", 4)])
def test_other_numbers_of_channels(copy_v2: Path, mode: str, channels: int) -> None:
    damaged(copy_v2, lambda stored: [picture_of(SIZE, mode) for _ in stored])
    meta = read_meta(copy_v2)
    feature = {**meta.features[CAMERA], "shape": [channels, *SIZE]}
    meta = dataclasses.replace(meta, features={**meta.features, CAMERA: feature})
    assert camera_of(meta).frames()[np.array([ENDS[0]])].shape == (1, *SIZE, channels)
