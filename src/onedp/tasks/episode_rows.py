"""What files of demonstrations and roll-outs hold of an episode: a row for every action, in robomimic's layout."""

from __future__ import annotations

import importlib.metadata
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.data.robomimic_writer import Demonstration
from onedp.tasks.robosuite import RATE_HZ, SCENES
from onedp.tasks.task import Environment, StepResult, Task


class EpisodeRows:
    """One episode of ``env``, row by row: ``before`` an action, then ``after`` it."""

    def __init__(self, task: Task, env: Environment):
        self._raw_observations = task.raw_observations
        self._env = env
        self._observations: dict[str, list[ndarray]] = defaultdict(list)
        self._extra: dict[str, list[ndarray]] = defaultdict(list)
        self._actions: list[ndarray] = []
        self._rewards: list[float] = []
        self._dones: list[bool] = []
        self._way: str | None = None

    def before(self, obs: Mapping[str, ndarray]) -> None:
        """Keep a copy of ``obs``, the newest observation, and the simulation's raw arrays and state where it has them.

        To be called while the environment is in the state of ``obs``.
        """
        raw = self._raw_observations(self._env) if self._raw_observations else {}
        for name, values in {**obs, **raw}.items():
            self._observations[name].append(np.array(values))
        flat_state = getattr(self._env, "flat_state", None)
        if flat_state is not None:
            self._extra["states"].append(flat_state())

    def after(self, action: ndarray, result: StepResult, **extra: ndarray) -> None:
        """Keep what was done, what came of it, and ``extra`` rows by name."""
        self._actions.append(np.array(action))
        self._rewards.append(result.reward)
        self._dones.append(result.done)
        self._way = result.way or self._way
        for name, values in extra.items():
            self._extra[name].append(np.array(values))

    def demonstration(self, attributes: Mapping[str, Any]) -> Demonstration:
        """The whole episode, with its way among the ``attributes`` where the task has several."""
        return Demonstration(
            observations={name: np.array(rows) for name, rows in self._observations.items()},
            actions=np.array(self._actions),
            rewards=np.array(self._rewards, dtype=np.float32),
            dones=np.array(self._dones, dtype=np.uint8),
            extra={name: np.array(rows) for name, rows in self._extra.items()},
            attributes={**attributes} if self._way is None else {**attributes, "way": self._way},
        )


def robomimic_environment(name: str) -> dict[str, Any]:
    """What robomimic calls ``env_args`` of a task. A scene that our task changes is nothing that it could build."""
    if name not in SCENES:
        return {"env_name": name, "type": 2, "env_kwargs": {}}  # 2: robomimic's number for gym environments
    arms = SCENES[name].arms
    kwargs = {"robots": ["Panda"] * arms, "control_freq": int(RATE_HZ), "hard_reset": False, "reward_shaping": False}
    version = importlib.metadata.version("robosuite")
    return {"env_name": SCENES[name].environment, "type": 1, "env_version": version, "env_kwargs": kwargs}
