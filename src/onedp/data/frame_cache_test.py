from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from onedp.data.config import ReadingConfig
from onedp.data.fake_sets_test import lerobot_v3, robomimic, step_of
from onedp.data.frame_cache import with_frame_cache
from onedp.data.readers import open_recording
from onedp.errors import DataError

CAMERA = "observation.images.top"


def test_cached_pictures_are_the_decoded_ones_and_are_decoded_once(tmp_path: Path) -> None:
    recording = open_recording(lerobot_v3(tmp_path / "set"))
    decoded = recording.read(CAMERA)[:]
    digest = recording.episodes().digest()
    cached = with_frame_cache(recording, ["action", CAMERA], tmp_path / "cache")
    assert cached.episodes().digest() == digest
    (file,) = (tmp_path / "cache").glob("*.npy")
    written = file.stat().st_mtime_ns
    again = with_frame_cache(recording, [CAMERA], tmp_path / "cache")
    next((tmp_path / "set").rglob("*.mp4")).unlink()
    for each in (cached, again):
        np.testing.assert_array_equal(each.read(CAMERA)[:], decoded)
        np.testing.assert_array_equal(each.read(CAMERA)[np.array([[7, 3]])], decoded[[[7, 3]]])
    assert file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(cached.read("action"), recording.read("action"))


def test_a_changed_source_and_other_episodes_have_a_cache_of_their_own(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "d.hdf5")
    with_frame_cache(open_recording(path), ["obs/top_image"], tmp_path / "cache")
    train = with_frame_cache(open_recording(path, ReadingConfig(split="train")), ["obs/top_image"], tmp_path / "cache")
    assert len(train.read("obs/top_image")) == 15
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2
    os.utime(path, ns=(1, 1))
    with_frame_cache(open_recording(path), ["obs/top_image"], tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3


def test_episodes_that_cannot_be_decoded_are_found_while_the_cache_is_written(tmp_path: Path) -> None:
    root = lerobot_v3(tmp_path / "set")
    video = next(root.rglob("*.mp4"))
    content = bytearray(video.read_bytes())
    start = content.index(b"mdat") + 4
    content[start : start + 40] = bytes(40)  # the first frames
    video.write_bytes(bytes(content))
    recording = with_frame_cache(open_recording(root), [CAMERA], tmp_path / "cache")
    again = with_frame_cache(open_recording(root), [CAMERA], tmp_path / "cache")
    assert recording.bad_episodes == again.bad_episodes
    assert list(recording.bad_episodes) == [0]
    with pytest.raises(DataError, match=r"episode 0 has pictures 'observation.images.top' that cannot be decoded"):
        recording.without_bad_episodes(skip=False)
    kept = recording.without_bad_episodes(skip=True)
    assert [step_of(picture) for picture in kept.read(CAMERA)[:]] == list(range(6, 20))
