"""Image forms: which fields, that the world is the state form's, and that cameras see what moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onedp.collect.experts import get_expert
from onedp.collect.run import CollectRequest, collect
from onedp.errors import OneDPError
from onedp.tasks import TASKS, get_task
from onedp.tasks.demonstrations import load_demonstrations
from onedp.tasks.robosuite_pictures import PictureEnvironment


def test_fields_are_robomimics() -> None:
    lift = {field.name: field.shape for field in TASKS["lift-image"].spec.observations}
    assert lift == {
        "agentview_image": (84, 84, 3),
        "robot0_eye_in_hand_image": (84, 84, 3),
        "robot0_eef_pos": (3,),
        "robot0_eef_quat": (4,),
        "robot0_gripper_qpos": (2,),
    }
    assert TASKS["tool-hang-image"].spec.observations[0].shape == (240, 240, 3)
    assert sum(field.is_image for field in TASKS["transport-image"].spec.observations) == 4
    assert TASKS["pnp-anything-image"].spec.observations[-1].name == "object_kind"


def test_image_forms_have_options_and_experts_and_push_t_has_one_of_its_own() -> None:
    task = get_task("lift-moving-image@speed=0.04")
    assert task.name == "lift-moving-image@speed=0.04"
    assert task.spec.horizon == get_task("lift-moving").spec.horizon
    assert get_expert(task.name).description == get_expert("lift-moving").description
    with pytest.raises(OneDPError, match="has no scripted expert"):
        get_expert("tool-hang-image")
    with pytest.raises(OneDPError, match=r"task 'pusht-drift-image'|pusht-drift-image"):
        get_task("pusht-drift-image@speed=4")


@pytest.mark.slow
@pytest.mark.robosuite
def test_pictures_show_the_state_forms_world_as_it_changes() -> None:
    env, blind = TASKS["lift-image"].make_env(), TASKS["lift"].make_env()
    assert isinstance(env, PictureEnvironment)
    first, numbers = env.reset(3), blind.reset(3)
    np.testing.assert_array_equal(first["robot0_eef_pos"], numbers["robot0_eef_pos"])
    np.testing.assert_array_equal(env.reset(3)["agentview_image"], first["agentview_image"])
    assert "object" not in first
    red = first["agentview_image"].astype(int)
    cube = (red[..., 0] > red[..., 1] + 40) & (red[..., 0] > red[..., 2] + 40)
    assert 10 < cube.sum() < 400
    assert not np.array_equal(env.reset(4)["agentview_image"], first["agentview_image"])
    result = env.step(np.array([0, 0, -1, 0, 0, 0, -1]))
    for _ in range(5):
        result = env.step(np.array([0, 0, -1, 0, 0, 0, -1]))
    moved = np.abs(result.obs["robot0_eye_in_hand_image"].astype(int) - first["robot0_eye_in_hand_image"])
    assert moved.max() > 50


@pytest.mark.slow
@pytest.mark.robosuite
def test_demonstrations_with_pictures_are_collected_and_read(tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    collect(CollectRequest("lift-image", 2, path, workers=1))
    episodes = load_demonstrations(path, TASKS["lift-image"])
    frames = episodes.arrays["agentview_image"]
    assert frames.shape[1:] == (84, 84, 3)
    assert len(frames) == len(episodes.arrays["action"]) == episodes.ends[-1]
    np.testing.assert_array_equal(frames[:1][0], TASKS["lift-image"].make_env().reset(0)["agentview_image"])
