"""One camera of a LeRobot data set that was recorded without video: each step's PNG or JPEG stands in the parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.data.kept import Kept
from onedp.data.lazy import BLOCK_BYTES, LazyArray
from onedp.data.lerobot_meta import LeRobotMeta
from onedp.data.parquet import open_parquet, read_group
from onedp.data.video import files_content
from onedp.errors import DataError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels to Pillow's name for such pictures."""


@dataclass(frozen=True, eq=False)
class StillCamera:
    """The pictures of one camera; ``ends`` are those of the episodes, ``files`` says which are in which file."""

    meta: LeRobotMeta
    name: str
    ends: Int64[ndarray, " episodes"]
    files: Mapping[Path, list[int]]
    kept: Kept = field(default_factory=Kept, repr=False)
    """Row groups, as they are stored: a picture cannot be read without the others of its group, and steps that follow
    each other are in the same one."""

    def problem(self) -> str:
        """Why the camera cannot be used at all."""
        channels = self.meta.stills[self.name][2]
        if channels not in MODES:
            return f"has pictures of {channels} channels, expected 1, 3 or 4."
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            return f"needs the package pillow, which cannot be imported ({error}). pip install 'onedp[data]'"
        return ""

    @cached_property
    def _places(self) -> tuple[list[Path], dict[Path, ndarray], ndarray, ndarray, dict[int, str]]:
        """Files, and the end of each of their row groups; file and row of each step (N,), -1 where there is none; and
        the bad episodes.
        """
        files = np.full(int(self.ends[-1]), -1, dtype=np.int64)
        rows = np.full(int(self.ends[-1]), -1, dtype=np.int64)
        groups: dict[Path, ndarray] = {}
        bad: dict[int, str] = {}
        for number, (path, members) in enumerate(self.files.items()):
            expected = sum(max(0, self.meta.episodes[each].length) for each in members)
            try:
                groups[path] = np.cumsum(self._group_lengths(path), dtype=np.int64)
                if (count := int(groups[path][-1]) if len(groups[path]) else 0) != expected:
                    raise DataError(f"{path} has {count} rows, its episodes have {expected} steps by meta/")
            except DataError as error:
                bad |= {each: f"has no pictures '{self.name}': {error}".rstrip(".") for each in members}
                continue
            row = 0
            for each in members:
                length, end = max(0, self.meta.episodes[each].length), int(self.ends[each])
                files[end - length : end] = number
                rows[end - length : end] = np.arange(row, row + length)
                row += length
        return list(self.files), groups, files, rows, bad

    def _group_lengths(self, path: Path) -> list[int]:
        """Rows of each row group; raises ``DataError`` when the file is unreadable or has no such pictures."""
        with open_parquet(path) as file:
            try:
                kind = file.schema_arrow.field(self.name).type
            except KeyError:
                raise DataError(f"{path} has no column of that name") from None
            if not hasattr(kind, "get_field_index") or kind.get_field_index("bytes") < 0:
                raise DataError(f"{path} holds {kind} there, expected pictures as bytes")
            return [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]

    @property
    def bad_episodes(self) -> dict[int, str]:
        """Episodes whose file has no pictures. Whether each can be decoded is known when it is asked for."""
        return self._places[4]

    def frames(self) -> LazyArray:
        """Pictures of all steps, (N, H, W, C), decoded when they are asked for."""
        paths, groups, files, places, bad = self._places
        shape = self.meta.stills[self.name]

        def read(rows: Int64[ndarray, " n"]) -> ndarray:
            if (files[rows] < 0).any():
                episode = self._episode(int(rows[files[rows] < 0][0]))
                raise DataError(f"{self.meta.root}: episode {episode} {bad[episode]}.")
            pictures = np.empty((len(rows), *shape), dtype=np.uint8)
            for number in np.unique(files[rows]).tolist():
                path = paths[number]
                mine = np.flatnonzero(files[rows] == number)
                group_of = np.searchsorted(groups[path], places[rows[mine]], side="right")
                for group in np.unique(group_of).tolist():
                    wanted = mine[group_of == group]
                    first = int(groups[path][group - 1]) if group else 0
                    stored = self.kept.get((path, group, self.name), partial(read_group, path, group, self.name))
                    for row in wanted.tolist():
                        step = int(rows[row])
                        pictures[row] = self._decoded(stored[int(places[step]) - first].as_py(), step)
            return pictures

        lengths = np.concatenate([np.diff(ends, prepend=0) for ends in groups.values()] or [np.ones(1)])
        run = max(1, min(round(float(np.median(lengths))), BLOCK_BYTES // int(np.prod(shape))))
        return LazyArray(
            (int(self.ends[-1]), *shape), np.dtype(np.uint8), read, run, lambda: files_content(list(groups))
        )

    def _episode(self, step: int) -> int:
        return int(np.searchsorted(self.ends, step, side="right"))

    def _decoded(self, stored: dict[str, Any] | None, step: int) -> ndarray:
        from PIL import Image

        episode = self._episode(step)
        start = int(self.ends[episode - 1]) if episode else 0
        place = f"{self.meta.root}: episode {episode}, step {step - start}"
        if not stored or not stored["bytes"]:
            raise DataError(f"{place} has no picture '{self.name}'.")
        height, width, channels = self.meta.stills[self.name]
        try:
            with Image.open(io.BytesIO(stored["bytes"])) as file:
                mode, picture = file.mode, np.asarray(file)
        except Exception as error:  # Pillow raises many kinds
            raise DataError(f"{place} has a picture '{self.name}' that is damaged ({error}).") from error
        if mode != MODES[channels]:
            raise DataError(
                f"{place} has a picture '{self.name}' of Pillow's mode {mode}, the data set says {channels} channels "
                f"({MODES[channels]}) of 8 bits."
            )
        if picture.shape[:2] != (height, width):
            raise DataError(
                f"{place} has a picture '{self.name}' of {picture.shape[0]} x {picture.shape[1]} pixels, the data set "
                f"says {height} x {width}."
            )
        return picture.reshape(height, width, channels)
