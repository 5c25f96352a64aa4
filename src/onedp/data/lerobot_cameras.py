"""One camera of a LeRobot data set: which frame of which video belongs to each step, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.data.lazy import LazyArray
from onedp.data.lerobot_meta import LeRobotMeta
from onedp.data.video import VideoIndex, decode_frames, files_content, read_video_index
from onedp.errors import DataError

FRAME_TOLERANCE = 0.45
"""How far a frame may be from its step's time, as a share of the period."""
SPARE_FRAMES = 1
"""By how much a video of one episode may be longer than the episode: recorders stop their camera last."""


@dataclass(frozen=True, eq=False)
class Camera:
    """The videos of one camera."""

    meta: LeRobotMeta
    name: str
    ends: Int64[ndarray, " episodes"]

    @cached_property
    def paths(self) -> list[Path]:
        """Its videos, each once."""
        return list(dict.fromkeys(episode.videos[self.name].path for episode in self.meta.episodes))

    def problem(self) -> str:
        """Why the camera cannot be used at all: none of its videos is there."""
        if any(path.is_file() for path in self.paths):
            return ""
        return (
            f"has no video: {self.paths[0]} and all others of this camera are missing. Copy or download them, or use "
            "the other arrays."
        )

    @cached_property
    def _indexed(self) -> tuple[dict[Path, VideoIndex], dict[Path, str]]:
        """Indices of the videos that can be opened, and what is wrong with the others."""
        indices, damage = {}, {}
        for path in self.paths:
            try:
                indices[path] = read_video_index(path)
            except DataError as error:
                if "pip install" in str(error):
                    raise
                damage[path] = str(error).rstrip(".")
        return indices, damage

    @cached_property
    def _places(self) -> tuple[ndarray, ndarray, dict[int, str]]:
        """Video number and frame number of each step (N,), -1 where there is none; and the bad episodes."""
        indices, damage = self._indexed
        videos = np.full(int(self.ends[-1]), -1, dtype=np.int64)
        frames = np.full(int(self.ends[-1]), -1, dtype=np.int64)
        numbers = {path: number for number, path in enumerate(self.paths)}
        height, width, channels = self.meta.cameras[self.name]
        alone = Counter(meta.videos[self.name].path for meta in self.meta.episodes)
        bad: dict[int, str] = {}
        start = 0
        for episode, (meta, end) in enumerate(zip(self.meta.episodes, self.ends.tolist(), strict=True)):
            place = meta.videos[self.name]
            index = indices.get(place.path)
            if index is None:
                bad[episode] = f"has no pictures '{self.name}': {damage[place.path]}"
            elif (index.height, index.width, 3) != (height, width, channels):
                bad[episode] = (
                    f"has pictures '{self.name}' of {index.height} x {index.width} pixels in {place.path}, the data "
                    f"set says {height} x {width} with {channels} channels"
                )
            else:
                times_s = place.from_s + np.arange(end - start) / self.meta.fps
                found = index.nearest(times_s, FRAME_TOLERANCE / self.meta.fps)
                if alone[place.path] == 1 and len(index.pts) > end - start + SPARE_FRAMES:
                    bad[episode] = (
                        f"has {end - start} steps and {len(index.pts)} pictures '{self.name}' in {place.path}, so "
                        "which belong together is not known"
                    )
                if (found < 0).any():
                    bad[episode] = _missing_frames(self.name, index, times_s, found)
                videos[start:end], frames[start:end] = numbers[place.path], found
            start = end
        return videos, frames, bad

    @property
    def bad_episodes(self) -> dict[int, str]:
        """Episodes without all their pictures, or with pictures of another size."""
        return self._places[2]

    def frames(self) -> LazyArray:
        """Pictures of all steps, (N, H, W, 3), decoded when they are asked for."""
        videos, frames, bad = self._places
        indices = self._indexed[0]

        def read(rows: Int64[ndarray, " n"]) -> ndarray:
            if (frames[rows] < 0).any():
                step = int(rows[frames[rows] < 0][0])
                episode = int(np.searchsorted(self.ends, step, side="right"))
                raise DataError(f"{self.meta.root}: episode {episode} {bad[episode]}.")
            pictures = np.empty((len(rows), *self.meta.cameras[self.name]), dtype=np.uint8)
            for number in np.unique(videos[rows]).tolist():
                mine = np.flatnonzero(videos[rows] == number)
                wanted, places = np.unique(frames[rows[mine]], return_inverse=True)
                pictures[mine] = decode_frames(indices[self.paths[number]], wanted)[places]
            return pictures

        gops = [len(index.pts) / max(1, len(index.keyframes)) for index in indices.values()]
        run = max(1, round(float(np.median(gops)))) if gops else 1
        shape = (int(self.ends[-1]), *self.meta.cameras[self.name])
        return LazyArray(shape, np.dtype(np.uint8), read, run, lambda: files_content(list(indices)))


def _missing_frames(name: str, index: VideoIndex, times_s: ndarray, found: ndarray) -> str:
    count, first = int((found < 0).sum()), float(times_s[np.flatnonzero(found < 0)[0]])
    text = f"lacks {count} of its {len(found)} pictures '{name}': {index.path} "
    if index.damage:
        return text + index.damage
    rate = (len(index.pts) - 1) / index.times_s[-1] if len(index.pts) > 1 and index.times_s[-1] > 0 else 0.0
    return text + f"has no frame at {first:.3f} s ({len(index.pts)} frames at {rate:.4g} Hz)"
