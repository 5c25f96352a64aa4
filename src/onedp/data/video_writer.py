"""Pictures to a video, one frame a step."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy import ndarray

from onedp.data.video import import_av
from onedp.errors import DataError

Codec = Literal["av1", "h264"]
ENCODERS: dict[Codec, tuple[str, dict[str, str]]] = {
    # A keyframe every second frame, as LeRobot writes: a random frame costs at most two.
    "av1": ("libsvtav1", {"g": "2", "crf": "30", "svtav1-params": "lp=1"}),
    "h264": ("libx264", {"g": "2", "crf": "18", "bf": "0"}),
}


class VideoWriter:
    """Writes RGB pictures (H, W, 3) as a video, one a period."""

    def __init__(self, path: Path, height: int, width: int, fps: float, codec: Codec):
        self._av = import_av(path)
        os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder tells its whole configuration otherwise
        encoder, options = ENCODERS[codec]
        rate = Fraction(fps).limit_denominator(10000)
        try:
            self._container = self._av.open(str(path), "w")
            self._stream = self._container.add_stream(encoder, rate=rate, options=options)
        except (self._av.error.FFmpegError, ValueError) as error:
            other = "h264" if codec == "av1" else "av1"
            raise DataError(f"This FFmpeg cannot write {codec} ({error}). Try --codec {other}.") from error
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = 1 / rate
        self._count = 0

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, picture: ndarray) -> None:
        """Append a picture."""
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = self._count, self._stream.codec_context.time_base
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
