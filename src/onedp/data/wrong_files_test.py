"""What each wrong file is answered with; nothing in any of them is unpickled."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from onedp.data.readers import open_episodes, open_recording
from onedp.data.readers_test import (
    ARRAYS,
    ENDS,
    RNG,
    Writer,
    npz,
    npz_compressed,
    write_zarr,
    zarr_v3,
    zarr_zip,
    zip_folder,
)
from onedp.errors import DataError


class Bomb:
    """Unpickling it would be noticed."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("an array was unpickled",))


def test_pickled_objects_in_npz_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    path = npz(tmp_path / "d", {"state": ARRAYS["state"], "evil": np.array([Bomb()] * 9)}, ENDS)
    assert len(open_episodes(path, ("state",))) == 3
    with pytest.raises(DataError, match=r"'evil' holds Python objects.*unpickled.*refused.*plain numbers"):
        open_episodes(path)
    with pytest.raises(DataError, match="'episode_ends' holds Python objects"):
        open_episodes(npz(tmp_path / "e", {"state": ARRAYS["state"]}, np.array([Bomb()])))


@pytest.mark.parametrize("dtype", ["|O", "<f8"])
def test_pickle_codec_in_zarr_is_refused_and_never_unpickled(tmp_path: Path, dtype: str) -> None:
    path = write_zarr(tmp_path / "d.zarr", ARRAYS, ENDS)
    evil = path / "data" / "evil"
    evil.mkdir()
    header = {
        "shape": [9], "chunks": [9], "dtype": dtype, "fill_value": 0, "order": "C", "compressor": None,
        "filters": [{"id": "pickle", "protocol": 5}], "zarr_format": 2,
    }  # fmt: skip
    (evil / ".zarray").write_text(json.dumps(header))
    (evil / "0").write_bytes(numcodecs.Pickle().encode(np.array([Bomb()] * 9)))
    assert len(open_episodes(path, ("state",))) == 3
    with pytest.raises(DataError, match=r"'evil' holds Python objects.*refused"):
        open_episodes(path)


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    npz(tmp_path / "demonstrations", ARRAYS, ENDS)
    with pytest.raises(DataError, match=r"No data set at .*: it does not exist. Did you mean 'demonstrations.npz'\?"):
        open_episodes(tmp_path / "demonstration.npz")
    with pytest.raises(DataError, match=r"it does not exist. Check the path"):
        open_episodes(tmp_path / "no" / "folder")


EXPECTED = "Expected a diffusion_policy zarr (folder or zip with data/<name> and meta/episode_ends) or an npz with"


@pytest.mark.parametrize("name", ["d.npz", "d.zarr", "d.zarr.zip", "d"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello world, here is text", "is neither a zip nor a folder; it begins with b'hello world, her'"),
        (b"", "is empty (0 bytes); copy or download it again"),
        (b"\x93NUMPY\x01\x00", "is a single numpy array (npy)"),
        (
            b"PAR1....",
            "is a single parquet file; of a LeRobot data set, pass the folder that has meta/ and data/ in it",
        ),
        (b"\x80\x05\x95", "looks like a Python pickle, which is never opened"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the data itself"),
    ],
)
def test_foreign_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        open_episodes(tmp_path / name)
    assert EXPECTED in str(caught.value)


@pytest.mark.parametrize("write", [npz, npz_compressed, zarr_zip])
def test_truncated_zip(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "d", ARRAYS, ENDS)
    path.write_bytes(path.read_bytes()[:-200])
    size = path.stat().st_size
    with pytest.raises(DataError, match=rf"begins like a zip, but .* truncated \(has {size} bytes\). Copy or download"):
        open_episodes(path)


def test_one_flipped_byte_in_a_stored_npz_is_noticed(tmp_path: Path) -> None:
    """Stored arrays are memory-mapped, which by itself looks at no checksum."""
    path = tmp_path / "set.npz"
    np.savez(path, state=np.full((40_000, 5), 7.0, np.float32), episode_ends=np.array([40_000]))
    assert float(np.asarray(open_recording(path).read("state")).sum()) == 40_000 * 5 * 7.0
    content = bytearray(path.read_bytes())
    content[400_000] ^= 1  # far from the header, whose reader would see it
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"'state.npy' does not have the checksum .* damaged; copy or download it again"
    ):
        open_recording(path).read("state")


@pytest.mark.parametrize("write", [npz_compressed, zarr_zip, write_zarr])
def test_damaged_data_names_the_array(tmp_path: Path, write: Writer) -> None:
    arrays = {"state": RNG.normal(size=(9, 500))}
    path = write(tmp_path / "d", arrays, ENDS)
    if path.is_dir():
        (path / "data" / "state" / "0.0").write_bytes(b"rubbish")
    else:
        content = bytearray(path.read_bytes())
        middle = content.find(b"state") + 2000
        content[middle : middle + 400] = bytes(400)
        path.write_bytes(content)
    recording = open_recording(path)
    with pytest.raises(DataError, match=r"'state' cannot be read \(.*damaged or incomplete; copy or download it again"):
        recording.read("state")


def test_zip_that_is_no_data_set(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zarr.zip", "w") as file:
        file.writestr("holiday.txt", "sun")
    with pytest.raises(DataError, match=r"is a zip, but neither a zarr nor an npz; it holds \['holiday.txt'\]"):
        open_episodes(tmp_path / "d.zarr.zip")


def test_zip_with_two_data_sets(tmp_path: Path) -> None:
    folder = write_zarr(tmp_path / "d", ARRAYS, ENDS)
    shutil.copytree(folder, tmp_path / "both" / "a")
    shutil.copytree(folder, tmp_path / "both" / "b")
    path = zip_folder(tmp_path / "both", tmp_path / "both.zip")
    with pytest.raises(DataError, match=r"holds 2 zarr data sets: \['a/', 'b/'\]. Expected one; unzip it"):
        open_episodes(path)


def test_folder_that_is_no_zarr(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is a folder without zarr metadata \(.zgroup or zarr.json\); it holds nothing"
    ):
        open_episodes(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(DataError, match=r"it holds \['readme.txt'\]"):
        open_episodes(tmp_path)
    path = npz(tmp_path / "d", ARRAYS, ENDS)
    with pytest.raises(DataError, match=f"is a folder, not a data set, but it contains some. Pass one of: {path}"):
        open_episodes(tmp_path)


def test_lerobot_folder(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    with pytest.raises(DataError, match=r"info.json lacks or misstates 'codebase_version'. The data set is damaged"):
        open_episodes(tmp_path)


@pytest.mark.parametrize("as_zip", [False, True])
def test_zarr_of_another_layout(tmp_path: Path, as_zip: bool) -> None:
    root = zarr.open_group(str(tmp_path / "d.zarr"), mode="w", zarr_format=2)
    root.create_array("observations/state", data=ARRAYS["state"])
    path = zip_folder(tmp_path / "d.zarr", tmp_path / "d.zip") if as_zip else tmp_path / "d.zarr"
    with pytest.raises(DataError, match=r"without arrays in 'data/' or without .*it has \['observations'\]") as caught:
        open_episodes(path)
    assert "Expected the layout of diffusion_policy's replay buffer" in str(caught.value)


def test_unreadable_zarr_metadata(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "d.zarr", ARRAYS, ENDS)
    (path / "data" / "state" / ".zarray").write_text("{ not json")
    with pytest.raises(DataError, match=r"the metadata of 'state' is not readable \(.*damaged"):
        open_episodes(path)


def test_npz_without_episode_ends(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", state=ARRAYS["state"])
    with pytest.raises(DataError, match=r"has no 'episode_ends' .*; it has \['state'\]. Add it and save again"):
        open_episodes(tmp_path / "d.npz")


@pytest.mark.parametrize("write", [write_zarr, zarr_v3, zarr_zip])
def test_missing_chunks_are_noticed(tmp_path: Path, write: Writer) -> None:
    """Zarr itself reads them as zeros without a word."""
    path = write(tmp_path / "d.zarr", ARRAYS, ENDS)
    assert {header.doubt for header in open_recording(path).headers.values()} == {""}
    folder = path if path.is_dir() else tmp_path / "d.zarr"
    next(
        item for item in sorted((folder / "data" / "action").rglob("*")) if item.is_file() and item.name in ("1.0", "0")
    ).unlink()
    path = path if path.is_dir() else zip_folder(folder, tmp_path / "e.zip")
    headers = open_recording(path).headers
    assert headers["state"].doubt == ""
    assert headers["action"].doubt.startswith(
        "has 1 of its 3 chunks not stored; they are read as the fill value, mostly 0."
    )


def test_zarr_copied_without_the_hidden_files_at_the_top(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "d.zarr", ARRAYS, ENDS)
    for hidden in path.glob(".z*"):
        hidden.unlink()
    np.testing.assert_array_equal(open_episodes(path).arrays["state"], ARRAYS["state"])


def test_path_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: File name too long. Check the path and its rights"):
        open_episodes(tmp_path / ("long" * 100))
