"""Reader of LeRobot data sets, versions 3.0 and 2.x, in place: vectors from parquet, pictures on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.data.kept import Kept
from onedp.data.lerobot_cameras import Camera
from onedp.data.lerobot_meta import LeRobotMeta, picture_shape, read_meta
from onedp.data.lerobot_stills import StillCamera
from onedp.data.parquet import count_rows, read_columns
from onedp.data.recording import ArrayHeader, Recording
from onedp.errors import DataError

RATE_TOLERANCE = 0.1
"""How far an episode's own rate may be from the data set's, as a share of it."""


def looks_like_lerobot(path: Path) -> bool:
    """True for a folder with LeRobot's ``meta/info.json``."""
    return (path / "meta" / "info.json").is_file()


def open_lerobot(path: Path) -> Recording:
    """Read the metadata and check that the parquet files hold the episodes it names; videos are not opened yet."""
    meta = read_meta(path)
    kept = Kept()
    steps = Steps(meta, kept)
    headers = {name: _header(feature) for name, feature in meta.features.items()}
    n_steps = int(steps.ends[-1])
    headers = {name: ArrayHeader((n_steps, *each.shape), each.dtype, each.problem) for name, each in headers.items()}
    cameras: dict[str, Camera | StillCamera] = {name: Camera(meta, name, steps.ends) for name in meta.cameras}
    cameras |= {name: StillCamera(meta, name, steps.ends, steps.files, kept) for name in meta.stills}
    for name, camera in cameras.items():
        if problem := camera.problem():
            headers[name] = ArrayHeader(headers[name].shape, "uint8", problem)
    notes = [f"Task: {text}" for text in meta.tasks]
    return Recording(
        source=str(path),
        format=f"LeRobot {meta.version}"
        + (" (with video)" if meta.cameras else " (with pictures)" if meta.stills else ""),
        headers=headers,
        ends=steps.ends,
        open_array=lambda name: cameras[name].frames() if name in cameras else steps.column(name).values,
        rate_hz=meta.fps,
        bad_episodes=steps.bad_episodes,
        check_array=lambda name: cameras[name].bad_episodes if name in cameras else steps.column(name).bad,
        splits={
            name: tuple(each for each in members if each < len(meta.episodes)) for name, members in meta.splits.items()
        },
        tasks=meta.tasks,
        notes=tuple(notes),
    )


def _header(feature: Mapping[str, object]) -> ArrayHeader:
    """Without the axis of steps."""
    kind = str(feature["dtype"])
    if kind in ("video", "image"):
        return ArrayHeader(picture_shape(feature), "uint8")
    shape = tuple(int(n) for n in feature["shape"])  # type: ignore[attr-defined]
    if kind == "string":
        return ArrayHeader(shape, kind, "holds text, expected plain numbers.")
    try:
        return ArrayHeader(shape, np.dtype(kind).name)
    except TypeError:
        return ArrayHeader(shape, kind, f"has the type {kind!r}, expected plain numbers.")


@dataclass(frozen=True)
class Column:
    """One array of all steps."""

    values: ndarray
    """(N, *shape), read-only, since several may be given it; zeros in bad episodes, which nobody may use."""
    bad: Mapping[int, str]
    """Episodes whose file has no such array that can be used, and why; not those that are bad for everybody."""

    @property
    def nbytes(self) -> int:
        """Of the values."""
        return self.values.nbytes


@dataclass(frozen=True)
class Steps:
    """The parquet files of a data set as one table, in the order of the episodes."""

    meta: LeRobotMeta
    kept: Kept = field(default_factory=Kept, repr=False)
    """Columns: each is asked for what is wrong with it, then for its values."""

    @cached_property
    def ends(self) -> Int64[ndarray, " episodes"]:
        """Index one past the last step of each episode, by the metadata."""
        return np.cumsum([episode.length for episode in self.meta.episodes], dtype=np.int64)

    @cached_property
    def files(self) -> dict[Path, list[int]]:
        """Parquet file to the episodes in it, both in order."""
        found: dict[Path, list[int]] = {}
        for number, episode in enumerate(self.meta.episodes):
            found.setdefault(episode.data, []).append(number)
        return found

    @cached_property
    def bad_episodes(self) -> dict[int, str]:
        """Episodes whose steps are not all there, are another's or run at another rate."""
        bad: dict[int, str] = {}
        for number, episode in enumerate(self.meta.episodes):
            if episode.length < 1:
                bad[number] = f"is empty: it has {episode.length} steps by meta/"
        for path, members in self.files.items():
            members = [each for each in members if each not in bad]
            try:
                bad |= self._check(path, members)
            except DataError as error:
                if "pip install" in str(error):
                    raise
                bad |= {each: f"cannot be read: {error}".rstrip(".") for each in members}
        return bad

    def _check(self, path: Path, members: list[int]) -> dict[int, str]:
        expected = sum(self.meta.episodes[each].length for each in members)
        rows = count_rows(path)
        if rows > expected:
            raise DataError(f"{path} has {rows} rows, its episodes have {expected} steps by meta/")
        names = [name for name in ("episode_index", "frame_index", "timestamp") if name in self.meta.features]
        table = {name: values.reshape(-1) for name, values in read_columns(path, names).items()}
        bad, start = {}, 0
        for each in members:
            length = self.meta.episodes[each].length
            part = {name: values[start : start + length] for name, values in table.items()}
            if start + length > rows:
                bad[each] = f"has {max(0, rows - start)} of its {length} steps in {path}"
            elif "episode_index" in part and (part["episode_index"] != each).any():
                other = int(part["episode_index"][part["episode_index"] != each][0])
                bad[each] = f"has steps of episode {other} among its own in {path}"
            elif "frame_index" in part and (part["frame_index"] != np.arange(length)).any():
                at = int(np.flatnonzero(part["frame_index"] != np.arange(length))[0])
                bad[each] = f"has a gap: step {at} is numbered {int(part['frame_index'][at])}"
            elif "timestamp" in part and (why := self._wrong_rate(part["timestamp"])):
                bad[each] = why
            start += length
        return bad

    def _wrong_rate(self, times_s: ndarray) -> str:
        period = float(np.median(np.diff(times_s.astype(np.float64)))) if len(times_s) > 1 else 1 / self.meta.fps
        rate = 1 / period if period > 0 else float("inf")
        if abs(rate - self.meta.fps) <= RATE_TOLERANCE * self.meta.fps:
            return ""
        return f"runs at {rate:.4g} Hz by its timestamps, the data set at {self.meta.fps:g} Hz: frame rates are mixed"

    def column(self, name: str) -> Column:
        """The array ``name``, from the files unless it was read lately."""
        return self.kept.get(name, partial(self._read, name))

    def _read(self, name: str) -> Column:
        shape = tuple(int(n) for n in self.meta.features[name]["shape"])
        values = np.zeros((int(self.ends[-1]), *shape), dtype=str(self.meta.features[name]["dtype"]))
        bad: dict[int, str] = {}
        for path, members in self.files.items():
            good = [each for each in members if each not in self.bad_episodes]
            if not good:
                continue
            try:
                rows = self._rows(path, name)
            except DataError as error:
                if "pip install" in str(error):
                    raise
                bad |= {each: f"has no '{name}' that can be used: {error}".rstrip(".") for each in good}
                continue
            start = 0
            for each in members:
                length = self.meta.episodes[each].length
                if each in good:
                    end = int(self.ends[each])
                    values[end - length : end] = rows[start : start + length]
                start += max(0, length)
        values.flags.writeable = False
        return Column(values, bad)

    def _rows(self, path: Path, name: str) -> ndarray:
        """All rows of ``name`` in one file, of the shape that meta/ says; raises ``DataError``."""
        shape = tuple(int(n) for n in self.meta.features[name]["shape"])
        try:
            rows = read_columns(path, [name])[name]
        except DataError as error:
            raise error if str(path) in str(error) else DataError(f"in {path} {error}") from error
        if rows[:1].size != np.prod(shape, dtype=np.int64) * min(1, len(rows)):
            raise DataError(f"in {path} each step has the shape {rows.shape[1:]}, meta/ says {shape}")
        return rows.reshape(len(rows), *shape)
