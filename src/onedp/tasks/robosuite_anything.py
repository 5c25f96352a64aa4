"""Pick and place of four things: each start draws one of them, and an index tells the policy which.

After the paper's real-robot task of that name (arXiv 2410.21257); here with robosuite's carton of milk, loaf of bread,
box of cereals and can, each of which has a compartment of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy import ndarray

from onedp.tasks.robosuite import SCENES, robosuite_features, robosuite_task
from onedp.tasks.robosuite_object import PickPlaceEnvironment
from onedp.tasks.task import StepResult, Task
from onedp.types import FieldSpec

KINDS = ("milk", "bread", "cereal", "can")
"""In robosuite's order."""

KIND = FieldSpec("object_kind", (1,), "1", "int64", classes=len(KINDS))

MARGIN_M = 0.11
"""From the walls of the bin: nearer, the hand would stand on a wall before its fingers reach a loaf that lies askew."""

SCENE = SCENES["pnp-milk"]
"""One object at a time; which one is decided anew at each reset."""


def kind_of(seed: int) -> int:
    """Place in ``KINDS`` of the object that a start draws."""
    return int(np.random.default_rng([6, seed]).integers(len(KINDS)))


class AnythingEnvironment(PickPlaceEnvironment):
    """PickPlace with the object that ``seed`` draws."""

    def reset(self, seed: int) -> dict[str, ndarray]:
        """Object, its pose and the arm's drawn from ``seed``; it is not nearer to a wall than the hand is wide."""
        self.simulator.object_id = kind_of(seed)
        super().reset(seed)
        pose, room = self.object_pose, self.room(MARGIN_M)
        pose[:2] += np.clip(self.in_bin, -room, room) - self.in_bin
        return self._with_kind(self.put_object(pose))

    def step(self, action: ndarray) -> StepResult:
        """See ``RobosuiteEnvironment``."""
        result = super().step(action)
        return replace(result, obs=self._with_kind(result.obs))

    def _with_kind(self, obs: dict[str, ndarray]) -> dict[str, ndarray]:
        return {**obs, KIND.name: np.array([self.simulator.object_id], dtype=np.int64)}


def _features(arrays: Mapping[str, ndarray]) -> dict[str, ndarray]:
    return {**robosuite_features(SCENE, arrays), KIND.name: np.asarray(arrays[KIND.name], dtype=np.int64)}


def _task() -> Task:
    alone = robosuite_task("pnp-anything", SCENE)
    fields = (*alone.spec.observations, KIND)
    return replace(
        alone,
        spec=replace(alone.spec, observations=fields),
        make_env=AnythingEnvironment,
        features=_features,
        raw_arrays=tuple(field.name for field in fields),
        raw_fields=fields,
        demonstrations="none of people; scripted: onedp collect",
    )


PNP_ANYTHING = _task()
