"""Names of tasks with options, apart from what any simulator does with them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from onedp.errors import OneDPError
from onedp.tasks import FAMILIES, TASKS, get_task
from onedp.tasks.options import family_of, task_with_options
from onedp.tasks.task import Task


@dataclass(frozen=True)
class Windy:
    wind: float = 2.0
    gusts: float = 0.5

    def task(self, name: str) -> Task:
        return replace(TASKS["pusht-state"], name=name, max_steps=round(10 * self.wind + self.gusts))


FAMILY = {"windy": Windy}


@pytest.mark.parametrize(("name", "steps"), [("windy", 20), ("windy@wind=3", 30), ("windy@gusts=4,wind=0.1", 5)])
def test_options_go_to_the_dataclass_and_the_name_is_kept(name: str, steps: int) -> None:
    task = task_with_options(name, FAMILY)
    assert (task.name, task.max_steps) == (name, steps)
    assert family_of(name) == "windy"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("winds@wind=1", "Unknown task with options 'winds'. Did you mean 'windy'"),
        ("windy@win=1", "Unknown option of windy 'win'. Did you mean 'wind'"),
        ("windy@wind=much", "The option 'wind=much' of windy is no number: expected wind=NUMBER"),
        ("windy@wind", "The option 'wind' of windy is no number"),
        ("windy@wind=nan", "The option 'wind=nan' of windy is no number"),
        ("windy@wind=1,wind=2", "The option 'wind' of windy is given twice, in 'windy@wind=1,wind=2'"),
        ("windy@wind=0", "'windy@wind=0' would be over before its first control tick of 0.1 s"),
    ],
)
def test_what_is_wrong_is_named(name: str, message: str) -> None:
    with pytest.raises(OneDPError, match=message):
        task_with_options(name, FAMILY)


def test_families_of_all_simulators_are_found() -> None:
    assert {"pusht-drift", "pusht-reset", "lift-moving"} <= set(FAMILIES)
    assert get_task("lift-moving@speed=0.08,limit=5").max_steps == 100
    assert get_task("pusht-drift@limit=5").max_steps == 250
    assert all(TASKS[name].name == name for name in FAMILIES)


def test_tasks_without_options_say_so() -> None:
    with pytest.raises(OneDPError, match=r"The task 'coffee-lid' has no options. Tasks that have some: pusht-drift, "):
        get_task("coffee-lid@side=1")
    with pytest.raises(OneDPError, match="The task 'lift-image' has no options"):
        get_task("lift-image@speed=1")
