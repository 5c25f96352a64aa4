from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from onedp.data.robomimic_writer import Demonstration, robomimic_file
from onedp.errors import DataError, OneDPError

h5py = pytest.importorskip("h5py", reason="h5py is not installed: make simulators")


def demonstration(steps: int, seed: int = 0) -> Demonstration:
    rng = np.random.default_rng(seed)
    return Demonstration(
        observations={"object": rng.normal(size=(steps, 3)).astype(np.float32)},
        actions=rng.normal(size=(steps, 2)).astype(np.float32),
        rewards=np.zeros(steps, dtype=np.float32),
        dones=np.zeros(steps, dtype=np.uint8),
        extra={"states": rng.normal(size=(steps, 5))},
        attributes={"seed": seed},
    )


def test_layout_is_robomimics(tmp_path: Path) -> None:
    demos = [demonstration(4 + i, i) for i in range(12)]
    with robomimic_file(tmp_path / "a.hdf5") as writer:
        for demo in demos:
            writer.add(demo)
        writer.finish({"env_name": "Lift", "type": 1}, {"demonstrations": "scripted"})
    assert (len(writer), writer.steps) == (12, sum(range(4, 16)))
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert set(file) == {"data", "mask"}
        data = file["data"]
        assert json.loads(data.attrs["env_args"]) == {"env_name": "Lift", "type": 1}
        assert data.attrs["demonstrations"] == "scripted"
        assert data.attrs["total"] == sum(range(4, 16))
        assert {name: group.attrs["num_samples"] for name, group in data.items()} == {
            f"demo_{i}": 4 + i for i in range(12)
        }
        for i, demo in enumerate(demos):
            group = data[f"demo_{i}"]
            assert group.attrs["seed"] == i
            assert set(group) == {"actions", "rewards", "dones", "states", "obs"}
            np.testing.assert_array_equal(group["actions"], demo.actions)
            np.testing.assert_array_equal(group["obs/object"], demo.observations["object"])
        masks = {name: [key.decode() for key in file[f"mask/{name}"]] for name in ("train", "valid")}
    assert masks["valid"] == ["demo_9"]
    assert sorted(masks["train"] + masks["valid"]) == sorted(f"demo_{i}" for i in range(12))


def test_nothing_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with (
        pytest.raises(OneDPError, match="could not be written: No space left on device"),
        robomimic_file(tmp_path / "a.hdf5") as file,
    ):
        file.add(demonstration(3))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_becomes_full_is_noticed_before_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 loses data and then crashes when a write fails, so none may."""

    def roll_out() -> None:
        with robomimic_file(tmp_path / "a.hdf5") as file:
            file.add(demonstration(3))
            monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=49_000_000))
            file.add(demonstration(4))

    with pytest.raises(OneDPError, match=r"the next episode needs 0\.0 MB and 50 MB to spare, 49\.0 MB are free"):
        roll_out()
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_things_are_not_those_of_writing(tmp_path: Path) -> None:
    """Roll-outs run while the file grows; a lost worker is no full disk."""

    def roll_out(path: Path) -> None:
        with robomimic_file(path) as file:
            file.add(demonstration(3))
            raise BrokenPipeError("a worker was lost")

    with pytest.raises(BrokenPipeError, match="a worker was lost"):
        roll_out(tmp_path / "a.hdf5")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no demonstrations to write"), robomimic_file(tmp_path / "a") as file:
        file.finish({}, {})
    with pytest.raises(OneDPError, match="was not finished"), robomimic_file(tmp_path / "a") as file:
        file.add(demonstration(3))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"same number of steps in each array, at least 1: .*'rewards': 2"):
        dataclasses.replace(demonstration(3), rewards=np.zeros(2))
