"""The carton that runs away: when, how far, where, and that an expert still gets it."""

from __future__ import annotations

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.tasks import get_task
from onedp.tasks.robosuite_paths import PATHS, REACH_M, MilkMove, MilkMoveEnvironment


def test_options_that_cannot_be_meant() -> None:
    with pytest.raises(OneDPError, match="pnp-milk-move needs near, length and limit above 0 and a speed up to 1 m/s"):
        get_task("pnp-milk-move@speed=0")
    assert get_task("pnp-milk-move@limit=10").max_steps == 200


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_carton_runs_away_once_when_the_gripper_comes_near_and_is_still_brought_home() -> None:
    from onedp.collect.experts import get_expert

    task = get_task("pnp-milk-move")
    env = task.make_env()
    assert isinstance(env, MilkMoveEnvironment)
    expert = get_expert("pnp-milk-move").make(env)
    paths, successes = set(), 0
    for seed in range(4):
        obs = env.reset(seed)
        expert.start(np.random.default_rng(seed))
        paths.add(env.path)
        np.testing.assert_allclose(obs["object"][7:10], env.object_pose[:3], atol=1e-6)
        assert np.abs(obs["object"][:3]).max() > 0.01  # the first observation knows where the carton is too
        moved = np.zeros(2)
        for _ in range(task.max_steps):
            before, near = env.object_pose[:2], np.linalg.norm(env.gripper[0][:2] - env.object_pose[:2]) < 0.12
            result = env.step(expert.act())
            if not near and not moved.any():
                np.testing.assert_allclose(env.object_pose[:2], before, atol=2e-3)  # it settles
            elif not env.held and env.object_pose[2] < 0.9:
                moved += np.abs(env.object_pose[:2] - before)
            if result.done:
                break
        successes += result.success
        assert 0.05 < np.linalg.norm(moved) < 0.2
    assert len(paths) > 1
    assert paths <= set(range(PATHS))
    assert successes >= 3


@pytest.mark.slow
@pytest.mark.robosuite
def test_no_path_leads_out_of_the_arms_reach() -> None:
    env = MilkMoveEnvironment(MilkMove())

    def distance() -> float:
        return float(np.linalg.norm(env.object_pose[:2] - env.base))

    turned = 0
    for seed in [
        *range(62),
        107,
        442,
    ]:  # of these 55, 59, 60, 107 and 442 begin between a wall and the end of the reach
        env.reset(seed)
        start, direction, left, turns = distance(), env._direction, 0.1, 0
        farthest = start
        while left > 1e-9:
            left = env._go_on(left)
            farthest = max(farthest, distance())
            turns += (env._direction != direction).any()
            direction = env._direction
        assert farthest < max(start, REACH_M) + 0.006
        assert turns <= 3  # it does not tremble
        turned += turns > 0
    assert turned >= 5


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_expert_comes_away_from_where_the_arm_was_stretched() -> None:
    """Start 9 is 0.81 m from the base: the path led further, and the elbow never bent again."""
    from onedp.collect.experts import get_expert

    task = get_task("pnp-milk-move")
    env = task.make_env()
    expert = get_expert("pnp-milk-move").make(env)
    env.reset(9)
    expert.start(np.random.default_rng(9))
    assert any(env.step(expert.act()).success for _ in range(task.max_steps))
