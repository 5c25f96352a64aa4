"""One camera of a LeRobot data set that was recorded without video: each step's PNG or JPEG stands in the parquet."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.data.lazy import LazyArray
from onedp.data.lerobot_meta import LeRobotMeta
from onedp.data.parquet import import_parquet
from onedp.data.video import files_content
from onedp.errors import DataError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels to Pillow's name for such pictures."""


@dataclass(frozen=True, eq=False)
class StillCamera:
    """The pictures of one camera; ``ends`` are those of the episodes."""

    meta: LeRobotMeta
    name: str
    ends: Int64[ndarray, " episodes"]

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
    def _groups(self) -> tuple[list[tuple[Path, int, int]], dict[int, str]]:
        """File, number and first step of each row group, in the order of the steps; and the bad episodes.

        Steps of files that cannot be used are left out.
        """
        groups: list[tuple[Path, int, int]] = []
        bad: dict[int, str] = {}
        start, members = 0, list(enumerate(self.meta.episodes))
        for path in dict.fromkeys(episode.data for episode in self.meta.episodes):
            mine = [number for number, episode in members if episode.data == path]
            try:
                lengths = self._lengths(path)
            except DataError as error:
                bad |= {each: f"has no pictures '{self.name}': {error}".rstrip(".") for each in mine}
                lengths = []
            first = start
            for number, length in enumerate(lengths):
                groups.append((path, number, first))
                first += length
            start += sum(self.meta.episodes[each].length for each in mine)
        return groups, bad

    def _lengths(self, path: Path) -> list[int]:
        """Rows of each row group; raises ``DataError`` when the file is unreadable or has no such pictures."""
        with _open(path) as file:
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
        return self._groups[1]

    def frames(self) -> LazyArray:
        """Pictures of all steps, (N, H, W, C), decoded when they are asked for."""
        groups, bad = self._groups
        firsts = np.array([first for _, _, first in groups], dtype=np.int64)
        shape = self.meta.stills[self.name]

        def read(rows: Int64[ndarray, " n"]) -> ndarray:
            episodes = np.searchsorted(self.ends, rows, side="right")
            if missing := sorted(set(episodes.tolist()) & set(bad)):
                raise DataError(f"{self.meta.root}: episode {missing[0]} {bad[missing[0]]}.")
            pictures = np.empty((len(rows), *shape), dtype=np.uint8)
            places = np.searchsorted(firsts, rows, side="right") - 1
            for place in np.unique(places).tolist():
                path, number, first = groups[place]
                mine = np.flatnonzero(places == place)
                stored = _read_group(path, number, self.name, rows[mine] - first)
                for row, data in zip(mine.tolist(), stored, strict=True):
                    pictures[row] = self._decoded(data, int(rows[row]))
            return pictures

        run = max(1, round(float(np.median(np.diff(firsts))))) if len(firsts) > 1 else max(1, int(self.ends[-1]))
        files = list(dict.fromkeys(path for path, _, _ in groups))
        return LazyArray((int(self.ends[-1]), *shape), np.dtype(np.uint8), read, run, lambda: files_content(files))

    def _decoded(self, data: bytes | None, step: int) -> ndarray:
        from PIL import Image, UnidentifiedImageError

        episode = int(np.searchsorted(self.ends, step, side="right"))
        start = int(self.ends[episode - 1]) if episode else 0
        place = f"{self.meta.root}: episode {episode}, step {step - start}"
        if not data:
            raise DataError(f"{place} has no picture '{self.name}'.")
        height, width, channels = self.meta.stills[self.name]
        try:
            picture = np.asarray(Image.open(io.BytesIO(data)).convert(MODES[channels]))
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise DataError(f"{place} has a picture '{self.name}' that is damaged ({error}).") from error
        if picture.shape[:2] != (height, width):
            raise DataError(
                f"{place} has a picture '{self.name}' of {picture.shape[0]} x {picture.shape[1]} pixels, the data set "
                f"says {height} x {width}."
            )
        return picture.reshape(height, width, channels)


def _open(path: Path) -> Any:
    """A ``ParquetFile``; raises ``DataError``."""
    parquet = import_parquet(path)
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises many kinds
        raise DataError(f"{path} cannot be read ({str(error).strip().splitlines()[0]})") from error


def _read_group(path: Path, number: int, name: str, rows: Int64[ndarray, " n"]) -> list[bytes | None]:
    with _open(path) as file:
        try:
            column = file.read_row_group(number, columns=[name], use_threads=False).column(0)
        except Exception as error:
            raise DataError(f"{path} cannot be read ({error}).") from error
    return [(column[row].as_py() or {"bytes": None})["bytes"] for row in rows.tolist()]
