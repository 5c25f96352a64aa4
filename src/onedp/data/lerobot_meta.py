"""What a LeRobot data set says of itself in ``meta/``: versions 3.0 (parquet) and 2.x (JSON lines), in one form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onedp.data.parquet import read_columns
from onedp.errors import DataError

CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class VideoPlace:
    """Where an episode's pictures of one camera lie."""

    path: Path
    from_s: float
    """Time of its first frame in the video [s]."""


@dataclass(frozen=True)
class EpisodeMeta:
    """One episode by its metadata."""

    length: int
    data: Path
    """Parquet file with its steps."""
    videos: Mapping[str, VideoPlace] = field(default_factory=dict)


@dataclass(frozen=True)
class LeRobotMeta:
    """The metadata of either version; episodes in their order."""

    root: Path
    version: str
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    episodes: tuple[EpisodeMeta, ...]
    splits: Mapping[str, tuple[int, ...]]
    tasks: tuple[str, ...]

    @property
    def cameras(self) -> dict[str, tuple[int, int, int]]:
        """Features stored as video to their shape (height, width, channels)."""
        return {name: picture_shape(each) for name, each in self.features.items() if each["dtype"] == "video"}

    @property
    def stills(self) -> dict[str, tuple[int, int, int]]:
        """Features stored as single pictures to their shape (height, width, channels)."""
        return {name: picture_shape(each) for name, each in self.features.items() if each["dtype"] == "image"}


def picture_shape(feature: Mapping[str, Any]) -> tuple[int, int, int]:
    """(height, width, channels), whichever order the feature has; LeRobot writes both."""
    shape = tuple(int(n) for n in feature["shape"])
    names = feature.get("names")
    first = str(names[0]) if isinstance(names, list) and names else ""
    if first.startswith("channel") or (not first and shape[0] in CHANNELS and shape[-1] not in CHANNELS):
        return shape[1], shape[2], shape[0]
    return shape[0], shape[1], shape[2]


def read_meta(root: Path) -> LeRobotMeta:
    """Read ``meta/``; raises ``DataError`` when it is damaged, incomplete or of another version."""
    info = _json(root / "meta" / "info.json")
    try:
        version = str(info["codebase_version"])
        features = {name: dict(each) for name, each in info["features"].items()}
        for name, feature in features.items():
            if feature["dtype"] in ("video", "image") and len(feature["shape"]) != 3:
                raise DataError(
                    f"{root}: the camera '{name}' has the shape {feature['shape']}, expected three numbers."
                )
            tuple(int(n) for n in feature["shape"])
        fps = float(info["fps"])
        templates = str(info["data_path"]), str(info.get("video_path") or "")
        chunk = int(info.get("chunks_size", 1000))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{root / 'meta' / 'info.json'} lacks or misstates {error}. The data set is damaged; copy or download it "
            "again."
        ) from error
    if not fps > 0:
        raise DataError(f"{root / 'meta' / 'info.json'}: fps is {fps:g}, expected a rate [Hz].")
    cameras = [name for name, feature in features.items() if feature["dtype"] == "video"]
    if version.startswith("v3."):
        episodes, tasks = _episodes_v3(root, templates, cameras), _tasks_v3(root)
    elif version.startswith("v2."):
        episodes, tasks = _episodes_v2(root, templates, cameras, chunk), _tasks_v2(root)
    else:
        raise DataError(
            f"{root} is a LeRobot data set of version {version}; v2.0, v2.1 and v3.0 are read. Convert it with "
            "LeRobot's own scripts."
        )
    if not episodes:
        raise DataError(f"{root}: no episodes in meta/. Expected at least one; record some demonstrations first.")
    return LeRobotMeta(root, version, fps, features, episodes, _splits(info.get("splits")), tasks)


def _episodes_v3(root: Path, templates: tuple[str, str], cameras: list[str]) -> tuple[EpisodeMeta, ...]:
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise DataError(f"{root}: meta/episodes/ has no parquet files. Copy or download the data set again.")
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    for name in cameras:
        columns += [f"videos/{name}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    parts = [read_columns(file, columns) for file in files]
    table = {name: np.concatenate([part[name] for part in parts]) for name in columns}
    order = np.argsort(table["episode_index"], kind="stable")
    episodes = []
    for row in order.tolist():
        videos = {
            name: VideoPlace(
                root
                / templates[1].format(
                    video_key=name,
                    chunk_index=int(table[f"videos/{name}/chunk_index"][row]),
                    file_index=int(table[f"videos/{name}/file_index"][row]),
                ),
                float(table[f"videos/{name}/from_timestamp"][row]),
            )
            for name in cameras
        }
        data = templates[0].format(
            chunk_index=int(table["data/chunk_index"][row]), file_index=int(table["data/file_index"][row])
        )
        episodes.append(EpisodeMeta(int(table["length"][row]), root / data, videos))
    return tuple(episodes)


def _episodes_v2(root: Path, templates: tuple[str, str], cameras: list[str], chunk: int) -> tuple[EpisodeMeta, ...]:
    lines = sorted(_json_lines(root / "meta" / "episodes.jsonl"), key=lambda line: int(line["episode_index"]))
    episodes = []
    for line in lines:
        number = int(line["episode_index"])
        place = {"episode_chunk": number // chunk, "episode_index": number}
        videos = {name: VideoPlace(root / templates[1].format(video_key=name, **place), 0.0) for name in cameras}
        episodes.append(EpisodeMeta(int(line["length"]), root / templates[0].format(**place), videos))
    return tuple(episodes)


def _tasks_v3(root: Path) -> tuple[str, ...]:
    """Texts of the tasks; LeRobot keeps them in pandas' index column."""
    file = root / "meta" / "tasks.parquet"
    if not file.is_file():
        return ()
    for column in ("__index_level_0__", "task"):
        try:
            return tuple(str(text) for text in read_columns(file, [column])[column])
        except DataError:
            continue
    return ()


def _tasks_v2(root: Path) -> tuple[str, ...]:
    file = root / "meta" / "tasks.jsonl"
    return tuple(str(line.get("task", "")) for line in _json_lines(file)) if file.is_file() else ()


def _splits(splits: Any) -> dict[str, tuple[int, ...]]:
    """``{"train": "0:206"}`` as numbers of episodes; other forms are left out."""
    found = {}
    for name, text in (splits or {}).items():
        first, colon, last = str(text).partition(":")
        if colon and first.isdigit() and last.isdigit():
            found[str(name)] = tuple(range(int(first), int(last)))
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}). Copy or download the data set again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} is no JSON object. Copy or download the data set again.")
    return content


def _json_lines(file: Path) -> list[dict[str, Any]]:
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        for line in lines:
            int(line.get("episode_index", 0)), int(line.get("length", 0))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{file} cannot be read ({error}). Copy or download the data set again.") from error
    return lines
