"""The cube that does not wait: how it slides, what stops it, and what a robot with deltas does while it waits."""

from __future__ import annotations

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.tasks import TASKS, get_task
from onedp.tasks.robosuite import RATE_HZ, hold
from onedp.tasks.robosuite_moving import CLEARANCE_M, TURN_AT_M, LiftMovingEnvironment, PoseResetEnvironment

STILL = np.zeros(7, dtype=np.float32)
UP = np.array([0, 0, 0.3, 0, 0, 0, 0])
SETTLED = 10
"""Ticks after which the cube, which starts a little above the table as Lift's does, has come to rest."""


def env_of(name: str) -> LiftMovingEnvironment:
    env = get_task(name).make_env()
    assert isinstance(env, LiftMovingEnvironment)
    return env


def cube(env: LiftMovingEnvironment) -> np.ndarray:
    """Where the cube is in the simulation itself [m]."""
    simulation = env.simulator.sim
    return np.array(simulation.data.body_xpos[simulation.model.body_name2id("cube_main")])


def cube_path(env: LiftMovingEnvironment, seed: int, ticks: int) -> np.ndarray:
    """Positions (ticks + 1, 3) as observed, while the arm rests."""
    path = [env.reset(seed)["object"][:3]]
    path += [env.step(STILL).obs["object"][:3] for _ in range(ticks)]
    return np.array(path)


def test_waiting_with_deltas_is_no_movement() -> None:
    last = np.array([0.5, -0.5, 1, 0.1, 0.2, 0.3, 1], dtype=np.float32)
    np.testing.assert_array_equal(hold(last), [0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(hold(np.concatenate([last, -last]))[[6, 13]], [1, -1])
    task = TASKS["lift-moving"]
    assert task.rest_action is not None
    np.testing.assert_array_equal(task.rest_action({}), STILL)
    assert task.hold_action is hold


@pytest.mark.parametrize(
    "options", ["speed=-0.1", "speed=2", "speed=0.04,slowest=0.05", "limit=0"], ids=["back", "fast", "slowest", "limit"]
)
def test_options_that_cannot_be_meant(options: str) -> None:
    with pytest.raises(OneDPError, match="lift-moving needs a speed of 0 to 1 m/s, slowest at most speed and limit"):
        get_task(f"lift-moving@{options}")


def test_a_policy_of_lift_fits() -> None:
    moving, lift = get_task("lift-moving@speed=0.08").spec, TASKS["lift"].spec
    assert (moving.observations, moving.action, moving.rate_hz) == (lift.observations, lift.action, lift.rate_hz)
    assert moving.chunk_length > 14 + moving.n_action_steps  # 14 ticks: DDPM-100 of the paper


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_cube_slides_at_its_speed_along_y_and_turns_back() -> None:
    env = env_of("lift-moving@speed=0.1")
    path = cube_path(env, seed=1, ticks=160)
    steps = np.diff(path[SETTLED:], axis=0) * RATE_HZ
    turns = np.flatnonzero(np.diff(np.sign(steps[:, 1]))) + 1
    np.testing.assert_allclose(np.abs(np.delete(steps, turns, axis=0)[:, 1]), 0.1, rtol=0.01)
    np.testing.assert_allclose(np.abs(steps[turns, 1]), 0.1, rtol=0.1)  # it is seen where it is now, not 4 ms ago
    np.testing.assert_allclose(steps[:, [0, 2]], 0, atol=2e-3)
    assert 1 <= len(turns) <= 3  # in 8 s it went 0.8 m, on a way of 0.3 m
    assert TURN_AT_M < np.abs(path[:, 1]).max() < TURN_AT_M + 0.1 / RATE_HZ + 1e-3


@pytest.mark.slow
@pytest.mark.robosuite
def test_where_and_which_way_is_the_episodes_own_and_the_rest_is_lifts() -> None:
    env = env_of("lift-moving@speed=0.08")
    paths = {seed: cube_path(env, seed, ticks=6) for seed in range(6)}
    np.testing.assert_array_equal(paths[3], cube_path(env_of("lift-moving@speed=0.08"), 3, ticks=6))
    assert len({float(path[0, 1]) for path in paths.values()}) == 6
    assert {float(np.sign(path[-1, 1] - path[2, 1])) for path in paths.values()} == {-1.0, 1.0}
    lift, still = TASKS["lift"].make_env(), env_of("lift-moving@speed=0")
    one, other = lift.reset(4), still.reset(4)
    np.testing.assert_allclose(one["object"][[0, 2, 3, 4, 5, 6]], other["object"][[0, 2, 3, 4, 5, 6]], atol=1e-6)
    np.testing.assert_array_equal(one["robot0_eef_pos"], other["robot0_eef_pos"])
    path = cube_path(still, seed=4, ticks=40)
    np.testing.assert_allclose(path[SETTLED:], path[-1:].repeat(len(path) - SETTLED, 0), atol=1e-4)
    speeds = []
    varied = env_of("lift-moving@speed=0.1,slowest=0")
    for seed in range(5):
        path = cube_path(varied, seed, ticks=6)
        speeds.append(abs(path[-1, 1] - path[-2, 1]) * RATE_HZ)
    assert max(speeds) < 0.101
    assert np.ptp(speeds) > 0.02


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_cube_ahead_is_where_it_will_be() -> None:
    env = env_of("lift-moving@speed=0.1")
    env.reset(2)
    for _ in range(60):  # through a turn
        expected = env.y_ahead(1 / RATE_HZ)
        env.step(STILL)
        assert abs(cube(env)[1] - expected) < 0.006
    later = env.y_ahead(1.0)
    for _ in range(20):
        env.step(STILL)
    assert abs(cube(env)[1] - later) < 0.01


@pytest.mark.slow
@pytest.mark.robosuite
def test_a_cube_in_the_hand_or_in_the_air_is_not_driven() -> None:
    from onedp.collect import experts

    env = env_of("lift-moving@speed=0.08")
    expert = experts.get_expert("lift-moving@speed=0.08").make(env)
    env.reset(0)
    expert.start(np.random.default_rng(0))
    for _ in range(SETTLED):
        result = env.step(expert.act())
    assert env.drives
    held: list[np.ndarray] = []
    for _ in range(100):
        if result.done:
            break
        result = env.step(expert.act())
        if not env.drives:
            held.append(cube(env))
    assert result.success
    assert len(held) > 3
    assert np.ptp(np.array(held)[-4:, 1]) < 0.01  # at 0.08 m/s it would have gone on by 0.012
    env.reset(0)
    pose = env.object_pose
    env.put_object(np.array([*pose[:2], pose[2] + 0.02, *pose[3:]]))
    assert not env.drives
    assert env.y_ahead(1.0) == pytest.approx(pose[1])


@pytest.mark.slow
@pytest.mark.robosuite
def test_an_expert_that_does_not_look_ahead_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task needs what the expert does: the same one that steers to where the cube is takes longer or fails."""
    from onedp.collect import experts, robosuite_experts
    from onedp.collect.episode import collect_episode

    name = "lift-moving@speed=0.1,limit=4"
    task, scripted = get_task(name), experts.get_expert(name)
    env = task.make_env()
    expert = scripted.make(env)
    seeds = range(90_000, 90_004)
    assert all(collect_episode(task, scripted, env, expert, seed, 1.0) for seed in seeds)
    monkeypatch.setattr(robosuite_experts, "ARM_LAG_S", 0.0)
    assert not any(collect_episode(task, scripted, env, expert, seed, 0.0) for seed in seeds)


@pytest.mark.slow
@pytest.mark.robosuite
def test_the_cube_is_put_elsewhere_once_and_only_then_it_counts() -> None:
    env = get_task("pose-reset@earliest=0.1,latest=0.5,after=0.5").make_env()
    assert isinstance(env, PoseResetEnvironment)
    moments = []
    for seed in range(4):
        path = [env.reset(seed)["object"][:2]]
        done = False
        while not done:
            gripper = env.gripper[0]
            result = env.step(STILL)
            path.append(result.obs["object"][:2])
            done = result.done
            if np.linalg.norm(path[-1] - path[-2]) > 0.02:
                assert np.linalg.norm(path[-1] - path[-2]) > CLEARANCE_M - 0.01
                assert np.linalg.norm(path[-1] - gripper[:2]) > CLEARANCE_M - 0.01
        moved = np.flatnonzero(np.linalg.norm(np.diff(path, axis=0), axis=1) > 0.02)
        assert len(moved) == 1
        assert len(path) - 1 == moved[0] + 10
        moments.append(int(moved[0]))
    assert all(2 <= moment <= 10 for moment in moments)
    assert len(set(moments)) > 1


@pytest.mark.slow
@pytest.mark.robosuite
def test_lifting_before_the_change_is_no_success() -> None:
    env = get_task("pose-reset@earliest=0.2,latest=0.2").make_env()
    assert isinstance(env, PoseResetEnvironment)
    env.reset(0)
    env.put_object(env.object_pose + UP)
    assert [env.step(STILL).reward for _ in range(3)] == [0.0] * 3
    env.step(STILL)
    env.step(STILL)
    env.put_object(env.object_pose + UP)
    result = env.step(STILL)
    assert (result.reward, result.success, result.done) == (1.0, True, True)


def test_options_of_a_reset_that_cannot_be_meant() -> None:
    with pytest.raises(OneDPError, match="pose-reset needs 0 < earliest <= latest"):
        get_task("pose-reset@earliest=2")
