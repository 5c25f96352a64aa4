"""Single frames of videos (AV1, H.264 and whatever else FFmpeg decodes), exact, without decoding the rest."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from numpy import ndarray

from onedp.errors import DataError

OPEN_FILES = 8
"""Videos that each thread keeps open."""


@dataclass(frozen=True)
class VideoIndex:
    """What a video holds, from its packets: nothing is decoded."""

    path: Path
    pts: Int64[ndarray, " n"]
    """Presentation time of every frame, increasing, in units of ``time_base_s``."""
    keyframes: Int64[ndarray, " k"]
    """Times of the frames where decoding can begin."""
    time_base_s: float
    height: int
    width: int
    codec: str
    damage: str = ""
    """What is wrong with the file, in words that go on after its name; empty when nothing is."""

    @property
    def times_s(self) -> ndarray:
        """Time of every frame [s], from the first one's."""
        return (self.pts - (self.pts[0] if len(self.pts) else 0)) * self.time_base_s

    def nearest(self, times_s: ndarray, tolerance_s: float) -> Int64[ndarray, " n"]:
        """Frame number at each time; -1 where none lies within the tolerance."""
        own = self.times_s
        if not len(own):
            return np.full(len(times_s), -1, dtype=np.int64)
        after = np.clip(np.searchsorted(own, times_s), 1, max(1, len(own) - 1))
        before = np.minimum(after - 1, len(own) - 1)
        after = np.minimum(after, len(own) - 1)
        nearest = np.where(np.abs(own[after] - times_s) < np.abs(own[before] - times_s), after, before)
        return np.where(np.abs(own[nearest] - times_s) <= tolerance_s, nearest, -1).astype(np.int64)


def read_video_index(path: Path) -> VideoIndex:
    """Index the packets of a video; raises ``DataError`` when it is missing or cannot be opened at all.

    A video that ends early is indexed as far as it goes, with the reason in ``damage``.
    """
    av = import_av(path)
    if not path.is_file():
        raise DataError(f"The video {path} is missing. Copy or download it again.")
    damage = ""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no video in it. Copy or download it again.")
            stream = container.streams.video[0]
            pts, keys = [], []
            try:
                for packet in container.demux(stream):
                    if packet.pts is not None and packet.size and not packet.is_corrupt:
                        pts.append(packet.pts)
                        if packet.is_keyframe:
                            keys.append(packet.pts)
            except av.error.FFmpegError as error:
                damage = f"ends after {len(pts)} frames ({_reason(error)})"
            if not damage and stream.frames > len(pts):
                damage = f"has {len(pts)} of its {stream.frames} frames: it is truncated"
            return VideoIndex(
                path,
                np.sort(np.array(pts, dtype=np.int64)),
                np.sort(np.array(keys or pts[:1], dtype=np.int64)),
                float(stream.time_base or 1),
                stream.codec_context.height,
                stream.codec_context.width,
                stream.codec_context.name,
                damage,
            )
    except av.error.FFmpegError as error:
        raise DataError(
            f"The video {path} cannot be opened ({_reason(error)}): it is truncated or no video. Copy or download it "
            "again."
        ) from error


def decode_frames(index: VideoIndex, frames: Int64[ndarray, " n"]) -> UInt8[ndarray, "n h w 3"]:
    """The frames (increasing numbers) as RGB; decodes on, or from the keyframe before where that is nearer.

    Raises ``DataError`` naming the video and the time where decoding fails.
    """
    wanted = index.pts[frames]
    pictures = np.empty((len(frames), index.height, index.width, 3), dtype=np.uint8)
    starts = index.keyframes[np.maximum(np.searchsorted(index.keyframes, wanted, side="right") - 1, 0)]
    video = _open(index.path)
    try:
        for row, (pts, start) in enumerate(zip(wanted.tolist(), starts.tolist(), strict=True)):
            frame = video.frame_at(pts, start)
            if frame is None:
                raise _undecodable(index, pts, "the frame is not there")
            if (frame.height, frame.width) != (index.height, index.width):
                raise _undecodable(index, pts, f"the picture is suddenly {frame.height} x {frame.width}")
            pictures[row] = frame.to_ndarray(format="rgb24")
    except (import_av(index.path).error.FFmpegError, DataError) as error:
        _forget(index.path)
        if isinstance(error, DataError):
            raise
        raise _undecodable(index, pts, _reason(error)) from error
    return pictures


def _undecodable(index: VideoIndex, pts: int, reason: str) -> DataError:
    second = (pts - int(index.pts[0])) * index.time_base_s
    return DataError(
        f"The video {index.path} cannot be decoded at {second:.2f} s ({reason}): it is damaged. Copy or download it "
        "again; onedp inspect --pictures names all such episodes, --frame-cache DIR finds them before training."
    )


class _OpenVideo:
    """A video that is being decoded, and how far."""

    def __init__(self, path: Path):
        av = import_av(path)
        try:
            self.container = av.open(str(path))
        except (OSError, av.error.FFmpegError) as error:
            raise DataError(
                f"The video {path} cannot be opened ({_reason(error)}). Copy or download it again."
            ) from error
        self._stream = self.container.streams.video[0]
        self._stream.codec_context.thread_count = 1  # the loader has threads, and small pictures gain nothing
        self._at: int | None = None
        self._frames: Iterator[Any] = iter(())

    def frame_at(self, pts: int, keyframe: int) -> Any | None:
        """The frame of this time; ``keyframe`` is the last time before it where decoding can begin."""
        if self._at is None or not keyframe <= self._at < pts:
            self.container.seek(keyframe, stream=self._stream, backward=True, any_frame=False)
            self._frames = self.container.decode(self._stream)
        for frame in self._frames:
            self._at = frame.pts
            if self._at is not None and self._at >= pts:
                return frame if self._at == pts else None
        self._at = None
        return None


class _OpenVideos(threading.local):
    """A decoder belongs to one thread; the last few stay open, since opening costs more than a frame."""

    def __init__(self) -> None:
        self.videos: OrderedDict[Path, _OpenVideo] = OrderedDict()


_OPEN = _OpenVideos()


def _open(path: Path) -> _OpenVideo:
    if path in _OPEN.videos:
        _OPEN.videos.move_to_end(path)
    else:
        _OPEN.videos[path] = _OpenVideo(path)
        if len(_OPEN.videos) > OPEN_FILES:
            _OPEN.videos.popitem(last=False)[1].container.close()
    return _OPEN.videos[path]


def _forget(path: Path) -> None:
    found = _OPEN.videos.pop(path, None)
    if found is not None:
        found.container.close()


def _reason(error: Exception) -> str:
    """FFmpeg's own words, without the path and the log that it adds."""
    return str(getattr(error, "strerror", None) or error)


def files_content(paths: list[Path]) -> bytes:
    """Digests of the encoded files: what stands for their pictures in a data set's digest."""
    parts = []
    for path in paths:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(8 << 20):
                digest.update(piece)
        parts.append(digest.digest())
    return b"".join(parts)


def import_av(path: Path) -> Any:
    """PyAV, which only videos need; raises ``DataError`` when it is not installed."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise DataError(
            f"The video {path} needs the package av (PyAV), which cannot be imported ({error}). Install it with: "
            "pip install 'onedp[data]'"
        ) from error
    av.logging.set_level(av.logging.PANIC)  # FFmpeg's own lines about damage; ours say more
    return av
