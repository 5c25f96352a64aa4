from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from onedp.collect import experts
from onedp.collect.arm import down, nearest_turn, rotation_vector, shortened, yaw_of
from onedp.collect.episode import collect_episode
from onedp.tasks import TASKS
from onedp.tasks.robosuite_object import gripper_yaw


@pytest.mark.parametrize("yaw", [-2.0, -0.3, 0.0, 1.1])
def test_a_gripper_that_points_down(yaw: float) -> None:
    rotation = down(yaw)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation[:, 2], [0, 0, -1])
    assert gripper_yaw(rotation) == pytest.approx(yaw)
    np.testing.assert_allclose(rotation_vector(rotation @ down(0.0).T), [0, 0, yaw], atol=1e-9)


def test_turns_and_lengths() -> None:
    assert nearest_turn(3.0, 0.0, np.pi) == pytest.approx(3.0 - np.pi)
    assert nearest_turn(0.2, 0.0, np.pi / 2) == pytest.approx(0.2)
    assert yaw_of(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])) == pytest.approx(np.pi / 2)
    np.testing.assert_allclose(shortened(np.array([3.0, 4.0]), 1.0), [0.6, 0.8])
    np.testing.assert_allclose(shortened(np.array([0.3, 0.4]), 1.0), [0.3, 0.4])


LIFTS = ["lift", "lift-moving", "lift-45", "pose-reset"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LIFTS, "can", "pnp-milk", "square", "metaworld-push", "metaworld-drawer-open"])
def test_expert_succeeds_with_noise(name: str) -> None:
    simulator = "metaworld" if name.startswith("metaworld") else "robosuite"
    if importlib.util.find_spec(simulator) is None:
        pytest.skip(f"the simulator {simulator} is not installed: make simulators")
    task, scripted = TASKS[name], experts.EXPERTS[name]
    env = task.make_env()
    expert = scripted.make(env)
    demonstrations = [collect_episode(task, scripted, env, expert, seed, 1.0) for seed in (1, 2)]
    assert any(demonstrations)
    for demonstration in filter(None, demonstrations):
        assert demonstration.rewards[-1] == 1.0
        assert set(demonstration.observations) == {field.name for field in task.spec.observations}
