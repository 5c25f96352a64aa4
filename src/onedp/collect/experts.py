"""The table of scripted experts: from a task's name to how it is demonstrated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onedp.collect.expert import Expert, RecoveryNoise, Scripted
from onedp.errors import OneDPError, unknown_choice
from onedp.tasks import TASKS
from onedp.tasks.metaworld import METAWORLD_TASKS
from onedp.tasks.options import family_of
from onedp.tasks.robosuite_pictures import without_pictures

ARM_NOISE = RecoveryNoise(scale=(0.15, 0.15, 0.15, 0.08, 0.08, 0.08, 0.0))
HAND_NOISE = RecoveryNoise(scale=(0.25, 0.25, 0.25, 0.0))


def _lift(env: Any) -> Expert:
    from onedp.collect.robosuite_experts import LiftExpert

    return LiftExpert(env)


def _lift_45(env: Any) -> Expert:
    from onedp.collect.robosuite_experts import Lift45Expert

    return Lift45Expert(env)


def _lift_moving(env: Any) -> Expert:
    from onedp.collect.robosuite_experts import LiftMovingExpert

    return LiftMovingExpert(env)


def _pick_place(env: Any) -> Expert:
    from onedp.collect.robosuite_experts import PickPlaceExpert

    return PickPlaceExpert(env)


def _square(env: Any) -> Expert:
    from onedp.collect.robosuite_experts import SquareExpert

    return SquareExpert(env)


def _lid(env: Any) -> Expert:
    from onedp.collect.lid_expert import LidExpert

    return LidExpert(env)


def _metaworld(env: Any) -> Expert:
    from onedp.collect.metaworld_expert import MetaworldExpert

    return MetaworldExpert(env)


def _pusht(env: Any) -> Expert:
    from onedp.collect.pusht_planner import PushTPlanner

    return PushTPlanner(env)


_PUSHT = Scripted(
    _pusht,
    RecoveryNoise(scale=(4.0, 4.0)),
    "tries pushes in a second simulation, does the best one and plans again, until 95 % of the goal is covered",
)

EXPERTS: dict[str, Scripted] = {
    "pusht-keypoints": _PUSHT,
    "pusht-state": _PUSHT,
    "lift": Scripted(_lift, ARM_NOISE, "grasps the cube by two faces from above and raises it"),
    "lift-moving": Scripted(_lift_moving, ARM_NOISE, "follows the sliding cube, grasps it from above and raises it"),
    "pose-reset": Scripted(_lift, ARM_NOISE, "grasps the cube from above and raises it, wherever it is now"),
    "lift-45": Scripted(_lift_45, ARM_NOISE, "turns the wrist 45 degrees to either side at random and raises the cube"),
    "coffee-lid": Scripted(_lid, ARM_NOISE, "goes round the lid on one side or the other and pushes it shut"),
    "can": Scripted(_pick_place, ARM_NOISE, "grasps the can from above and drops it in its compartment"),
    "pnp-milk": Scripted(_pick_place, ARM_NOISE, "grasps the carton from above and drops it in its compartment"),
    "pnp-anything": Scripted(_pick_place, ARM_NOISE, "grasps the object from above and drops it in its compartment"),
    "pnp-milk-move": Scripted(_pick_place, ARM_NOISE, "goes after the carton and drops it in its compartment"),
    "square": Scripted(_square, ARM_NOISE, "grasps the nut by its handle, turns it square and lowers it over the peg"),
    **{
        task.name: Scripted(_metaworld, HAND_NOISE, "is Meta-World's own scripted policy, slowed down at random")
        for task in METAWORLD_TASKS
    },
}


def get_expert(task: str) -> Scripted:
    """The expert of ``task``, with options or without; raises ``OneDPError`` when it has none."""
    family = family_of(task)
    if family in EXPERTS:
        return EXPERTS[family]
    if family in TASKS and (state := without_pictures(family)) in EXPERTS:
        scripted = EXPERTS[state]
        return replace(scripted, make=lambda env: scripted.make(env.inner))  # it sees what cameras do not
    if family in TASKS:
        raise OneDPError(
            f"The task '{task}' has no scripted expert. Tasks that have one: {', '.join(sorted(EXPERTS))}. Train it on "
            f"demonstrations of people: {TASKS[family].demonstrations}."
        )
    raise OneDPError(unknown_choice("task", task, EXPERTS))
