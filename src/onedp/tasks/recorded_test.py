from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from onedp.data.config import ActionConvention, ReadingConfig, RecordedConfig
from onedp.data.fake_sets_test import SIZE, N, lerobot_v3, numbers, pictures, robomimic, step_of
from onedp.data.rotations import matrix_from_quaternion, sixd_from_matrix
from onedp.errors import DataError, OneDPError
from onedp.tasks.demonstrations import demonstration_warnings, load_demonstrations
from onedp.tasks.recorded import policy_task, recorded_config, recorded_task

READ = ReadingConfig()


def test_lerobot_set_is_a_task(tmp_path: Path) -> None:
    root = lerobot_v3(tmp_path / "set")
    task = recorded_task(root, READ, RecordedConfig())
    assert {field.name: (field.shape, field.dtype) for field in task.spec.observations} == {
        "observation.state": ((3,), "float32"),
        "observation.images.top": ((*SIZE, 3), "uint8"),
    }
    assert (task.spec.action.shape, task.spec.rate_hz) == ((2,), 10.0)
    np.testing.assert_allclose(task.spec.action_low, numbers()["action"].min(axis=0))
    episodes = load_demonstrations(root, task)
    np.testing.assert_array_equal(episodes.arrays["action"], numbers()["action"])
    assert [step_of(picture) for picture in episodes.arrays["observation.images.top"][:]] == list(range(N))
    assert load_demonstrations(root, policy_task(task.spec, RecordedConfig())).digest() == episodes.digest()
    with pytest.raises(OneDPError, match=r"recorded data alone, so there is no environment .*onedp compare --data"):
        task.make_env()


def test_robomimic_file_is_a_task_without_its_prefix(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "d.hdf5")
    task = recorded_task(path, READ, RecordedConfig())
    assert [field.name for field in task.spec.observations] == ["robot0_eef_pos", "top_image"]
    assert task.spec.rate_hz == 20.0
    episodes = load_demonstrations(path, task)
    np.testing.assert_array_equal(episodes.arrays["robot0_eef_pos"], numbers()["observation.state"])
    np.testing.assert_array_equal(episodes.arrays["top_image"][:], pictures())


def test_chosen_fields(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", q=np.arange(8.0), u=np.arange(16.0).reshape(8, 2), episode_ends=[3, 8])
    config = RecordedConfig(fields={"joint": "q", "action": "u"}, rate_hz=5.0)
    task = recorded_task(tmp_path / "d.npz", READ, config)
    assert [(field.name, field.shape) for field in task.spec.observations] == [("joint", (1,))]
    episodes = load_demonstrations(tmp_path / "d.npz", task, fields=config.fields)
    assert {name: values.shape for name, values in episodes.arrays.items()} == {"joint": (8, 1), "action": (8, 2)}
    wrong = RecordedConfig(fields={"joint": "qq", "action": "u"}, rate_hz=5.0)
    with pytest.raises(
        DataError, match=r"has no 'qq', which was chosen for 'joint'. Did you mean 'q'\? It has \['q', 'u'\]"
    ):
        recorded_task(tmp_path / "d.npz", READ, wrong)


def test_what_is_missing_is_named_with_its_option(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", q=np.arange(8.0), action=np.arange(8.0), episode_ends=[3, 8])
    with pytest.raises(DataError, match=r"no arrays that are named as observations .*Name them: --fields state NAME"):
        recorded_task(tmp_path / "d.npz", READ, RecordedConfig())
    with pytest.raises(DataError, match=r"does not say at how many steps a second .*Give it: --rate-hz 10"):
        recorded_task(tmp_path / "d.npz", READ, RecordedConfig(fields={"q": "q"}))
    raw = robomimic(tmp_path / "raw.hdf5", obs=False)
    with pytest.raises(DataError, match=r"no arrays that are named as observations.*make observations of them with"):
        recorded_task(raw, READ, RecordedConfig())


def test_conventions_of_actions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    quaternion = rng.normal(size=(8, 4))
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    position, state = rng.normal(size=(8, 3)), rng.normal(size=(8, 3))
    action = np.concatenate([position, quaternion], axis=1)
    np.savez(tmp_path / "d.npz", **{"observation.state": state, "action": action, "episode_ends": [3, 8]})
    convention = ActionConvention("delta", "observation.state", None, 3, "quaternion-xyzw", "6d")
    config = RecordedConfig(rate_hz=10.0, action=convention)
    task = recorded_task(tmp_path / "d.npz", READ, config)
    learned = load_demonstrations(tmp_path / "d.npz", task).dense("action")
    assert task.spec.action.shape == (9,)
    np.testing.assert_allclose(learned[:, :3], position - state, atol=1e-6)
    np.testing.assert_allclose(learned[:, 3:], sixd_from_matrix(matrix_from_quaternion(quaternion)), atol=1e-6)
    assert (learned >= np.array(task.spec.action_low) - 1e-6).all()
    saved = json.loads(json.dumps({"recorded": dataclasses.asdict(config)}))  # as in a policy's provenance
    assert recorded_config(saved) == config
    assert recorded_config({}) is None


def test_episodes_with_holes_are_left_out_when_they_may_be(tmp_path: Path) -> None:
    state, action = np.ones((40, 2)), np.arange(80.0).reshape(40, 2)
    state[16, 1] = np.nan
    arrays: dict[str, Any] = {"observation.state": state, "action": action, "episode_ends": [15, 20, 20, 40]}
    np.savez(tmp_path / "d.npz", **arrays)
    config = RecordedConfig(rate_hz=10.0)
    with pytest.raises(DataError, match=r"episode 2 is empty .*--skip-bad-episodes"):
        recorded_task(tmp_path / "d.npz", READ, config)
    skip = ReadingConfig(skip_bad_episodes=True)
    task = recorded_task(tmp_path / "d.npz", skip, config)
    episodes = load_demonstrations(tmp_path / "d.npz", task, reading=skip)
    assert episodes.ends.tolist() == [15, 35]
    np.testing.assert_array_equal(episodes.dense("action"), action[[*range(15), *range(20, 40)]])
    assert demonstration_warnings(episodes, task.spec)[0] == (
        "2 episodes were left out. Episode 2 is empty or ends before it starts (it starts at step 20 and ends at 20). "
        "Episode 1 has NaN or infinity in 'observation.state', first at step 1."
    )


def test_quaternions_are_found_where_they_are_said_to_be(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    turns = rng.standard_normal((8, 4))
    pose = np.concatenate([rng.uniform(-1, 1, (8, 3)), turns / np.linalg.norm(turns, axis=1, keepdims=True)], axis=1)
    np.savez(tmp_path / "d.npz", pose=pose, action=np.arange(16.0).reshape(8, 2), episode_ends=[3, 8])

    def config(*quaternions: str) -> RecordedConfig:
        return RecordedConfig(fields={"pose": "pose"}, rate_hz=5.0, quaternions=quaternions)

    task = recorded_task(tmp_path / "d.npz", READ, config("pose:3"))
    assert task.spec.observations[0].quaternions == (3,)
    again = recorded_config({"recorded": json.loads(json.dumps(dataclasses.asdict(config("pose:3"))))})
    assert again == config("pose:3")
    with pytest.raises(DataError, match=r"--quaternions pose:2: the four numbers .* a unit quaternion .* has 1"):
        recorded_task(tmp_path / "d.npz", READ, config("pose:2"))
    for wrong in ("pose", "arm:3", "pose:-1", "pose:x"):
        with pytest.raises(DataError, match=r"expected FIELD:PLACE .* such as pose:3; the observations are pose"):
            recorded_task(tmp_path / "d.npz", READ, config(wrong))
    with pytest.raises(OneDPError, match="has no room for quaternions at"):
        recorded_task(tmp_path / "d.npz", READ, config("pose:4"))


def test_a_camera_that_cannot_be_read_is_not_left_out_in_silence(tmp_path: Path) -> None:
    """A blind policy is another policy."""
    root = lerobot_v3(tmp_path / "set")
    for video in (root / "videos").rglob("*.mp4"):
        video.unlink()
    with pytest.raises(DataError, match=r"'observation.images.top' has no video: .* A policy without it would be anot"):
        recorded_task(root, READ, RecordedConfig())
    chosen = RecordedConfig(fields={"observation.state": "observation.state", "action": "action"})
    assert [field.name for field in recorded_task(root, READ, chosen).spec.observations] == ["observation.state"]


def test_pictures_that_have_no_three_colours_last_are_named(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "d.hdf5")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["obs/depth"] = np.zeros((len(demo["actions"]), 32, 48, 1), np.float32)
    with pytest.raises(DataError, match=r"'obs/depth' has the shape \(32, 48, 1\) in each step. Pictures are read as"):
        recorded_task(path, READ, RecordedConfig())
