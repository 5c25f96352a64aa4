from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pymunk
import pytest
from gym_pusht.envs import PushTEnv

from onedp.data.lazy import LazyArray
from onedp.data.readers import open_episodes
from onedp.errors import OneDPError
from onedp.tasks.demonstrations import load_demonstrations
from onedp.tasks.pusht import (
    PUSHT_IMAGE,
    PUSHT_KEYPOINTS,
    PUSHT_STATE,
    PushTEnvironment,
    keypoint_features,
    keypoints_in_world,
    mirrored,
    state_features,
)
from onedp.tasks.task import Environment


def simulator_of(env: Environment) -> PushTEnv:
    assert isinstance(env, PushTEnvironment)
    return env._env


def simulator_keypoints(simulator: PushTEnv) -> np.ndarray:
    """What gym-pusht itself returns as ``environment_state``."""
    simulator.obs_type = "environment_state_agent_pos"
    obs = simulator.get_obs()
    simulator.obs_type = "state"
    return obs["environment_state"]


def test_keypoints_are_the_simulators_own() -> None:
    simulator = PushTEnv(obs_type="state")
    rng = np.random.default_rng(0)
    for seed in range(25):
        state, _ = simulator.reset(seed=seed)
        np.testing.assert_allclose(keypoints_in_world(state[None])[0], simulator_keypoints(simulator), atol=1e-9)
        for _ in range(8):
            # towards the block, so that it turns
            state, *_ = simulator.step(state[2:4] + rng.uniform(-80, 80, size=2))
            np.testing.assert_allclose(keypoints_in_world(state[None])[0], simulator_keypoints(simulator), atol=1e-9)


def test_environment_observes_its_own_simulator() -> None:
    for task in (PUSHT_KEYPOINTS, PUSHT_STATE):
        env = task.make_env()
        env.reset(seed=3)
        obs = env.step(np.array([300.0, 200.0])).obs
        simulator = simulator_of(env)
        state = simulator.get_obs()
        np.testing.assert_allclose(obs["agent_pos"], state[:2], rtol=1e-6)
        if task is PUSHT_KEYPOINTS:
            np.testing.assert_allclose(obs["keypoints"], simulator_keypoints(simulator), rtol=1e-6)
        else:
            angle = np.arctan2(obs["block_cos_sin"][1], obs["block_cos_sin"][0])
            assert np.cos(angle - state[4]) == pytest.approx(1, abs=1e-6)
            np.testing.assert_allclose(obs["block_pos"], state[2:4], rtol=1e-6)


def test_agent_goes_to_the_target() -> None:
    env = PUSHT_STATE.make_env()
    env.reset(seed=0)
    for _ in range(30):
        obs = env.step(np.array([60.0, 60.0])).obs
    np.testing.assert_allclose(obs["agent_pos"], [60, 60], atol=1)


def test_reward_and_success_at_the_goal() -> None:
    env = PUSHT_STATE.make_env()
    env.reset(seed=0)
    simulator = simulator_of(env)
    simulator.agent.position = (30, 30)
    simulator.block.angle = float(simulator.goal_pose[2])
    simulator.block.position = simulator.goal_pose[:2].tolist()
    simulator.space.reindex_shapes_for_body(simulator.block)
    result = env.step(np.array([30.0, 30.0]))
    assert result.reward == pytest.approx(1.0)
    assert result.success
    assert result.done


def test_coverage_is_the_simulators_own() -> None:
    original, env = PushTEnv(obs_type="state"), PUSHT_STATE.make_env()
    rng = np.random.default_rng(0)
    for seed in (3, 100004):
        original.reset(seed=seed)
        env.reset(seed=seed)
        for _ in range(20):
            target = original.get_obs()[2:4] + rng.uniform(-50, 50, size=2)
            _, expected, *_ = original.step(target)
            assert env.step(target).reward == pytest.approx(expected, abs=1e-12)


def test_coverage_does_not_depend_on_the_order_of_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would differ from process to process, and with it the last bit of the reward."""

    def shapes(body: pymunk.Body) -> set[pymunk.Shape]:
        pytest.fail("a step read the unordered set of shapes")

    env = PUSHT_STATE.make_env()
    env.reset(seed=0)
    monkeypatch.setattr(pymunk.Body, "shapes", property(shapes))
    env.step(np.array([256.0, 256.0]))


def test_the_target_of_the_episode_before_is_not_drawn() -> None:
    env = PUSHT_STATE.make_env()
    env.reset(seed=0)
    fresh = env.render(96)
    env.step(np.array([400.0, 100.0]))
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(96), fresh)


def test_pictures_have_no_mark_of_the_target() -> None:
    env = PUSHT_IMAGE.make_env()
    before = env.reset(seed=0)
    assert {name: (value.shape, value.dtype) for name, value in before.items()} == {
        "image": ((96, 96, 3), np.dtype(np.uint8)),
        "agent_pos": ((2,), np.dtype(np.float32)),
    }
    after = env.step(before["agent_pos"] + 1.0).obs["image"]  # hardly moves; a mark would be red
    red = (after[..., 0].astype(int) > 200) & (after[..., 1] < 60) & (after[..., 2] < 60)
    assert not red.any()
    shown = env.render(96)
    assert ((shown[..., 0] > 200) & (shown[..., 1] < 60) & (shown[..., 2] < 60)).any()


def test_recorded_and_rendered_pictures_look_the_same(pusht_human: Path) -> None:
    """Restored as the data's README says: angle before position, no velocities."""
    episodes = load_demonstrations(pusht_human / "pusht_cchi_v7_replay.zarr.zip", PUSHT_IMAGE)
    states = open_episodes(pusht_human / "pusht_cchi_v7_replay_lowdim.npz", ("state",)).dense("state")
    env = PUSHT_IMAGE.make_env()
    env.reset(seed=0)
    simulator = simulator_of(env)
    for step in (0, 80, 160, 5000, 15000, 25000):
        agent, block, angle = states[step, :2], states[step, 2:4], states[step, 4]
        simulator.agent.position = agent.tolist()
        simulator.block.angle = float(angle)
        simulator.block.position = block.tolist()
        for body in (simulator.agent, simulator.block):
            simulator.space.reindex_shapes_for_body(body)  # what is drawn is where the shapes were last seen
        assert isinstance(env, PushTEnvironment)
        seen = env._observe(states[step].astype(np.float64))
        recorded = episodes.arrays["image"][np.array([step])][0]
        assert np.abs(seen["image"].astype(int) - recorded).mean() < 0.2  # of 255
        np.testing.assert_array_equal(seen["agent_pos"], episodes.dense("agent_pos")[step])


def test_missing_simulator_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym_pusht.envs.pusht", None)
    with pytest.raises(
        OneDPError, match=r"Push-T simulator cannot be imported .*pip install 'onedp\[pusht\]'.*apt-get"
    ):
        PUSHT_KEYPOINTS.make_env()


# --- the real data


def test_keypoints_of_the_real_data(pusht_human: Path) -> None:
    """Derived from the recorded state: where the simulator has them, not where the recorded array does."""
    data = open_episodes(pusht_human / "pusht_cchi_v7_replay_lowdim.npz", ("state", "keypoint"))
    keypoints = keypoint_features({"state": data.dense("state")})["keypoints"]
    assert keypoints.shape == (25650, 16)
    simulator = PushTEnv(obs_type="state")
    simulator.reset(seed=0)
    for step in range(0, 25650, 2000):
        state = data.dense("state")[step].astype(float)
        simulator.block.angle = float(state[4])
        simulator.block.position = state[2:4].tolist()
        np.testing.assert_allclose(keypoints[step], simulator_keypoints(simulator), atol=1e-3)
    # The nine recorded points lie on the same T: inside the hull of the eight, up to its thickness.
    offset = data.dense("keypoint").mean(axis=1) - keypoints.reshape(-1, 8, 2).mean(axis=1)
    assert np.abs(offset).max() < 40


def placed(env: Environment, state: np.ndarray) -> PushTEnv:
    """The simulator of ``env`` with agent and block at rest in ``state``."""
    simulator = simulator_of(env)
    env.reset(seed=0)
    simulator.agent.position, simulator.agent.velocity = tuple(state[:2]), (0, 0)
    simulator.block.angle, simulator.block.position = state[4], tuple(state[2:4])
    simulator.block.velocity, simulator.block.angular_velocity = (0, 0), 0
    for body in (simulator.block, simulator.agent):
        simulator.space.reindex_shapes_for_body(body)
    return simulator


def test_physics_and_reward_are_the_same_in_the_mirror() -> None:
    """A push and its mirror image in two simulators: the T moves and turns, and ends in mirrored places."""
    env, other = PUSHT_STATE.make_env(), PUSHT_STATE.make_env()
    state = np.array([150.0, 230.0, 250.0, 250.0, 0.9])
    simulator, image = placed(env, state), placed(other, mirrored({"state": state[None]})["state"][0])
    rewards = []
    for target in ([300.0, 240.0], [180.0, 300.0], [330.0, 330.0]):
        for _ in range(8):
            both = mirrored({"state": simulator.get_obs()[None], "action": np.array([target])})
            result, reflected = env.step(np.array(target)), other.step(both["action"][0])
            rewards.append(result.reward)
            assert reflected.reward == pytest.approx(result.reward, abs=1e-6)
            np.testing.assert_allclose(
                keypoints_in_world(mirrored({"state": simulator.get_obs()[None]})["state"]),
                keypoints_in_world(image.get_obs()[None]),
                atol=1e-3,
            )
    assert np.ptp(rewards) > 0.05  # the T was pushed


def test_a_mirrored_picture_is_the_picture_of_the_mirrored_state() -> None:
    env = PUSHT_IMAGE.make_env()
    state = np.array([150.0, 330.0, 180.0, 250.0, 0.9])
    image = mirrored({"state": state[None]})["state"][0]
    rest = np.array([150.0, 330.0]), image[:2]
    seen = []
    for where, action in zip((state, image), rest, strict=True):
        placed(env, where)
        seen.append(env.step(action).obs["image"].astype(int))
    reflected = mirrored({"state": state[None], "img": seen[0][None]})["img"][0]
    away = np.abs(reflected - seen[1]).max(axis=2) > 40
    assert away.mean() < 0.01  # edges are drawn a little differently
    assert (np.abs(seen[0] - seen[1]).max(axis=2) > 40).mean() > 0.03
    lazy = LazyArray((1, 96, 96, 3), np.dtype(np.uint8), lambda rows: seen[0][None][rows].astype(np.uint8))
    np.testing.assert_array_equal(mirrored({"state": state[None], "img": lazy})["img"][:][0], reflected)


def test_mirrored_twice_is_the_original() -> None:
    rng = np.random.default_rng(0)
    numbers = {"state": rng.uniform(0, 512, (5, 5)), "action": rng.uniform(0, 512, (5, 2))}
    arrays = {**numbers, "img": rng.integers(0, 256, (5, 8, 8, 3))}
    again = mirrored(mirrored(arrays))
    for name, values in arrays.items():
        np.testing.assert_allclose(again[name], values)


def test_an_episode_can_begin_at_any_state() -> None:
    env = PushTEnvironment(state_features)
    env.reset(3)
    env.step(np.array([400.0, 100.0]))
    start = np.array([222.0, 97.0, 222.0, 381.0, 3.0])
    obs = env.reset_to(start, seed=0)
    np.testing.assert_allclose(env.raw_state(), start, atol=1e-9)
    np.testing.assert_allclose(obs["agent_pos"], start[:2], rtol=1e-6)
    np.testing.assert_allclose(obs["block_pos"], start[2:4], rtol=1e-6)
    stayed = env.step(start[:2])
    np.testing.assert_allclose(env.raw_state(), start, atol=0.1)
    assert not stayed.success
