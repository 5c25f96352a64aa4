"""The hand: it stays inside the walls, has a speed, and leaves the physics sound."""

from __future__ import annotations

import numpy as np

from onedp.live.drag import HAND_SPEED_PX, HAND_TURN_RAD, WALL_PX, inside_walls, moved_towards, pull
from onedp.live.tasks import live_task
from onedp.tasks.pusht import WORKSPACE_PX, PushTEnvironment, keypoints_in_world


def corners(pose: np.ndarray) -> np.ndarray:
    return keypoints_in_world(np.array([[0, 0, *pose]], dtype=np.float64)).reshape(8, 2)


def test_every_pose_becomes_one_between_the_walls() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        pose = np.array([*rng.uniform(-600, 1100, 2), rng.uniform(-7, 7)])
        inside = inside_walls(pose)
        assert corners(inside).min() >= WALL_PX - 1e-9
        assert corners(inside).max() <= WORKSPACE_PX - WALL_PX + 1e-9
        assert inside[2] == pose[2]
        np.testing.assert_allclose(inside_walls(inside), inside, atol=1e-9)


def test_the_middle_is_left_as_it_is() -> None:
    pose = np.array([256.0, 250.0, 0.3])
    np.testing.assert_array_equal(inside_walls(pose), pose)


def test_a_hand_has_a_speed_and_arrives() -> None:
    start, target = np.array([200.0, 200.0, 0.1]), np.array([300.0, 200.0, 0.1])
    after = moved_towards(start, target, 0.02)
    np.testing.assert_allclose(after, [200 + HAND_SPEED_PX * 0.02, 200, 0.1])
    np.testing.assert_allclose(moved_towards(start, target, 1.0), target)


def test_a_hand_turns_the_short_way_round() -> None:
    start, target = np.array([256.0, 256.0, 0.2]), np.array([256.0, 256.0, 2 * np.pi - 0.2])
    after = moved_towards(start, target, 0.02)
    np.testing.assert_allclose(after[2], 0.2 - HAND_TURN_RAD * 0.02)
    np.testing.assert_allclose(np.cos(moved_towards(start, target, 1.0)[2]), np.cos(target[2]))


def test_a_t_dropped_onto_the_agent_is_pushed_off_it_and_stays_inside() -> None:
    env = live_task("pusht-keypoints").make_env()
    assert isinstance(env, PushTEnvironment)
    env.reset(0)
    agent = env.agent_position
    for _ in range(100):
        pull(env, np.array([*agent, 1.0]), 0.02)
        env.step(agent)
    for _ in range(100):
        env.step(agent)
    state = env.raw_state()
    assert np.isfinite(state).all()
    assert corners(state[2:]).min() > 0
    assert corners(state[2:]).max() < WORKSPACE_PX
    before = state[2:].copy()
    env.step(agent)
    np.testing.assert_allclose(env.raw_state()[2:], before, atol=0.5)  # it rests
