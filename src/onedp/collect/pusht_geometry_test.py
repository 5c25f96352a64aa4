from __future__ import annotations

import numpy as np
import pytest
from gym_pusht.envs import PushTEnv

from onedp.collect.pusht_geometry import (
    DISC_RADIUS_PX,
    WalkingMap,
    contact_points,
    distance_to_t,
    is_free,
    to_frame,
    to_world,
)
from onedp.collect.pusht_planner import GOAL, Imagination, Push, pose_error
from onedp.tasks.pusht import PUSHT_STATE, PushTEnvironment

POSE = np.array([230.0, 260.0, 0.7])


def test_frames_invert_each_other() -> None:
    points = np.random.default_rng(0).uniform(0, 512, (20, 2))
    np.testing.assert_allclose(to_world(to_frame(points, POSE), POSE), points)


def test_distance_is_the_simulators() -> None:
    simulator = PushTEnv(obs_type="state")
    simulator.reset(seed=0)
    simulator.block.angle, simulator.block.position = float(POSE[2]), tuple(POSE[:2])
    simulator.space.reindex_shapes_for_body(simulator.block)
    points = np.random.default_rng(0).uniform(0, 512, (100, 2))
    expected = [min(s.point_query(tuple(p)).distance for s in simulator._block_shapes) for p in points]
    np.testing.assert_allclose(distance_to_t(points, POSE), np.maximum(expected, 0), atol=1e-3)


def test_contact_points_are_on_the_edge_and_directions_go_in() -> None:
    points, inwards = contact_points(200, POSE, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(inwards, axis=1), 1)
    assert distance_to_t(points, POSE).max() < 1e-6
    assert (distance_to_t(points + 2 * inwards, POSE) == 0).all()
    outside = distance_to_t(points - 2 * inwards, POSE)
    assert outside.max() < 2 + 1e-6  # in a corner another edge may be nearer
    assert np.isclose(outside, 2).mean() > 0.95


def test_ways_go_round_the_t() -> None:
    start, goal = np.array([60.0, 100.0]), np.array([400.0, 420.0])
    walking = WalkingMap(start, POSE)
    way = walking.way(goal)
    np.testing.assert_array_equal(way[-1], goal)
    assert len(way) > 1  # the T is on the straight line
    for a, b in zip([start, *way[:-1]], way, strict=True):
        line = a + np.linspace(0, 1, 50)[:, None] * (b - a)
        assert is_free(line, POSE, 0.0).all()
    assert np.linalg.norm(goal - start) < walking.length(goal) < 2 * np.linalg.norm(goal - start)
    assert walking.length(POSE[:2]) == np.inf  # inside the T


def test_error_of_poses() -> None:
    assert pose_error(GOAL) == pytest.approx(0)
    assert pose_error(GOAL + np.array([3, 4, 0])) == pytest.approx(5)
    assert pose_error(GOAL + np.array([0, 0, 2 * np.pi])) == pytest.approx(0, abs=1e-9)


def test_imagined_push_is_what_happens() -> None:
    env = PUSHT_STATE.make_env()
    assert isinstance(env, PushTEnvironment)
    env.reset(seed=0)
    simulator = env._env
    contact, inwards = contact_points(1, POSE, np.random.default_rng(3))
    push = Push(contact[0] - inwards[0] * (DISC_RADIUS_PX + 6), inwards[0] * 8, 6)
    simulator.agent.position, simulator.agent.velocity = tuple(push.start), (0, 0)
    simulator.block.angle, simulator.block.position = float(POSE[2]), tuple(POSE[:2])
    for body in (simulator.block, simulator.agent):
        simulator.space.reindex_shapes_for_body(body)
    errors = []
    for target in push.targets():
        env.step(target)
        errors.append(pose_error(env.raw_state()[2:]))
    np.testing.assert_allclose(Imagination().errors(POSE, push), errors, atol=0.5)
    assert abs(errors[-1] - pose_error(POSE)) > 3  # the T was pushed
