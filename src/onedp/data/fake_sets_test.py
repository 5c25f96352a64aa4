"""Tiny data sets of each format with the same content, for tests; not a test itself."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from onedp.data.lerobot_export import ExportConfig, export_lerobot
from onedp.data.recording import ArrayHeader, Recording
from onedp.data.video_writer import Codec, VideoWriter

LENGTHS = np.array([6, 5, 9])
ENDS = np.cumsum(LENGTHS)
N = int(ENDS[-1])
FPS = 10.0
SIZE = (32, 48)
"""Height and width of the pictures."""


def pictures(n: int = N, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Grey ramps (video codecs blur colours), each brighter than the one before: step i is known by its mean."""
    ramp = np.linspace(0, 40, size[1])[None, None, :, None]
    level = (10 + 9 * np.arange(n))[:, None, None, None]
    return np.broadcast_to(ramp + level, (n, *size, 3)).round().astype(np.uint8)


def step_of(picture: np.ndarray) -> int:
    """The step that a decoded picture shows."""
    return round((float(picture.mean()) - 30) / 9)


def numbers() -> dict[str, np.ndarray]:
    """State and action of every step."""
    rng = np.random.default_rng(0)
    return {
        "observation.state": rng.normal(size=(N, 3)).astype(np.float32),
        "action": rng.uniform(-1, 1, size=(N, 2)).astype(np.float32),
    }


def recording_of(arrays: dict[str, np.ndarray], ends: np.ndarray = ENDS, rate_hz: float | None = FPS) -> Recording:
    """Arrays in memory as a data set."""
    headers = {name: ArrayHeader(values.shape, values.dtype.name) for name, values in arrays.items()}
    return Recording("memory", "memory", headers, ends, lambda name: arrays[name], rate_hz=rate_hz)


def lerobot_v3(folder: Path, changes: dict[str, np.ndarray] | None = None, codec: Codec = "h264") -> Path:
    """A data set of version 3.0 with one camera, ``observation.images.top``."""
    arrays = {**numbers(), "observation.images.top": pictures(), **(changes or {})}
    export_lerobot(recording_of(arrays), folder, ExportConfig(task="push", codec=codec))
    return folder


def lerobot_v2(folder: Path) -> Path:
    """The same as version 2.1: a parquet file and a video for each episode."""
    feature = {"names": None}
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [3], **feature},
        "action": {"dtype": "float32", "shape": [2], **feature},
        "observation.images.top": {"dtype": "video", "shape": [3, *SIZE], "names": ["channels", "height", "width"]},
    }
    for name, kind in {
        "timestamp": "float32",
        "frame_index": "int64",
        "episode_index": "int64",
        "index": "int64",
    }.items():
        features[name] = {"dtype": kind, "shape": [1], **feature}
    lines = []
    for episode, (length, end) in enumerate(zip(LENGTHS.tolist(), ENDS.tolist(), strict=True)):
        rows = slice(end - length, end)
        columns: dict[str, Any] = {name: list(values[rows]) for name, values in numbers().items()}
        columns |= {
            "timestamp": (np.arange(length) / FPS).astype(np.float32),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, episode),
            "index": np.arange(rows.start, end),
        }
        place = f"chunk-{episode // 2:03d}"  # two episodes a chunk
        (folder / "data" / place).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / "data" / place / f"episode_{episode:06d}.parquet")
        video = folder / "videos" / place / "observation.images.top" / f"episode_{episode:06d}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(video, *SIZE, FPS, "h264") as writer:
            for picture in pictures()[rows]:
                writer.write(picture)
        lines.append(json.dumps({"episode_index": episode, "tasks": ["push"], "length": length}))
    info = {
        "codebase_version": "v2.1", "fps": 10, "chunks_size": 2, "splits": {"train": "0:3"}, "features": features,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    (folder / "meta").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "push"}) + "\n")
    return folder


def with_stills(folder: Path, kind: str = "PNG", group: int = 4) -> Path:
    """A LeRobot set with its camera's pictures in the parquet, ``group`` rows together, as LeRobot has them."""
    name = "observation.images.top"
    for path in (folder / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        stored = []
        for step in table.column("index").to_pylist():
            with io.BytesIO() as file:
                Image.fromarray(pictures()[step]).save(file, kind)
                stored.append({"bytes": file.getvalue(), "path": f"frame-{step}.{kind.lower()}"})
        pq.write_table(table.append_column(name, pa.array(stored)), path, row_group_size=group)
    shutil.rmtree(folder / "videos")
    info = json.loads((folder / "meta" / "info.json").read_text())
    info["features"][name]["dtype"] = "image"
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder


def robomimic(path: Path, obs: bool = True) -> Path:
    """The same as robomimic HDF5; demonstrations are stored as demo_10, demo_2, demo_1: not in order."""
    arrays = {"actions": numbers()["action"], "states": np.arange(N, dtype=np.float64)[:, None]}
    if obs:
        arrays |= {"obs/robot0_eef_pos": numbers()["observation.state"], "obs/top_image": pictures()}
    names = ["demo_1", "demo_2", "demo_10"]
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = N
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        for name, length, end in reversed(list(zip(names, LENGTHS.tolist(), ENDS.tolist(), strict=True))):
            demo = data.create_group(name)
            demo.attrs["num_samples"] = length
            for key, values in arrays.items():
                demo[key] = values[end - length : end]
        for split, members in {"train": [b"demo_10", b"demo_1"], "valid": [b"demo_2"]}.items():
            file[f"mask/{split}"] = np.array(members)
    return path
