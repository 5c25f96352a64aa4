"""robosuite and Meta-World: what holds without them, and what robomimic's names mean with them."""

from __future__ import annotations

import gc
import importlib.util

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.tasks import TASKS
from onedp.tasks.metaworld import METAWORLD_TASKS, MetaworldEnvironment
from onedp.tasks.robosuite import ROBOSUITE_TASKS, RobosuiteEnvironment


def test_specs_are_robomimics() -> None:
    fields = {task.name: [(f.name, f.shape) for f in task.spec.observations] for task in ROBOSUITE_TASKS}
    arm = [("robot0_eef_pos", (3,)), ("robot0_eef_quat", (4,)), ("robot0_gripper_qpos", (2,))]
    assert fields["lift"] == [("object", (10,)), *arm]
    assert fields["can"] == fields["pnp-milk"] == fields["square"] == [("object", (14,)), *arm]
    assert fields["tool-hang"] == [("object", (44,)), *arm]
    assert [name for name, _ in fields["transport"]][4:] == [name.replace("0", "1") for name, _ in arm]
    assert {task.name: task.max_steps for task in ROBOSUITE_TASKS} == {
        "lift": 400, "can": 400, "pnp-milk": 400, "square": 400, "tool-hang": 700, "transport": 700
    }  # fmt: skip
    assert {task.spec.action_dim for task in ROBOSUITE_TASKS} == {7, 14}
    assert len(METAWORLD_TASKS) == 8 + 1


def test_missing_simulators_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OneDPError, match=r"simulator robosuite is not installed. Install it with: make simulators"):
        TASKS["lift"].make_env()
    with pytest.raises(OneDPError, match=r"simulator metaworld is not installed. Install it with: make simulators"):
        TASKS["metaworld-push"].make_env()


@pytest.mark.slow
@pytest.mark.robosuite
def test_lift_observes_its_cube_and_succeeds_when_it_is_up() -> None:
    env = TASKS["lift"].make_env()
    assert isinstance(env, RobosuiteEnvironment)
    obs = env.reset(seed=3)
    simulation = env.simulator.sim
    cube = simulation.data.body_xpos[simulation.model.body_name2id("cube_main")]
    np.testing.assert_allclose(obs["object"][:3], cube, atol=1e-6)
    np.testing.assert_allclose(obs["object"][7:], cube - obs["robot0_eef_pos"], atol=1e-5)
    before = obs["robot0_eef_pos"]
    for _ in range(8):
        result = env.step(np.array([0, 0, 0.5, 0, 0, 0, -1], dtype=np.float32))
    assert (
        result.obs["robot0_eef_pos"][2] > before[2] + 0.03
    )  # deltas of the world's frame: z is up; the arm starts slowly
    assert not result.success
    joint = env.simulator.cube.joints[0]
    simulation.data.set_joint_qpos(joint, [0, 0, 1.0, 1, 0, 0, 0])
    assert env.step(np.zeros(7)).success


@pytest.mark.slow
@pytest.mark.robosuite
@pytest.mark.parametrize("name", ["can", "square"])
def test_the_first_observation_has_the_objects_pose_as_the_gripper_sees_it(name: str) -> None:
    env = TASKS[name].make_env()
    obs = env.reset(seed=3)
    away = np.linalg.norm(obs["object"][:3])
    np.testing.assert_allclose(away, np.linalg.norm(obs["object"][7:10] - obs["robot0_eef_pos"]), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(obs["object"][3:7]), 1.0, atol=1e-5)


def test_a_hand_of_metaworld_that_waits_stays_and_keeps_its_grip() -> None:
    task = TASKS["metaworld-push"]
    assert task.hold_action is not None
    assert task.rest_action is not None
    assert task.hold_action(np.array([0.3, -0.2, 0.1, 0.7], dtype=np.float32)).tolist() == pytest.approx([0, 0, 0, 0.7])
    assert task.rest_action({}).tolist() == [0, 0, 0, 0]


@pytest.mark.slow
@pytest.mark.metaworld
def test_metaworld_shows_the_goal_and_forgets_the_layout_before() -> None:
    env = TASKS["metaworld-door-open"].make_env()
    assert isinstance(env, MetaworldEnvironment)
    first = env.reset(seed=1)["state"]
    assert np.abs(first[-3:]).max() > 0.1  # the goal is not hidden
    np.testing.assert_array_equal(env.step(np.zeros(4)).obs["state"][-3:], first[-3:])
    other = env.reset(seed=2)["state"]
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(env.reset(seed=1)["state"], first)


@pytest.mark.slow
@pytest.mark.metaworld
def test_eight_tasks_are_told_by_their_index_and_are_what_each_is_alone() -> None:
    env, alone = TASKS["metaworld-eight"].make_env(), TASKS["metaworld-window-close"].make_env()
    action = np.array([0.3, -0.2, 0.1, 0.0])
    for seed, index in ((8 + 7, 7), (8 + 6, 6), (7, 7)):
        obs = env.reset(seed)
        after = env.step(action).obs
        assert obs["task"].tolist() == [index] == after["task"].tolist()
    np.testing.assert_array_equal(obs["state"], alone.reset(7)["state"])
    np.testing.assert_array_equal(after["state"], alone.step(action).obs["state"])


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_next_environment_of_its_kind_uses_the_simulator_again() -> None:
    first, other_kind = TASKS["lift"].make_env(), TASKS["lift-45"].make_env()
    assert isinstance(first, RobosuiteEnvironment)
    assert isinstance(other_kind, RobosuiteEnvironment)
    obs = first.reset(seed=3)
    kept, second = first.simulator, TASKS["lift"].make_env()
    assert isinstance(second, RobosuiteEnvironment)
    assert second.simulator is not kept  # it is in use
    first.step(np.ones(7))
    del first
    gc.collect()
    assert other_kind.simulator is not kept
    third = TASKS["lift"].make_env()
    assert isinstance(third, RobosuiteEnvironment)
    again = third.reset(seed=3)
    assert third.simulator is kept
    for name, values in obs.items():
        np.testing.assert_array_equal(again[name], values)
