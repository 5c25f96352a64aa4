"""Lift with two ways: the cube stands between them, both work, and the episode says which one it went."""

from __future__ import annotations

import numpy as np
import pytest

from onedp.collect.arm import yaw_of
from onedp.tasks import TASKS
from onedp.tasks.robosuite_object import gripper_yaw, standing
from onedp.tasks.robosuite_ways import WAY_RAD, Lift45Environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.robosuite,
]


def lift_45() -> Lift45Environment:
    env = TASKS["lift-45"].make_env()
    assert isinstance(env, Lift45Environment)
    return env


def test_the_cube_stands_between_the_two_ways() -> None:
    env = lift_45()
    for seed in (0, 1, 100_000):
        obs = env.reset(seed)
        simulation = env.simulator.sim
        rotation = simulation.data.body_xmat[simulation.model.body_name2id("cube_main")].reshape(3, 3)
        assert yaw_of(rotation) == pytest.approx(WAY_RAD)
        np.testing.assert_allclose(obs["object"][3:7], [0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)], atol=1e-6)
        assert abs(gripper_yaw(env.gripper[1])) < 0.1
        assert env.grasp_yaw is None
    np.testing.assert_allclose(standing(np.zeros(3), 0.0), [0, 0, 0, 1, 0, 0, 0])


def test_the_expert_goes_both_ways_and_both_succeed() -> None:
    from onedp.collect.episode import collect_episode
    from onedp.collect.experts import get_expert

    task, scripted, env = TASKS["lift-45"], get_expert("lift-45"), lift_45()
    expert = scripted.make(env)
    yaws = []
    for seed in range(6):
        demonstration = collect_episode(task, scripted, env, expert, seed, 1.0)
        assert demonstration is not None
        assert env.grasp_yaw is not None
        yaws.append(env.grasp_yaw)
        assert demonstration.attributes["way"] == ("left" if env.grasp_yaw > 0 else "right")
    np.testing.assert_allclose(np.abs(yaws), WAY_RAD, atol=0.25)
    assert {float(sign) for sign in np.sign(yaws)} == {-1.0, 1.0}
