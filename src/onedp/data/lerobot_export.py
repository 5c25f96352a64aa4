"""Any data set as a LeRobot data set, version 3.0: parquet, statistics, one video for each camera."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.data.lazy import block_slices
from onedp.data.parquet import import_parquet
from onedp.data.recording import ArrayHeader, Recording
from onedp.data.statistics import RunningStatistics
from onedp.data.video_writer import Codec, VideoWriter
from onedp.errors import DataError
from onedp.files import replaced_folder, write_json

OWN_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that every LeRobot data set has; they are made anew."""
PLACE = {"chunk_index": 0, "file_index": 0}
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
KNOWN_NAMES = {
    "actions": "action",
    "state": "observation.state",
    "img": "observation.image",
    "rewards": "next.reward",
    "dones": "next.done",
}
"""Names of other formats to LeRobot's."""


@dataclass(frozen=True)
class ExportConfig:
    """How a LeRobot data set is written."""

    fps: float | None = None
    """Steps a second; None: as the data set says."""
    task: str | None = None
    """What the demonstrations do, in words; LeRobot keeps it with every step. None: as a LeRobot data set says it of
    each step, else "unknown"."""
    codec: Codec = "av1"
    """Video codec; both lose a little of the pictures."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Array to LeRobot's name for it, where the usual one is not wanted."""


def lerobot_name(name: str, header: ArrayHeader, observed: bool = True) -> str:
    """The usual LeRobot name of an array of any format; of one that is not ``observed``, its own."""
    if name in KNOWN_NAMES:
        return KNOWN_NAMES[name]
    plain = name.removeprefix("obs/").replace("/", ".")
    if name.startswith(("observation.", "next.")) or name == "action":
        return plain
    if not observed:
        return plain
    return f"observation.images.{plain}" if is_picture(header) else f"observation.{plain}"


def is_picture(header: ArrayHeader) -> bool:
    """Whether the array can be a video: bytes (N, H, W, 3)."""
    return header.dtype == "uint8" and len(header.shape) == 4 and header.shape[3] == 3


def export_lerobot(
    recording: Recording, out: Path, config: ExportConfig, skip_bad_episodes: bool = False
) -> tuple[Recording, tuple[str, ...]]:
    """Write ``recording`` as the folder ``out``; returns what was written, and why which arrays were left out.

    Numbers are kept as they are (of float64 and integers: as they are, too); pictures are encoded. Raises ``DataError``
    when the rate is unknown, a name is used twice or ``out`` exists.
    """
    fps = config.fps or recording.rate_hz
    if not fps:
        raise DataError(
            f"{recording.source} does not say at how many steps a second it was recorded. Give it: --fps 10"
        )
    if out.exists():
        raise DataError(f"{out} is there already. Choose another --out or remove it.")
    if recording.policy:
        raise DataError(
            f"{recording.source} holds roll-outs of {recording.policy}, and LeRobot's layout has no place that says "
            "so: whoever trained on it would learn its failures. Distil on the file as it is: --beside"
        )
    names, left_out = _names(recording, config)
    tasks_too = ["task_index"] if recording.tasks and "task_index" in recording.headers else []
    recording = recording.usable([*names, *tasks_too], skip_bad_episodes)
    cameras = {name: names[name] for name in names if is_picture(recording.headers[name])}
    with replaced_folder(out) as folder:
        tasks, task_index = _tasks(recording, config.task)
        features, statistics = _write_steps(
            recording, folder, {k: v for k, v in names.items() if k not in cameras}, fps, task_index
        )
        for name, key in cameras.items():
            features[key], statistics[key] = _write_video(recording, folder, name, key, fps, config.codec)
        _write_meta(recording, folder, features, statistics, list(cameras.values()), fps, tasks, task_index)
    return recording, tuple(left_out)


def _tasks(recording: Recording, description: str | None) -> tuple[tuple[str, ...], ndarray]:
    """Texts of the tasks, and the index (N,) into them of each step."""
    if description is None and recording.tasks and "task_index" in recording.headers:
        index = np.asarray(recording.read("task_index")).reshape(-1).astype(np.int64)
        if index.min() >= 0 and index.max() < len(recording.tasks):
            return recording.tasks, index
    return (description or "unknown",), np.zeros(int(recording.ends[-1]), dtype=np.int64)


def _names(recording: Recording, config: ExportConfig) -> tuple[dict[str, str], list[str]]:
    """Array to LeRobot name of what is written, and why the rest is not."""
    if unknown := sorted(set(config.names) - set(recording.headers)):
        raise DataError(f"{recording.source} has no {unknown}; it has {sorted(recording.headers)}.")
    # in a file with a group of observations what is beside it was none: states of the simulator, noised actions
    grouped = any(name.startswith("obs/") for name in recording.headers)
    names: dict[str, str] = {}
    left_out = []
    for name, header in recording.headers.items():
        key = config.names.get(name, lerobot_name(name, header, name.startswith("obs/") or not grouped))
        if key in OWN_COLUMNS or name in OWN_COLUMNS:
            continue
        if problem := recording.problem(name):
            left_out.append(f"{problem.rstrip('.')}; it was left out.")
        elif len(header.shape) > 3 and not is_picture(header):
            left_out.append(
                f"'{name}' has the shape {header.shape[1:]} and the type {header.dtype} in each step, pictures are "
                "(height, width, 3) of uint8; it was left out."
            )
        elif key in names.values():
            raise DataError(f"{recording.source}: two arrays would be named '{key}'. Name them: --names {name}=NAME")
        else:
            names[name] = key
    if not names:
        raise DataError(f"{recording.source} has nothing that can be written: {' '.join(left_out)}")
    return names, left_out


def _write_steps(
    recording: Recording, folder: Path, names: Mapping[str, str], fps: float, task_index: ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parquet file of all steps; returns features and statistics by LeRobot's names."""
    parquet = import_parquet(folder)
    import pyarrow as pa

    lengths = np.diff(recording.ends, prepend=0)
    n = int(recording.ends[-1])
    frame_index = np.arange(n) - np.repeat(recording.ends - lengths, lengths)
    columns: dict[str, ndarray] = {key: np.asarray(recording.read(name)) for name, key in names.items()}
    columns |= {
        "timestamp": (frame_index / fps).astype(np.float32),
        "frame_index": frame_index.astype(np.int64),
        "episode_index": np.repeat(np.arange(len(lengths)), lengths).astype(np.int64),
        "index": np.arange(n, dtype=np.int64),
        "task_index": task_index,
    }
    arrays, features, statistics = {}, {}, {}
    for key, values in columns.items():
        flat = values.reshape(n, -1)
        arrow = pa.array(flat.reshape(-1))
        shape = values.shape[1:] or (1,)
        if shape != (1,):
            for width in reversed(shape):
                arrow = pa.FixedSizeListArray.from_arrays(arrow, int(width))
        arrays[key] = arrow
        features[key] = {"dtype": values.dtype.name, "shape": list(shape), "names": None}
        running = RunningStatistics(flat.shape[1])
        running.update(flat)
        statistics[key] = _statistics(running, shape, n)
    path = folder / DATA_PATH.format(**PLACE)
    path.parent.mkdir(parents=True)
    parquet.write_table(pa.table(arrays), path)
    return features, statistics


def _statistics(running: RunningStatistics, shape: tuple[int, ...], count: int) -> dict[str, Any]:
    parts = {part: getattr(running, part).reshape(shape).tolist() for part in ("min", "max", "mean", "std")}
    return parts | {"count": [count]}


def _write_video(
    recording: Recording, folder: Path, name: str, key: str, fps: float, codec: Codec
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One video with all episodes; returns the feature and the statistics, these in [0, 1] and channels first."""
    _, height, width, channels = recording.headers[name].shape
    if height % 2 or width % 2:
        raise DataError(
            f"{recording.source}: the pictures '{name}' have {height} x {width} pixels; video needs even numbers. Crop "
            "or scale them first."
        )
    path = folder / VIDEO_PATH.format(video_key=key, **PLACE)
    path.parent.mkdir(parents=True)
    running = RunningStatistics(channels)
    pictures = recording.read(name)
    with VideoWriter(path, height, width, fps, codec) as video:
        for rows in block_slices(pictures):
            block = pictures[rows]
            running.update(block.astype(np.float32) / 255)
            for picture in block:
                video.write(picture)
    feature = {
        "dtype": "video",
        "shape": [height, width, channels],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": height, "video.width": width, "video.channels": channels, "video.fps": fps,
            "video.codec": codec, "video.pix_fmt": "yuv420p", "video.is_depth_map": False, "has_audio": False,
        },
    }  # fmt: skip
    return feature, _statistics(running, (channels, 1, 1), int(recording.ends[-1]))


def _write_meta(
    recording: Recording,
    folder: Path,
    features: Mapping[str, Any],
    statistics: Mapping[str, Any],
    cameras: list[str],
    fps: float,
    tasks: Sequence[str],
    task_index: ndarray,
) -> None:
    parquet = import_parquet(folder)
    import pyarrow as pa

    lengths = np.diff(recording.ends, prepend=0)
    episodes = len(lengths)
    zeros = np.zeros(episodes, dtype=np.int64)
    table: dict[str, Any] = {
        "episode_index": np.arange(episodes, dtype=np.int64),
        "data/chunk_index": zeros,
        "data/file_index": zeros,
        "dataset_from_index": recording.ends - lengths,
        "dataset_to_index": recording.ends,
    }
    for key in cameras:
        table[f"videos/{key}/chunk_index"] = table[f"videos/{key}/file_index"] = zeros
        table[f"videos/{key}/from_timestamp"] = (recording.ends - lengths) / fps
        table[f"videos/{key}/to_timestamp"] = recording.ends / fps
    steps_of = np.split(task_index, recording.ends[:-1])
    named = [[tasks[each] for each in np.unique(steps).tolist()] for steps in steps_of]
    table |= {"tasks": named, "length": lengths.astype(np.int64)}
    table |= {"meta/episodes/chunk_index": zeros, "meta/episodes/file_index": zeros}
    (folder / EPISODES_PATH).parent.mkdir(parents=True)
    parquet.write_table(pa.table(table), folder / EPISODES_PATH)
    texts = pa.table({"task_index": np.arange(len(tasks), dtype=np.int64), "__index_level_0__": list(tasks)})
    parquet.write_table(
        texts.replace_schema_metadata({"pandas": json.dumps(PANDAS_INDEX)}), folder / "meta/tasks.parquet"
    )
    info = {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": episodes,
        "total_frames": int(recording.ends[-1]),
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 500,
        "fps": int(fps) if float(fps).is_integer() else fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if cameras else None,
        "features": dict(features),
    }
    write_json(folder / "meta" / "info.json", info)
    write_json(folder / "meta" / "stats.json", dict(statistics))


PANDAS_INDEX = {
    "index_columns": ["__index_level_0__"],
    "column_indexes": [
        {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    ],
    "columns": [
        {
            "name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
            "metadata": None,
        },
        {
            "name": None, "field_name": "__index_level_0__", "pandas_type": "unicode", "numpy_type": "object",
            "metadata": None,
        },
    ],
    "creator": {"library": "pyarrow", "version": "15"},
    "pandas_version": "2.2.0",
}  # fmt: skip
"""LeRobot looks the tasks up in pandas' index, which parquet knows by this note only."""
