"""Every frame is encoded once while it is remembered, and the memory is bounded."""

from __future__ import annotations

import numpy as np

from onedp.seen_frames import FEW_FRAMES, SeenFrames


class Encoder:
    def __init__(self):
        self.frames = 0

    def __call__(self, pictures):
        self.frames += len(pictures)
        return pictures.reshape(len(pictures), -1)[:, :5].astype(np.float32)


def pictures(batch, steps, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (batch, steps, 4, 5, 3), dtype=np.uint8)


def test_an_older_frame_is_not_encoded_again():
    seen, encode = SeenFrames(), Encoder()
    film = pictures(1, 4)
    for newest in range(1, 4):
        window = film[:, newest - 1 : newest + 1]
        expected = window.reshape(1, 2, -1)[..., :5].astype(np.float32)
        np.testing.assert_array_equal(seen.features("top", window, encode), expected)
    assert encode.frames == 4
    seen.features("side", film[:, :2], encode)  # another camera has an encoder of its own
    assert encode.frames == 6


def test_views_of_other_layouts_are_the_same_frame():
    seen, encode = SeenFrames(), Encoder()
    film = pictures(1, 2)
    seen.features("top", film, encode)
    seen.features("top", np.asfortranarray(film), encode)
    assert encode.frames == 2


def test_the_longest_unused_frame_is_forgotten():
    seen, encode = SeenFrames(kept=2), Encoder()
    first, second, third = (pictures(1, 1, seed) for seed in range(3))
    for each in (first, second, first, third, first):
        seen.features("top", each, encode)
    assert (encode.frames, len(seen)) == (3, 2)
    seen.features("top", second, encode)
    assert encode.frames == 4


def test_large_batches_are_encoded_together_and_not_remembered():
    seen, encode = SeenFrames(), Encoder()
    many = pictures(FEW_FRAMES, 2)
    assert seen.features("top", many, encode).shape == (FEW_FRAMES, 2, 5)
    assert (encode.frames, len(seen)) == (2 * FEW_FRAMES, 0)
