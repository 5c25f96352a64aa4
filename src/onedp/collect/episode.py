"""One scripted episode: noise is executed, the expert's wish is recorded."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.collect.expert import Expert, NoiseSource, Scripted
from onedp.data.robomimic_writer import Demonstration
from onedp.tasks.task import Environment, Task


def collect_episode(
    task: Task, scripted: Scripted, env: Environment, expert: Expert, seed: int, noise: float
) -> Demonstration | None:
    """The episode of the start ``seed``; None when the expert did not succeed within the task's time limit.

    Style and noise are drawn from ``seed`` too. ``noise`` scales the recovery noise; 0 executes what is recorded.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, 1], dtype=np.uint64)))
    low, high = np.array(task.spec.action_low), np.array(task.spec.action_high)
    obs = env.reset(seed)
    expert.start(rng)
    source = NoiseSource(scripted.noise, noise, rng)
    rows: dict[str, list[Any]] = defaultdict(list)
    way: str | None = None
    for _ in range(task.max_steps):
        recorded = {**obs, **(scripted.raw_observations(env) if scripted.raw_observations else {})}
        wish = np.clip(expert.act(), low, high).astype(np.float32)
        executed = np.clip(wish + expert.noise_share() * source.draw(), low, high).astype(np.float32) if noise else wish
        for name, values in recorded.items():
            rows[f"obs/{name}"].append(values)
        if (state := _flat_state(env)) is not None:
            rows["states"].append(state)
        result = env.step(executed)
        for name, value in (("actions", wish), ("executed_actions", executed), ("rewards", result.reward)):
            rows[name].append(value)
        rows["dones"].append(result.done)
        obs, way = result.obs, result.way or way
        if result.done:
            break
    return _demonstration(rows, seed, way) if result.success else None


def _flat_state(env: Environment) -> ndarray | None:
    flat_state = getattr(env, "flat_state", None)
    return None if flat_state is None else flat_state()


def _demonstration(rows: dict[str, list[Any]], seed: int, way: str | None) -> Demonstration:
    arrays = {name: np.array(values) for name, values in rows.items()}
    prefix = "obs/"
    return Demonstration(
        observations={name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)},
        actions=arrays["actions"],
        rewards=arrays["rewards"].astype(np.float32),
        dones=arrays["dones"].astype(np.uint8),
        extra={name: arrays[name] for name in ("executed_actions", "states") if name in arrays},
        attributes={"seed": seed} if way is None else {"seed": seed, "way": way},
    )
