"""The table of tasks, and the contract that every task of the table keeps."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.observations import check_observation
from onedp.tasks import TASKS, get_task
from onedp.tasks.task import Task
from onedp.types import FieldSpec

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def with_marks(task: Task) -> Any:
    """The task for a test that runs its simulator: skipped when that is not installed, slow when it is large."""
    make: Any = task.make_env
    simulator = getattr(make, "func", make).__module__.rsplit(".", 1)[-1].partition("_")[0]
    if simulator not in ("robosuite", "metaworld"):
        return task
    missing = importlib.util.find_spec(simulator) is None
    reason = f"the simulator {simulator} is not installed: make simulators"
    return pytest.param(task, marks=[pytest.mark.slow, pytest.mark.skipif(missing, reason=reason)])


PICTURED = ("pusht-image", "lift-image", "transport-image")
"""Image forms that are simulated here: the others are the same wrapper around what is simulated without pictures."""
SIMULATED = [task for name, task in TASKS.items() if not name.endswith("-image") or name in PICTURED]
every_simulation = pytest.mark.parametrize("task", [with_marks(task) for task in SIMULATED], ids=lambda task: task.name)


def test_names_of_the_table_are_those_of_the_tasks() -> None:
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    assert {"pusht-keypoints", "pusht-state"} <= set(TASKS)
    assert get_task("pusht-state") is TASKS["pusht-state"]


def test_unknown_task() -> None:
    with pytest.raises(
        OneDPError, match=r"Unknown task 'pusht-keypoint'. Did you mean 'pusht-keypoints'\? Valid: .*"
    ) as e:
        get_task("pusht-keypoint")
    assert "A task of your own is given as my_module:my_task." in str(e.value)


def test_task_from_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    (tmp_path / "tasks_of_mine.py").write_text(
        "import dataclasses\nfrom onedp.tasks import TASKS\n"
        "mine = dataclasses.replace(TASKS['pusht-state'], name='mine')\nnumber = 3\n"
    )
    (tmp_path / "broken_tasks.py").write_text("1 / 0\n")
    assert get_task("tasks_of_mine:mine").name == "mine"
    with pytest.raises(OneDPError, match=r"'tasks_of_mine:number' is a int, expected an onedp.tasks.Task"):
        get_task("tasks_of_mine:number")
    with pytest.raises(OneDPError, match=r"cannot be imported \(AttributeError: .*'yours'.*Expected module:attribute"):
        get_task("tasks_of_mine:yours")
    with pytest.raises(OneDPError, match=r"cannot be imported \(ModuleNotFoundError: No module named 'not_there'\)"):
        get_task("not_there:task")
    with pytest.raises(OneDPError, match=r"cannot be imported \(ZeroDivisionError"):
        get_task("broken_tasks:task")
    with pytest.raises(OneDPError, match=r"cannot be imported \(ValueError"):
        get_task(":task")


def test_raw_fields_must_be_raw_arrays() -> None:
    with pytest.raises(
        OneDPError, match=r"Task 'pusht-state': raw_fields \['pose'\] are not in raw_arrays \('state',\)"
    ):
        dataclasses.replace(TASKS["pusht-state"], raw_fields=(FieldSpec("pose", (3,), "m"),))


@every_task
def test_features_give_the_fields_of_the_spec(task: Task) -> None:
    rng = np.random.default_rng(0)
    raw = {
        field.name: field.fake((5, *field.shape), rng) if field.is_image else rng.normal(size=(5, *field.shape))
        for field in task.raw_fields
    }
    action = rng.normal(size=(5, *task.spec.action.shape))
    observations = {field.name: (5, *field.shape) for field in task.spec.observations}
    assert {name: values.shape for name, values in task.features(raw).items()} == observations
    both = task.features({**raw, task.spec.action.name: action})
    assert {name: values.shape for name, values in both.items()} == {**observations, "action": action.shape}
    fields = (*task.spec.observations, task.spec.action)
    assert {name: values.dtype.name for name, values in both.items()} == {field.name: field.dtype for field in fields}


@every_simulation
def test_environment_gives_the_observations_of_the_spec(task: Task) -> None:
    env = task.make_env()
    expected = {field.name: (field.shape, field.dtype) for field in task.spec.observations}
    middle = (np.array(task.spec.action_low) + np.array(task.spec.action_high)) / 2
    for obs in (env.reset(seed=1), env.step(middle).obs):
        assert {name: (values.shape, values.dtype) for name, values in obs.items()} == expected
        check_observation(
            task.spec, {name: values[None, None].repeat(task.spec.n_obs_steps, 1) for name, values in obs.items()}
        )


@every_simulation
def test_same_seed_and_actions_are_bit_identical(task: Task) -> None:
    """In a new environment, and in one that has played other episodes and drawn pictures before."""
    spec = task.spec
    actions = np.random.default_rng(0).uniform(spec.action_low, spec.action_high, size=(40, spec.action_dim))
    used = task.make_env()
    used.reset(seed=9)
    for action in actions[::3]:
        used.step(action)
    used.render(32)
    records: list[list[Any]] = []
    for env in (task.make_env(), used):
        obs = env.reset(seed=5)
        record: list[Any] = [*obs.values()]
        for action in actions.astype(np.float32):
            result = env.step(action)
            record += [*result.obs.values(), result.reward, result.success, result.done]
        records.append([*record, env.render(32)])
    for first, second in zip(*records, strict=True):
        np.testing.assert_array_equal(first, second)
    other = task.make_env().reset(seed=6)
    assert any(not np.array_equal(other[name], values) for name, values in task.make_env().reset(seed=5).items())


@every_simulation
def test_render(task: Task) -> None:
    env = task.make_env()
    env.reset(seed=0)
    for size in (96, 240):
        picture = env.render(size)
        assert (picture.shape, picture.dtype) == ((size, size, 3), np.uint8)
        assert picture.std() > 10
