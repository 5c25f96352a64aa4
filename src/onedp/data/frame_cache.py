"""Decoded pictures on disk, memory-mapped: any picture of a video or of a compressed chunk costs a page fault."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy import ndarray

from onedp.data.lazy import LazyArray
from onedp.data.recording import Recording
from onedp.errors import DataError
from onedp.files import replaced_file, write_json

CACHE_FORMAT = 1
PIECE_BYTES = 64 << 20
"""Pictures in memory at a time while the cache is written."""


def with_frame_cache(recording: Recording, names: Iterable[str], folder: Path) -> Recording:
    """``recording`` with the pictures ``names`` decoded into ``folder``, or found there from the last time.

    Episodes whose pictures cannot be decoded join ``bad_episodes``. A file belongs to its source's path, size and time
    of change, and to the chosen episodes; the others are never deleted here. Raises ``DataError`` when the disk is too
    small.
    """
    cached: dict[str, LazyArray] = {}
    bad: dict[int, str] = dict(recording.bad_episodes)
    for name in names:
        if not recording.headers[name].is_lazy:
            continue
        array = recording.read(name)
        if isinstance(array, LazyArray):
            file = folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', name)}-{_key(recording, name)}.npy"
            if not file.is_file():
                _write(array, recording, name, file)
            bad |= {int(each): why for each, why in json.loads(_notes(file).read_text()).items()}
            frames = np.load(file, mmap_mode="r")
            cached[name] = replace(array, read=frames.__getitem__, run=1)  # the digest is still the source's
    inner = recording.open_array
    return replace(recording, open_array=lambda name: cached[name] if name in cached else inner(name), bad_episodes=bad)


def _key(recording: Recording, name: str) -> str:
    header = recording.headers[name]
    source = Path(recording.source)
    found = sorted(item for item in source.rglob("*") if item.is_file()) if source.is_dir() else [source]
    stamps = [(str(item), item.stat().st_size, item.stat().st_mtime_ns) for item in found]
    what = (CACHE_FORMAT, str(source.resolve()), stamps, name, header.shape, header.dtype, recording.selection)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:20]


def _notes(file: Path) -> Path:
    return file.with_suffix(".json")


def _write(array: LazyArray, recording: Recording, name: str, file: Path) -> None:
    """What cannot be decoded stays black and is noted."""
    file.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(file.parent).free
    if array.nbytes > 0.95 * free:
        raise DataError(
            f"The decoded pictures '{name}' take {array.nbytes / 2**30:.1f} GiB, {file.parent} has "
            f"{free / 2**30:.1f} GiB left. Choose another --frame-cache, or leave it out (slower)."
        )
    with replaced_file(file) as temporary:
        frames = np.lib.format.open_memmap(temporary, mode="w+", dtype=array.dtype, shape=array.shape)
        bad = decode_all(array, recording, name, frames.__setitem__)
        frames.flush()
        del frames
        write_json(_notes(file), bad)


def decode_all(
    array: LazyArray, recording: Recording, name: str, keep: Callable[[slice, ndarray], None] | None = None
) -> dict[int, str]:
    """Decode the pictures ``name`` episode by episode, in the order of the steps, and ``keep`` the rows of each piece.

    Returns the episodes that cannot be decoded, and why, in words that go on after "episode 3".
    """
    step = max(1, PIECE_BYTES // max(1, array.nbytes // len(array)))
    bad: dict[int, str] = {}
    start = 0
    for episode, end in enumerate(recording.ends.tolist()):
        try:
            for first in range(start, end, step):
                rows = slice(first, min(first + step, end))
                pictures = array[rows]
                if keep is not None:
                    keep(rows, pictures)
        except DataError as error:
            bad[episode] = f"has pictures '{name}' that cannot be decoded ({str(error).rstrip('.')})"
        start = end
    return bad
