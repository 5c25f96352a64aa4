"""The table of tasks."""

from __future__ import annotations

import importlib
import os
import sys

from onedp.errors import OneDPError, unknown_choice
from onedp.tasks import pusht_moving, robosuite_moving, robosuite_paths
from onedp.tasks.metaworld import METAWORLD_TASKS
from onedp.tasks.options import Families, family_of, task_with_options
from onedp.tasks.pusht import PUSHT_IMAGE, PUSHT_KEYPOINTS, PUSHT_STATE
from onedp.tasks.robosuite import ROBOSUITE_TASKS
from onedp.tasks.robosuite_anything import PNP_ANYTHING
from onedp.tasks.robosuite_lid import COFFEE_LID
from onedp.tasks.robosuite_pictures import with_pictures, without_pictures
from onedp.tasks.robosuite_ways import LIFT_45
from onedp.tasks.task import Environment, StepResult, Task

FAMILIES: Families = {**pusht_moving.FAMILIES, **robosuite_moving.FAMILIES, **robosuite_paths.FAMILIES}
"""Tasks with options; the table below has each with its defaults."""

_MOVING = [task_with_options(name, FAMILIES) for name in FAMILIES]
_PUSHT = (PUSHT_KEYPOINTS, PUSHT_STATE, PUSHT_IMAGE)
_ROBOSUITE_FAMILIES = (*robosuite_moving.FAMILIES, *robosuite_paths.FAMILIES)
_STATES = (*_MOVING, *ROBOSUITE_TASKS, LIFT_45, COFFEE_LID, PNP_ANYTHING)
_PICTURES = [with_pictures(task) for task in _STATES if family_of(task.name) not in pusht_moving.FAMILIES]
TASKS: dict[str, Task] = {task.name: task for task in (*_PUSHT, *_STATES, *_PICTURES, *METAWORLD_TASKS)}

__all__ = ["FAMILIES", "TASKS", "Environment", "StepResult", "Task", "get_task"]


def get_task(name: str) -> Task:
    """A task of the table, one with options (``pusht-drift@speed=20``), or ``my_module:my_task`` of your own.

    Raises ``OneDPError`` on other names.
    """
    if name in TASKS:
        return TASKS[name]
    if family_of(name) in FAMILIES:
        return task_with_options(name, FAMILIES)
    if family_of(without_pictures(name)) in _ROBOSUITE_FAMILIES:
        return with_pictures(task_with_options(without_pictures(name), FAMILIES))
    if family_of(name) in TASKS and name != family_of(name):
        raise OneDPError(f"The task '{family_of(name)}' has no options. Tasks that have some: {', '.join(FAMILIES)}.")
    if ":" not in name:
        raise OneDPError(unknown_choice("task", name, TASKS) + " A task of your own is given as my_module:my_task.")
    module_name, attribute = name.split(":", 1)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the installed command does not look for modules where it is called
    try:
        task = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the module's own code may raise anything
        raise OneDPError(
            f"Task '{name}' cannot be imported ({type(error).__name__}: {error}). Expected module:attribute, the "
            "module in the current folder or on PYTHONPATH."
        ) from error
    if not isinstance(task, Task):
        raise OneDPError(
            f"Task '{name}' is a {type(task).__name__}, expected an onedp.tasks.Task. If it is a function that makes "
            "one, assign its result to a name in the module and pass that."
        )
    return task
