from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from onedp.data.windows import window_index
from onedp.errors import DataError, OneDPError
from onedp.tasks import TASKS
from onedp.tasks.demonstrations import demonstration_warnings, load_demonstrations, load_observations
from onedp.tasks.pusht import PUSHT_KEYPOINTS, PUSHT_STATE, keypoint_features, mirrored
from onedp.tasks.task import Task

ENDS = np.array([20, 50])
RNG = np.random.default_rng(0)
STATE = RNG.uniform(50, 400, size=(50, 5)).astype(np.float32)
ACTION = RNG.integers(0, 512, size=(50, 2))
PICTURES = np.zeros((50, 4, 4, 3), dtype=np.uint8)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path / "d.npz", episode_ends=ENDS, **arrays)
    return path / "d.npz"


def test_demonstrations_have_exactly_the_fields_of_the_spec(tmp_path: Path) -> None:
    path = save(tmp_path, state=STATE, action=ACTION, img=PICTURES)
    episodes = load_demonstrations(path, PUSHT_KEYPOINTS)
    assert set(episodes.arrays) == {"keypoints", "agent_pos", "action"}
    assert {array.dtype for array in episodes.arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(episodes.arrays["action"], ACTION)
    np.testing.assert_array_equal(episodes.arrays["keypoints"], keypoint_features({"state": STATE})["keypoints"])
    np.testing.assert_array_equal(episodes.ends, ENDS)
    assert episodes.source == str(path)


def test_observations_need_no_action(tmp_path: Path) -> None:
    alone = load_observations(save(tmp_path, state=STATE), PUSHT_STATE)
    assert set(alone.arrays) == {"agent_pos", "block_pos", "block_cos_sin"}
    beside = load_observations(save(tmp_path, state=STATE, action=np.full((50, 2), np.nan)), PUSHT_STATE)
    assert beside.digest() == alone.digest()
    with pytest.raises(DataError, match=r"missing \['action'\]. It has \['state'\]. The task 'pusht-state' needs"):
        load_demonstrations(save(tmp_path, state=STATE), PUSHT_STATE)


def test_data_recorded_in_the_fields_of_the_spec_is_taken_as_it_is(tmp_path: Path) -> None:
    made = load_demonstrations(save(tmp_path, state=STATE, action=ACTION), PUSHT_KEYPOINTS)
    again = load_demonstrations(save(tmp_path, **made.arrays, success=np.ones(50)), PUSHT_KEYPOINTS)
    assert again.digest() == made.digest()
    only = {name: array for name, array in made.arrays.items() if name != "action"}
    assert set(load_observations(save(tmp_path, **only), PUSHT_KEYPOINTS).arrays) == set(only)


def test_mirrored_demonstrations_are_the_features_of_the_mirrored_recording(tmp_path: Path) -> None:
    path = save(tmp_path, state=STATE, action=ACTION)
    image = load_demonstrations(path, PUSHT_KEYPOINTS, mirrored=True)
    np.testing.assert_allclose(image.arrays["action"], 512 - ACTION[:, ::-1])
    reflected = mirrored({"state": STATE})["state"]
    np.testing.assert_allclose(image.arrays["keypoints"], keypoint_features({"state": reflected})["keypoints"])
    own_fields = save(tmp_path, **load_demonstrations(path, PUSHT_KEYPOINTS).arrays)
    with pytest.raises(DataError, match=r"--mirror needs \['state'\].*Train without --mirror"):
        load_demonstrations(own_fields, PUSHT_KEYPOINTS, mirrored=True)
    with pytest.raises(OneDPError, match="has no mirror image"):
        load_demonstrations(path, dataclasses.replace(PUSHT_KEYPOINTS, mirror=None), mirrored=True)


def test_missing_array_says_what_the_task_needs(tmp_path: Path) -> None:
    message = (
        "missing ['state']. It has ['action', 'pose']. The task 'pusht-keypoints' needs ['state', 'action'], or its "
        "own fields ['keypoints', 'agent_pos']. Look at it with: onedp inspect"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        load_demonstrations(save(tmp_path, pose=STATE, action=ACTION), PUSHT_KEYPOINTS)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"state": STATE[:, :4], "action": ACTION},
            "'state' has the shape (4,) in each step, the task 'pusht-keypoints' expects (5,) [px px px px rad]. Is "
            "this the data set of another task? Expected: pusht_cchi_v7_replay",
        ),
        (
            {"state": STATE, "action": RNG.normal(size=(50, 7))},
            "'action' has the shape (7,) in each step, the task 'pusht-keypoints' expects (2,) [px]",
        ),
        ({"state": STATE, "action": ACTION.astype(str)}, "'action' holds text (type <U21), expected plain numbers"),
        ({"state": STATE[:40], "action": ACTION}, "'state' has 40 rows, but the last episode ends at step 50"),
        (
            {"state": np.where(np.arange(50)[:, None] == 23, np.nan, STATE), "action": ACTION},
            "'state' has NaN or infinity in 1 steps, first in episode 1, step 3. Expected finite numbers",
        ),
        (
            {"state": STATE, "action": np.where(np.arange(50)[:, None] == 7, np.inf, ACTION)},
            "'action' has NaN or infinity in 1 steps, first in episode 0, step 7",
        ),
        (
            {"state": STATE, "action": np.where(np.arange(50)[:, None] == 7, 1e300, ACTION)},
            "'action' has NaN or infinity in 1 steps, first in episode 0, step 7",
        ),
        (
            {"keypoints": np.zeros((50, 9, 2)), "agent_pos": np.zeros((50, 2)), "action": ACTION},
            "'keypoints' has the shape (9, 2) in each step, the task 'pusht-keypoints' expects (16,) [px]",
        ),
    ],
)
def test_data_that_does_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        load_demonstrations(save(tmp_path, **arrays), PUSHT_KEYPOINTS)


def test_missing_chunks_of_a_zarr(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "d.zarr"), mode="w", zarr_format=2)
    root.create_array("data/state", data=STATE, chunks=(10, 5))
    root.create_array("data/action", data=ACTION, chunks=(10, 2))
    root.create_array("meta/episode_ends", data=ENDS)
    load_demonstrations(tmp_path / "d.zarr", PUSHT_STATE)
    (tmp_path / "d.zarr" / "data" / "action" / "2.0").unlink()
    load_observations(tmp_path / "d.zarr", PUSHT_STATE)
    with pytest.raises(DataError, match=r"'action' has 1 of its 5 chunks not stored; .* copy it again; if these steps"):
        load_demonstrations(tmp_path / "d.zarr", PUSHT_STATE)


def task_with(features: Any) -> Task:
    return dataclasses.replace(PUSHT_STATE, name="mine", features=features)


def test_features_of_a_foreign_task_that_fail(tmp_path: Path) -> None:
    path = save(tmp_path, state=STATE, action=ACTION)

    def broken(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"x": arrays["state"] @ arrays["action"]}

    message = r"the task 'mine' cannot make its fields from {'state': \(50, 5\), 'action': \(50, 2\)} \(ValueError: "
    with pytest.raises(DataError, match=message):
        load_demonstrations(path, task_with(broken))


def test_features_that_lack_a_field(tmp_path: Path) -> None:
    path = save(tmp_path, state=STATE, action=ACTION)
    message = r"the features of the task 'mine' give \['agent_pos'\], but its spec also has 'block_pos'. Mend"
    with pytest.raises(DataError, match=message):
        load_demonstrations(path, task_with(lambda arrays: {"agent_pos": arrays["state"][:, :2]}))


def test_warnings(tmp_path: Path) -> None:
    task = PUSHT_STATE
    state = STATE.copy()
    state[:, 3] = 100.0
    action = ACTION.copy()
    action[25, 1] = 600
    np.savez(tmp_path / "d.npz", state=state, action=action, episode_ends=[20, 25, 50])
    constant, outside, short = demonstration_warnings(load_demonstrations(tmp_path / "d.npz", task), task.spec)
    assert constant == (
        "'block_pos' is constant in the dimensions [1] (value 100): the policy cannot learn to use or move them. "
        "Leave them out if they mean nothing."
    )
    assert outside == (
        "'action' is outside the limits (0.0, 0.0) to (512.0, 512.0) in 1 steps, first in episode 2, step 0: the "
        "policy clips to them. Check the unit."
    )
    assert short.startswith("1 of 3 episodes are short. 31 windows,")
    assert short.endswith("1 (number 1), padded in every window; of these 1 (number 1) give none.")


def test_no_warnings_for_good_data(tmp_path: Path) -> None:
    episodes = load_observations(save(tmp_path, state=STATE), PUSHT_STATE)
    assert demonstration_warnings(episodes, PUSHT_STATE.spec) == []


# --- the real data


@pytest.mark.parametrize("name", ["pusht-keypoints", "pusht-state"])
def test_real_demonstrations(pusht_human: Path, name: str) -> None:
    task = TASKS[name]
    episodes = load_demonstrations(pusht_human / "pusht_cchi_v7_replay.zarr.zip", task)
    assert (len(episodes), episodes.n_steps) == (206, 25650)
    from_npz = load_demonstrations(pusht_human / "pusht_cchi_v7_replay_lowdim.npz", task)
    assert episodes.digest() == from_npz.digest()
    assert demonstration_warnings(episodes, task.spec) == []
    action = episodes.dense("action")
    assert (action.min(axis=0).tolist(), action.max(axis=0).tolist()) == ([12, 25], [511, 511])
    index = window_index(episodes.ends, task.spec)
    assert len(index) == 25650 - 206 * 7
    assert int((~index.action_is_real).sum()) == 206 * (1 + sum(range(1, 8)))
