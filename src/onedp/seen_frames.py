"""Features of camera pictures that were seen before: a robot's older frame was the newest one a moment ago."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

KEPT = 64
"""Frames whose features are kept, over all cameras; the longest unused are dropped first."""
FEW_FRAMES = 16
"""More frames at once (evaluations, many clients) are encoded together and not remembered."""

Encode = Callable[[ndarray], ndarray]
"""From pictures (N, H, W, C) to features (N, F)."""


class SeenFrames:
    """Remembers features by camera and content (128 bits of BLAKE2b). May be used from several threads.

    Few frames are encoded one by one, so that an answer does not depend, in its last bits, on which of its frames were
    seen before.
    """

    def __init__(self, kept: int = KEPT):
        self.kept = kept
        self._features: OrderedDict[tuple[str, bytes], ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._features)

    def features(
        self, camera: str, pictures: Shaped[ndarray, "b to h w c"], encode: Encode
    ) -> Float[ndarray, "b to f"]:
        """Features of all pictures; ``encode`` is called for those not remembered."""
        frames = pictures.reshape(-1, *pictures.shape[2:])
        if len(frames) > FEW_FRAMES:
            return encode(frames).reshape(*pictures.shape[:2], -1)
        return np.stack([self._one(camera, frame, encode) for frame in frames]).reshape(*pictures.shape[:2], -1)

    def _one(self, camera: str, frame: ndarray, encode: Encode) -> ndarray:
        frame = np.ascontiguousarray(frame)
        key = (camera, hashlib.blake2b(frame.data, digest_size=16).digest())
        with self._lock:
            if key in self._features:
                self._features.move_to_end(key)
                return self._features[key]
        features = np.array(encode(frame[None])[0])
        with self._lock:
            self._features[key] = features
            while len(self._features) > self.kept:
                self._features.popitem(last=False)
        return features
