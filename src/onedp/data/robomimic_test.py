from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from onedp.data.config import ReadingConfig
from onedp.data.fake_sets_test import ENDS, LENGTHS, SIZE, N, numbers, pictures, robomimic
from onedp.data.lazy import LazyArray
from onedp.data.readers import open_episodes, open_recording
from onedp.errors import DataError

SKIP = ReadingConfig(skip_bad_episodes=True)


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """As text demo_10 is before demo_2, and in the file it was written first."""
    recording = open_recording(robomimic(tmp_path / "low.hdf5"))
    assert (recording.format, recording.rate_hz, recording.ends.tolist()) == ("robomimic HDF5", 20.0, ENDS.tolist())
    assert sorted(recording.headers) == ["actions", "obs/robot0_eef_pos", "obs/top_image", "states"]
    assert recording.notes == ("Environment: Lift",)
    np.testing.assert_array_equal(recording.read("actions"), numbers()["action"])
    np.testing.assert_array_equal(np.asarray(recording.read("states"))[:, 0], np.arange(N))


def test_pictures_stay_in_the_file(tmp_path: Path) -> None:
    frames = open_episodes(robomimic(tmp_path / "d.h5"), ("obs/top_image",)).arrays["obs/top_image"]
    assert isinstance(frames, LazyArray)
    assert frames.shape == (N, *SIZE, 3)
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_array_equal(frames[order], pictures()[order])


def test_splits(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "d.hdf5")
    train = open_recording(path, ReadingConfig(split="train"))
    assert train.ends.tolist() == [6, 15]
    np.testing.assert_array_equal(train.read("actions"), numbers()["action"][[*range(6), *range(11, N)]])
    assert open_recording(path, ReadingConfig(split="valid")).ends.tolist() == [5]
    with pytest.raises(DataError, match=r"has no split 'tran'. Did you mean 'train'\? It has \['train', 'valid'\]"):
        open_recording(path, ReadingConfig(split="tran"))
    path = robomimic(tmp_path / "other.hdf5")
    with h5py.File(path, "a") as file:
        file["mask/other"] = np.array([b"demo_7"])
    with pytest.raises(DataError, match=r"mask/other names \['demo_7'\], which data/ does not have"):
        open_recording(path)


def test_without_observations(tmp_path: Path) -> None:
    recording = open_recording(robomimic(tmp_path / "raw.hdf5", obs=False))
    assert recording.format == "robosuite HDF5 (raw, without observations)"
    with pytest.raises(
        DataError,
        match=r"missing \['obs/robot0_eef_pos'\].* The file has states but no 'obs': make observations of them",
    ):
        recording.episodes(("actions", "obs/robot0_eef_pos"))


def change_action(demo: h5py.Group) -> None:
    del demo["actions"]


def change_samples(demo: h5py.Group) -> None:
    demo.attrs["num_samples"] = 4


def shorten_observation(demo: h5py.Group) -> None:
    rows = demo["obs/top_image"][:3]
    del demo["obs/top_image"]
    demo["obs/top_image"] = rows


def resize_pictures(demo: h5py.Group) -> None:
    del demo["obs/top_image"]
    demo["obs/top_image"] = pictures(5, (16, 48))


def remove_camera(demo: h5py.Group) -> None:
    del demo["obs/top_image"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_action, r"episode 1 \(demo_2\) is empty: it has no 'actions'"),
        (change_samples, r"episode 1 \(demo_2\) has 5 actions, its num_samples says 4"),
        (shorten_observation, r"episode 1 \(demo_2\) has 3 rows of 'obs/top_image' and 5 actions"),
        (resize_pictures, r"episode 1 \(demo_2\) has 'obs/top_image' of shape \(16, 48, 3\), others of \(32, 48, 3\)"),
        (remove_camera, r"episode 1 \(demo_2\) has no 'obs/top_image'; others have"),
    ],
)
def test_bad_demonstrations(tmp_path: Path, change: Callable[[h5py.Group], None], message: str) -> None:
    path = robomimic(tmp_path / "d.hdf5")
    with h5py.File(path, "a") as file:
        change(file["data/demo_2"])
    names = ("actions", "obs/top_image")
    with pytest.raises(DataError, match=message + r".* go on without: --skip-bad-episodes"):
        open_recording(path).episodes(names)
    kept = open_recording(path, SKIP).usable(names, skip=True)
    assert (kept.selection, kept.ends.tolist()) == ((0, 2), [6, 15])
    (skipped,) = kept.skipped
    assert skipped.startswith("Episode 1 (demo_2) ")
    good = [*range(6), *range(6 + LENGTHS[1], N)] if change is not change_action else [*range(6), *range(11, N)]
    np.testing.assert_array_equal(kept.read("actions"), numbers()["action"][good])
    np.testing.assert_array_equal(kept.read("obs/top_image")[:], pictures()[good])


def test_other_files(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "d.hdf5")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cannot be opened as HDF5 .*: it is truncated or damaged. Copy or download"):
        open_recording(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(DataError, match=r"is HDF5 without a group 'data'; it has \['weights'\]. Expected robomimic's"):
        open_recording(tmp_path / "other.h5")
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file.create_group("data")
    with pytest.raises(DataError, match=r"the group 'data' has no demonstrations"):
        open_recording(tmp_path / "none.h5")


# --- the real data


def test_real_raw_files(pusht_human: Path) -> None:
    folder = pusht_human.parent / "robosuite_human_samples"
    recording = open_recording(folder / "lift_panda_v1.4_3demos.hdf5")
    assert np.diff(recording.ends, prepend=0).tolist() == [482, 510, 392]
    assert recording.headers["actions"].shape == (1384, 7)
    assert recording.notes == ("Environment: Lift",)
    for file in folder.glob("*.hdf5"):
        assert open_recording(file).episodes().arrays["actions"].shape[1] in (6, 7)


@pytest.mark.parametrize(
    ("collected", "ways"),
    [
        ('{"ways": {"left": 3, "right": 2}}', ["Ways: left 3, right 2"]),
        ('{"task": "lift"}', []),
        ("[1", []),
        ("[]", []),
    ],
)
def test_scripted_demonstrations_are_said_to_be_scripted(tmp_path: Path, collected: str, ways: list[str]) -> None:
    path = robomimic(tmp_path / "d.hdf5")
    with h5py.File(path, "a") as file:
        file["data"].attrs.update({"demonstrations": "scripted: by a program", "collected": collected})
    expected = ("Environment: Lift", "Demonstrations: scripted: by a program", *ways)
    assert open_recording(path).notes == expected
