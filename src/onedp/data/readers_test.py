"""The contract of every data set format."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from onedp.data.episodes import Episodes
from onedp.data.readers import READERS, open_episodes, open_recording
from onedp.errors import DataError

ENDS = np.array([3, 4, 9])
RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {
    "state": RNG.normal(size=(9, 5)).astype(np.float32),
    "action": RNG.integers(0, 512, size=(9, 2)),
    "img": RNG.integers(0, 256, size=(9, 4, 4, 3)).astype(np.uint8),
}


def write_zarr(path: Path, arrays: dict[str, Any], ends: Any, zarr_format: Any = 2) -> Path:
    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    for name, values in arrays.items():
        values = np.asarray(values)
        root.create_array(f"data/{name}", data=values, chunks=(min(4, len(values)), *values.shape[1:]))
    root.create_array("meta/episode_ends", data=np.asarray(ends))
    return path


def zip_folder(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for item in sorted(folder.rglob("*")):
            file.write(item, prefix + str(item.relative_to(folder)))
    return path


def zarr_v3(path: Path, arrays: dict[str, Any], ends: Any) -> Path:
    return write_zarr(path.with_suffix(".v3"), arrays, ends, zarr_format=3)


def zarr_zip(path: Path, arrays: dict[str, Any], ends: Any) -> Path:
    return zip_folder(write_zarr(path, arrays, ends), path.with_suffix(".zarr.zip"))


def zarr_zip_in_folder(path: Path, arrays: dict[str, Any], ends: Any) -> Path:
    """As diffusion_policy's own pusht.zip."""
    return zip_folder(write_zarr(path, arrays, ends), path.with_suffix(".zip"), "pusht/replay.zarr/")


def npz(path: Path, arrays: dict[str, Any], ends: Any) -> Path:
    np.savez(path.with_suffix(".npz"), episode_ends=ends, **arrays)
    return path.with_suffix(".npz")


def npz_compressed(path: Path, arrays: dict[str, Any], ends: Any) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), episode_ends=ends, **arrays)
    return path.with_suffix(".npz")


def npz_zarr_names(path: Path, arrays: dict[str, Any], ends: Any) -> Path:
    """With the names of the zarr layout, and another suffix."""
    named = {f"data/{name}": values for name, values in arrays.items()}
    np.savez(path.with_suffix(".npz"), **{"meta/episode_ends": ends}, **named)
    return path.with_suffix(".npz").rename(path.with_suffix(".data"))


Writer = Callable[[Path, dict[str, Any], Any], Path]
WRITERS: dict[str, tuple[str, Writer]] = {
    "zarr folder": ("zarr v2 (folder)", write_zarr),
    "zarr v3 folder": ("zarr v3 (folder)", zarr_v3),
    "zarr zip": ("zarr v2 (zip)", zarr_zip),
    "zarr folder in a zip": ("zarr v2 (zip)", zarr_zip_in_folder),
    "npz": ("npz (not compressed, memory-mapped)", npz),
    "npz compressed": ("npz (compressed)", npz_compressed),
    "npz with zarr names": ("npz (not compressed, memory-mapped)", npz_zarr_names),
}
every_format = pytest.mark.parametrize(("label", "write"), WRITERS.values(), ids=WRITERS)


def test_every_format_of_the_table_is_tested() -> None:
    """Those that hold any array under any name here, LeRobot's and robomimic's in tests of their own."""
    assert {label.split()[0] for label, _ in WRITERS.values()} == set(READERS) - {"LeRobot", "robomimic"}


@every_format
def test_all_arrays_come_back(tmp_path: Path, label: str, write: Writer) -> None:
    path = write(tmp_path / "d.zarr", ARRAYS, ENDS)
    recording = open_recording(path)
    assert recording.format == label
    assert {name: (h.shape, h.dtype) for name, h in recording.headers.items()} == {
        name: (values.shape, values.dtype.name) for name, values in ARRAYS.items()
    }
    episodes = open_episodes(path)
    assert set(episodes.arrays) == set(ARRAYS)
    for name, values in ARRAYS.items():
        assert episodes.arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(episodes.arrays[name], values)
        np.testing.assert_array_equal(np.concatenate(list(recording.blocks(name))), values)
    np.testing.assert_array_equal(episodes.ends, ENDS)
    assert episodes.digest() == Episodes(ARRAYS, ENDS, "memory").digest()


@every_format
def test_only_the_named_arrays_are_read(tmp_path: Path, label: str, write: Writer) -> None:
    path = write(tmp_path / "d.zarr", ARRAYS, ENDS)
    recording = open_recording(str(path))
    opened: list[str] = []
    inner = recording.open_array

    def open_array(name: str) -> Any:
        opened.append(name)
        return inner(name)

    object.__setattr__(recording, "open_array", open_array)
    assert list(recording.episodes(("action",)).arrays) == ["action"]
    assert opened == ["action"]


@every_format
def test_missing_array(tmp_path: Path, label: str, write: Writer) -> None:
    path = write(tmp_path / "d.zarr", ARRAYS, ENDS)
    message = (
        f"{path}: missing ['stat']. Did you mean 'state'? It has ['action', 'img', 'state']. "
        f"Look at it with: onedp inspect {path}"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        open_episodes(path, ("stat", "action"))


@every_format
@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")
def test_text_is_refused_but_only_when_asked_for(tmp_path: Path, label: str, write: Writer) -> None:
    path = write(tmp_path / "d.zarr", {**ARRAYS, "words": np.array(["push"] * 9)}, ENDS)
    assert len(open_episodes(path, ("state",))) == 3
    with pytest.raises(DataError, match=r"'words' (holds text|has the type).*expected plain numbers"):
        open_episodes(path, ("words",))
    with pytest.raises(DataError, match="'words'"):
        open_episodes(path)


@every_format
@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([3, 3, 9], "episode 1 is empty or ends before it starts (it starts at step 3 and ends at 3)"),
        ([3, 9, 4], "episode 2 is empty or ends before it starts (it starts at step 9 and ends at 4)"),
        ([0, 9], "episode 0 is empty or ends before it starts (it starts at step 0 and ends at 0)"),
        ([3.0, 9.0], "the episode ends have the shape (2,) and the type float64. Expected a list of whole numbers"),
        ([[3, 9]], "the episode ends have the shape (1, 2)"),
        ([3, 8], "'state' has 9 rows, but the last episode ends at step 8. Expected one row a step"),
    ],
)
def test_wrong_episode_ends(tmp_path: Path, label: str, write: Writer, ends: Any, message: str) -> None:
    path = write(tmp_path / "d.zarr", ARRAYS, np.array(ends))
    with pytest.raises(DataError, match=re.escape(message)):
        open_episodes(path, ("state",))


def test_no_episodes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no episodes. Expected at least one"):
        open_episodes(npz(tmp_path / "d", ARRAYS, np.zeros(0, dtype=np.int64)))


def test_array_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'rate' has no rows, but the last episode ends at step 9"):
        open_episodes(npz(tmp_path / "d", {"rate": np.float64(10)}, ENDS), ("rate",))


def test_stored_arrays_are_memory_mapped_also_in_fortran_order(tmp_path: Path) -> None:
    arrays = {"state": np.asfortranarray(ARRAYS["state"])}
    episodes = open_episodes(npz(tmp_path / "d", arrays, ENDS))
    base = episodes.dense("state").base
    assert isinstance(base, np.memmap)
    np.testing.assert_array_equal(episodes.arrays["state"], arrays["state"])


def test_big_endian_data_has_the_same_digest() -> None:
    swapped = {name: values.astype(values.dtype.newbyteorder(">")) for name, values in ARRAYS.items()}
    assert Episodes(swapped, ENDS, "a").digest() == Episodes(ARRAYS, ENDS, "b").digest()


# --- the real data


def test_real_zarr_and_npz_hold_the_same(pusht_human: Path) -> None:
    names = ("action", "keypoint", "n_contacts", "state")
    from_zarr = open_episodes(pusht_human / "pusht_cchi_v7_replay.zarr.zip", names)
    from_npz = open_episodes(pusht_human / "pusht_cchi_v7_replay_lowdim.npz", names)
    for episodes in (from_zarr, from_npz):
        assert (len(episodes), episodes.n_steps) == (206, 25650)
        assert (episodes.lengths.min(), episodes.lengths.max()) == (49, 246)
        assert episodes.ends[:4].tolist() == [161, 279, 420, 579]
    for name in names:
        np.testing.assert_array_equal(from_zarr.arrays[name], from_npz.arrays[name])
    assert from_zarr.digest() == from_npz.digest()


def test_real_pictures_are_listed_and_read_in_pieces(pusht_human: Path) -> None:
    recording = open_recording(pusht_human / "pusht_cchi_v7_replay.zarr.zip")
    assert (recording.headers["img"].shape, recording.headers["img"].dtype) == ((25650, 96, 96, 3), "uint8")
    first = next(iter(recording.blocks("img")))
    assert first.shape[1:] == (96, 96, 3)
    assert first.nbytes < 20e6
