"""One scripted episode: noise is executed, the expert's wish is recorded."""

from __future__ import annotations

import numpy as np

from onedp.collect.expert import Expert, NoiseSource, Scripted
from onedp.data.robomimic_writer import Demonstration
from onedp.tasks.episode_rows import EpisodeRows
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
    rows = EpisodeRows(task, env)
    for _ in range(task.max_steps):
        wish = np.clip(expert.act(), low, high).astype(np.float32)
        executed = np.clip(wish + expert.noise_share() * source.draw(), low, high).astype(np.float32) if noise else wish
        rows.before(obs)
        result = env.step(executed)
        rows.after(wish, result, executed_actions=executed)
        obs = result.obs
        if result.done:
            break
    return rows.demonstration({"seed": seed}) if result.success else None
