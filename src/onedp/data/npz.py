"""Reader of npz data sets: one array per name, time first, and ``episode_ends``. Nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy import ndarray
from numpy.lib import format as npy

from onedp.data.episodes import empty_episodes
from onedp.data.recording import ArrayHeader, Recording, dtype_problem
from onedp.errors import DataError

ENDS_KEYS = ("episode_ends", "meta/episode_ends")


def looks_like_npz(path: Path) -> bool:
    """True for a zip with numpy arrays in it, whatever its name."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith(".npy") for name in file.namelist())


def open_npz(path: Path) -> Recording:
    """Read the headers and the episode ends; arrays stored without compression are memory-mapped."""
    with zipfile.ZipFile(path) as file:
        members = {info.filename.removesuffix(".npy"): info for info in file.infolist() if info.filename[-4:] == ".npy"}
        headers = {key: _header(file, info, path) for key, info in members.items()}
    ends_key = next((key for key in ENDS_KEYS if key in members), None)
    if ends_key is None:
        raise DataError(
            f"{path} has no 'episode_ends' (index one past the last step of each episode); it has {sorted(members)}. "
            "Add it and save again: numpy.savez(path, episode_ends=..., state=..., action=...)."
        )
    if headers[ends_key].problem:
        raise DataError(f"{path}: '{ends_key}' {headers[ends_key].problem}")
    keys = {key.removeprefix("data/"): key for key in members if key not in ENDS_KEYS}
    compressed = any(info.compress_type != zipfile.ZIP_STORED for info in members.values())
    try:
        ends = np.asarray(_open_member(path, members[ends_key]))
    except Exception as error:
        raise DataError(f"{path}: '{ends_key}' cannot be read ({error}). Copy or download the file again.") from error
    return Recording(
        source=str(path),
        format="npz (compressed)" if compressed else "npz (not compressed, memory-mapped)",
        headers={name: headers[key] for name, key in keys.items()},
        ends=ends.astype(np.int64) if ends.dtype.kind in "iu" else ends,
        bad_episodes=empty_episodes(ends),
        open_array=lambda name: _open_member(path, members[keys[name]]),
    )


def _header(file: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> ArrayHeader:
    try:
        with file.open(info) as stream:
            shape, _, dtype = _read_header(stream)
    except Exception as error:  # zlib, zipfile and numpy raise many kinds
        raise DataError(
            f"{path}: the header of '{info.filename}' cannot be read ({type(error).__name__}: {error}). The file is "
            "damaged; copy or download it again."
        ) from error
    return ArrayHeader(shape, "object" if dtype.hasobject else dtype.name, dtype_problem(dtype))


def _read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type; leaves the stream at the first byte of the data."""
    version = npy.read_magic(stream)
    return npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)


def _check_stored(path: Path, info: zipfile.ZipInfo, raw: BinaryIO) -> None:
    """Compare the checksum of the member whose first byte comes next: a memory map would never look at it."""
    checksum, left = 0, info.file_size
    while left and (block := raw.read(min(left, 1 << 22))):
        checksum, left = zlib.crc32(block, checksum), left - len(block)
    if left or checksum != info.CRC:
        raise DataError(
            f"{path}: the content of '{info.filename}' does not have the checksum that the file names for it. The file "
            "is damaged; copy or download it again."
        )


def _open_member(path: Path, info: zipfile.ZipInfo) -> ndarray:
    """One array: memory-mapped when stored as it is, else decompressed."""
    with path.open("rb") as raw:
        if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
            raw.seek(info.header_offset + 26)  # the local header repeats the name and has an extra field of its own
            name_length, extra_length = np.frombuffer(raw.read(4), dtype="<u2").astype(int)
            raw.seek(name_length + extra_length, 1)
            start = raw.tell()
            _check_stored(path, info, raw)
            raw.seek(start)
            shape, fortran, dtype = _read_header(raw)
            if np.prod(shape, dtype=np.int64):
                order: Any = "F" if fortran else "C"
                return np.memmap(path, dtype=dtype, mode="r", offset=raw.tell(), shape=shape, order=order)
    with zipfile.ZipFile(path) as file, file.open(info) as stream:
        return npy.read_array(stream, allow_pickle=False)
