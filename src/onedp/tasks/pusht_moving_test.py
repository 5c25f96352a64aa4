"""Push-T that does not wait: what happens to the T, that it repeats, and what the faster control rate changes."""

from __future__ import annotations

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.tasks import get_task
from onedp.tasks.pusht import PUSHT_KEYPOINTS, WORKSPACE_PX, PushTEnvironment
from onedp.tasks.pusht_moving import (
    CLEARANCE_PX,
    CONTROL_HZ,
    LONGEST_NUDGE_PX,
    DriftEnvironment,
    ResetEnvironment,
)

CORNER = np.array([20.0, 20.0])


def env_of(name: str) -> DriftEnvironment | ResetEnvironment:
    env = get_task(name).make_env()
    assert isinstance(env, DriftEnvironment | ResetEnvironment)
    return env


def block_path(name: str, seed: int, ticks: int, action: np.ndarray = CORNER) -> np.ndarray:
    """Positions of the T after each tick, from the start on, while the disc goes to ``action``."""
    env = env_of(name)
    env.reset(seed)
    path = [env.block_position]
    for _ in range(ticks):
        env.step(action)
        path.append(env.block_position)
    return np.array(path)


def test_five_ticks_are_one_step_of_the_task_that_waits() -> None:
    slow, fast = PUSHT_KEYPOINTS.make_env(), env_of("pusht-drift@speed=0")
    rng = np.random.default_rng(0)
    for seed in (0, 100003):
        first, second = slow.reset(seed), fast.reset(seed)
        for _ in range(10):
            for name in first:
                np.testing.assert_array_equal(first[name], second[name])
            assert isinstance(slow, PushTEnvironment)
            target = slow.block_position + rng.uniform(-60, 60, 2)
            result = slow.step(target)
            ticks = [fast.step(target) for _ in range(5)]
            assert ticks[-1].reward == result.reward
            first, second = result.obs, ticks[-1].obs


def test_the_t_slides_at_its_speed_and_turns_at_the_walls() -> None:
    path = block_path("pusht-drift@speed=40", seed=3, ticks=1200)
    steps = np.diff(path, axis=0)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 40 / CONTROL_HZ, rtol=1e-6)
    assert len(np.unique(np.round(steps, 6), axis=0)) > 1  # it turned
    assert path.min() > 90
    assert path.max() < 422


def test_directions_are_the_episodes_own_and_repeat() -> None:
    paths = {seed: block_path("pusht-drift", seed, ticks=50) for seed in range(4)}
    np.testing.assert_array_equal(paths[2], block_path("pusht-drift", 2, ticks=50))
    headings = {tuple(np.round(path[1] - path[0], 3)) for path in paths.values()}
    assert len(headings) == 4


def test_nudges_never_push_the_t_out() -> None:
    longest = f"pusht-drift@speed=0,nudge={LONGEST_NUDGE_PX},every=0.2"
    for seed in range(3):
        path = block_path(longest, seed, ticks=300)
        assert np.abs(np.diff(path, axis=0)).max() > 50  # it was nudged
        assert path.min() > 0
        assert path.max() < WORKSPACE_PX
    with pytest.raises(OneDPError, match="a nudge of 0 to 126 px"):
        get_task("pusht-drift@nudge=2000")


def test_nudges_come_at_random_times() -> None:
    path = block_path("pusht-drift@speed=0,nudge=25,every=1", seed=5, ticks=1000)
    moved = np.linalg.norm(np.diff(path, axis=0), axis=1)
    np.testing.assert_allclose(moved[moved > 0], 25, rtol=1e-6)
    assert 8 <= (moved > 0).sum() <= 40  # 20 are expected
    assert path.min() > 90
    assert path.max() < 422


def test_the_t_is_put_elsewhere_once_and_only_then_it_counts() -> None:
    env = env_of("pusht-reset@earliest=0.1,latest=0.5,after=0.4")
    moments = set()
    for seed in range(5):
        env.reset(seed)
        changed, rewards, done = [], [], False
        while not done:
            before = env.block_position
            result = env.step(CORNER)
            rewards.append(result.reward)
            changed.append(np.linalg.norm(env.block_position - before) > 30)  # more than the disc can push
            done = result.done
            if changed[-1]:
                assert np.linalg.norm(env.block_position - env.agent_position) > CLEARANCE_PX - 60
        (tick,) = np.flatnonzero(changed)
        assert rewards[:tick] == [0.0] * tick
        assert len(rewards) == tick + 20  # 0.4 s
        moments.add(int(tick))
    assert all(5 <= tick <= 25 for tick in moments)
    assert len(moments) > 1


def test_success_before_the_change_does_not_end_the_episode() -> None:
    env = env_of("pusht-reset@earliest=0.2,latest=0.2,after=1")
    env.reset(0)
    env.put_block(np.array([256.0, 256.0]), np.pi / 4)
    assert [env.step(CORNER).success for _ in range(10)] == [False] * 10
    env.step(CORNER)
    env.put_block(np.array([256.0, 256.0]), np.pi / 4)
    assert env.step(CORNER).done


def test_options_belong_to_the_name() -> None:
    task = get_task("pusht-drift@speed=20,limit=12")
    assert task.name == "pusht-drift@speed=20,limit=12"
    assert (task.max_steps, task.control_hz, task.spec) == (600, 50.0, PUSHT_KEYPOINTS.spec)
    assert get_task("pusht-reset").max_steps == 50 * 23
    assert task.rest_action is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pusht-drift@sped=3", "Unknown option of pusht-drift 'sped'. Did you mean 'speed'"),
        ("pusht-drift@speed=fast", "The option 'speed=fast' of pusht-drift is no number"),
        ("pusht-drift@speed=-1", "needs a speed of 0 to 1000 px/s"),
        ("pusht-drift@speed=8000", "needs a speed of 0 to 1000 px/s"),
        ("pusht-reset@earliest=9", "needs 0 < earliest <= latest"),
        ("pusht-reset@speed=1", "Unknown option of pusht-reset 'speed'"),
    ],
)
def test_wrong_options_are_named(name: str, message: str) -> None:
    with pytest.raises(OneDPError, match=message):
        get_task(name)
