"""The table of scripted experts: from a task's name to how it is demonstrated."""

from __future__ import annotations

from typing import Any

from onedp.collect.expert import Expert, RecoveryNoise, Scripted
from onedp.errors import OneDPError, unknown_choice
from onedp.tasks import TASKS

ARM_NOISE = RecoveryNoise(scale=(0.15, 0.15, 0.15, 0.08, 0.08, 0.08, 0.0))


def _lift(env: Any) -> Expert:
    from onedp.collect.pick_and_place import LiftExpert

    return LiftExpert(env)


def _can(env: Any) -> Expert:
    from onedp.collect.pick_and_place import CanExpert

    return CanExpert(env)


def _square(env: Any) -> Expert:
    from onedp.collect.pick_and_place import SquareExpert

    return SquareExpert(env)


EXPERTS: dict[str, Scripted] = {
    "lift": Scripted(_lift, ARM_NOISE, "grasps the cube by two faces from above and raises it"),
    "can": Scripted(_can, ARM_NOISE, "grasps the can from above and drops it in its compartment"),
    "square": Scripted(_square, ARM_NOISE, "grasps the nut by its handle, turns it square and lowers it over the peg"),
}


def get_expert(task: str) -> Scripted:
    """The expert of ``task``; raises ``OneDPError`` when it has none."""
    if task in EXPERTS:
        return EXPERTS[task]
    if task in TASKS:
        raise OneDPError(
            f"The task '{task}' has no scripted expert. Tasks that have one: {', '.join(sorted(EXPERTS))}. Train it on "
            f"demonstrations of people: {TASKS[task].demonstrations}."
        )
    raise OneDPError(unknown_choice("task", task, EXPERTS))
