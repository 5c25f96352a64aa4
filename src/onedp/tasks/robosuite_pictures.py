"""robosuite's tasks as a robot with cameras sees them: ``lift-image`` is ``lift`` with pictures instead of ``object``.

Names and sizes are robomimic's (``agentview_image``, ``robot0_eye_in_hand_image``, 84 px; tool-hang 240 px); pictures
are upright, and drawn without shadows and reflections, which are most of their cost in software.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.tasks.mujoco_camera import Camera
from onedp.tasks.options import family_of
from onedp.tasks.robosuite import RobosuiteEnvironment
from onedp.tasks.task import Environment, StepResult, Task
from onedp.types import FieldSpec

SUFFIX = "-image"
STATE_ONLY = "object"
"""The field that no camera sees."""


@dataclass(frozen=True)
class Cameras:
    """What a task's pictures are taken by."""

    names: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    size_px: int = 84

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        """One field a camera."""
        shape = (self.size_px, self.size_px, 3)
        return tuple(FieldSpec(f"{name}_image", shape, "1", "uint8") for name in self.names)


CAMERAS = {
    "tool-hang": Cameras(("sideview", "robot0_eye_in_hand"), 240),
    "transport": Cameras(("shouldercamera0", "shouldercamera1", "robot0_eye_in_hand", "robot1_eye_in_hand")),
}
"""By the task's name; all others have those that ``Cameras`` says."""


class PictureEnvironment:
    """A robosuite environment whose objects are seen by cameras only."""

    def __init__(self, make_env: Callable[[], Environment], cameras: Cameras):
        inner = make_env()
        assert isinstance(inner, RobosuiteEnvironment)
        self.inner = inner
        self._cameras = cameras
        self._drawing: list[Camera] = []

    def reset(self, seed: int) -> dict[str, ndarray]:
        """The start of the task without pictures."""
        return self._seen(self.inner.reset(seed))

    def step(self, action: ndarray) -> StepResult:
        """See the task without pictures."""
        result = self.inner.step(action)
        return replace(result, obs=self._seen(result.obs))

    def render(self, size: int) -> ndarray:
        """See the task without pictures."""
        return self.inner.render(size)

    def flat_state(self) -> ndarray:
        """See the task without pictures."""
        return self.inner.flat_state()

    def _seen(self, obs: Mapping[str, ndarray]) -> dict[str, ndarray]:
        if not self._drawing:
            self._drawing = [self.inner.camera(name) for name in self._cameras.names]
        pictures = [camera.picture(self._cameras.size_px) for camera in self._drawing]
        named = {field.name: picture for field, picture in zip(self._cameras.fields, pictures, strict=True)}
        return {**named, **{name: values for name, values in obs.items() if name != STATE_ONLY}}


def _features(fields: tuple[FieldSpec, ...], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Pictures as they are recorded, which may be on disk; numbers in the field's type."""
    return {
        field.name: arrays[field.name] if field.is_image else np.asarray(arrays[field.name], dtype=field.dtype)
        for field in fields
        if field.name in arrays
    }


def with_pictures(task: Task) -> Task:
    """The image form of a robosuite task; its options stay behind the ``@``."""
    family, at, options = task.name.partition("@")
    cameras = CAMERAS.get(family, Cameras())
    seen = (*cameras.fields, *(field for field in task.spec.observations if field.name != STATE_ONLY))
    return replace(
        task,
        name=f"{family}{SUFFIX}{at}{options}",
        spec=replace(task.spec, observations=seen),
        make_env=partial(PictureEnvironment, task.make_env, cameras),
        features=partial(_features, (*seen, task.spec.action)),
        raw_arrays=tuple(field.name for field in seen),
        raw_fields=seen,
    )


def without_pictures(name: str) -> str:
    """The name of the task that ``name`` is the image form of; any other name as it is."""
    family = family_of(name)
    return name.replace(family, family.removesuffix(SUFFIX), 1)
