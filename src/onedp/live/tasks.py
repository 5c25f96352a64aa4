"""Push-T at 50 Hz for every kind of policy: latencies below a tenth of a second differ, and motion is smooth."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from onedp.errors import OneDPError, unknown_choice
from onedp.tasks import Task, get_task
from onedp.tasks.pusht import (
    PUSHT_IMAGE,
    PUSHT_KEYPOINTS,
    PUSHT_STATE,
    PushTEnvironment,
    image_features,
    keypoint_features,
    state_features,
    stay,
)
from onedp.tasks.pusht_moving import CONTROL_HZ, FAMILIES, TICKS_PER_STEP


def _at_control_rate(task: Task, make_env: partial[PushTEnvironment]) -> Task:
    return replace(task, make_env=make_env, ticks_per_step=TICKS_PER_STEP, rest_action=stay)


STILL_TASKS = {
    task.name: task
    for task in (
        _at_control_rate(PUSHT_KEYPOINTS, partial(PushTEnvironment, keypoint_features, CONTROL_HZ)),
        _at_control_rate(PUSHT_STATE, partial(PushTEnvironment, state_features, CONTROL_HZ)),
        _at_control_rate(PUSHT_IMAGE, partial(PushTEnvironment, image_features, CONTROL_HZ, pictures=True)),
    )
}


def live_task(name: str) -> Task:
    """Push-T of this name at 50 Hz; a moving one (``pusht-drift@speed=4``) as it is. Raises ``OneDPError``."""
    if name in STILL_TASKS:
        return STILL_TASKS[name]
    if name.partition("@")[0] in FAMILIES:
        return get_task(name)
    raise OneDPError(unknown_choice("task of onedp live", name, [*STILL_TASKS, *FAMILIES]))
