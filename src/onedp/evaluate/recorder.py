"""Roll-outs that are kept whole: what the policy saw and did in every step, of the episodes that are wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.evaluate.results import EpisodeResult
from onedp.evaluate.rollout import Rollout, run_group
from onedp.runtime.execution import Execution
from onedp.tasks import Environment, StepResult, Task
from onedp.tasks.episode_rows import EpisodeRows
from onedp.types import Policy


@dataclass(frozen=True)
class Keep:
    """Which episodes to keep; the default keeps all."""

    failed: bool = False
    """Only those that did not succeed."""
    lost_below: float | None = None
    """Only those whose score (best reward) stays below."""

    def __post_init__(self) -> None:
        if self.failed and self.lost_below is not None:
            raise OneDPError("--failed and --lost-below are two choices of episodes to keep; give one of them.")
        if self.lost_below is not None and not (math.isfinite(self.lost_below) and self.lost_below > 0):
            raise OneDPError(f"lost-below must be above 0, as no score is below that; it is {self.lost_below}.")

    def wants(self, result: EpisodeResult) -> bool:
        """Whether the episode with this result is kept."""
        if self.failed:
            return not result.success
        return self.lost_below is None or result.score < self.lost_below

    def __str__(self) -> str:
        """In words, for users and files."""
        if self.failed:
            return "without success"
        return "all" if self.lost_below is None else f"with a score below {self.lost_below:g}"


class Recorder:
    """An environment that keeps its episode, a row for every step of the policy.

    Where the environment's control ticks are shorter than these steps (``Task.ticks_per_step``), a row has what the
    policy may have seen at its first tick, the best reward of its ticks and whether the episode ended in any of them,
    so that the file's rate is the one that policies are trained for. The policy must hold its actions for a step.
    """

    def __init__(self, task: Task, env: Environment):
        self._task, self._env = task, env

    def reset(self, seed: int) -> dict[str, ndarray]:
        """Start the episode of ``seed``, and forget the one before."""
        self._rows = EpisodeRows(self._task, self._env)
        self._obs = self._env.reset(seed)
        self._ticks: list[StepResult] = []
        return self._obs

    def step(self, action: ndarray) -> StepResult:
        """Act for one control tick."""
        if not self._ticks:
            self._rows.before(self._obs)
            self._action = np.array(action)
        result = self._env.step(action)
        self._obs = result.obs
        self._ticks.append(result)
        if len(self._ticks) == self._task.ticks_per_step:
            self._end_row()
        return result

    def render(self, size: int) -> ndarray:
        """The scene."""
        return self._env.render(size)

    def rows(self) -> EpisodeRows:
        """Those of the episode, which is over."""
        if self._ticks:  # it ended within a step
            self._end_row()
        return self._rows

    def _end_row(self) -> None:
        last = self._ticks[-1]
        best = max(tick.reward for tick in self._ticks)
        self._rows.after(self._action, replace(last, reward=best, done=any(tick.done for tick in self._ticks)))
        self._ticks = []


def record_group(
    policy: Policy, task: Task, envs: Sequence[Environment], seeds: Sequence[int], keep: Keep, execution: Execution
) -> list[Rollout]:
    """``run_group``, with the whole episode in the roll-outs that ``keep`` wants; the results are the same."""
    recorders = [Recorder(task, env) for env, _ in zip(envs, seeds, strict=False)]
    rollouts = run_group(policy, task, recorders, seeds, execution)
    return [
        _with_episode(rollout, recorder) if keep.wants(rollout.result) else rollout
        for rollout, recorder in zip(rollouts, recorders, strict=True)
    ]


def _with_episode(rollout: Rollout, recorder: Recorder) -> Rollout:
    result = rollout.result
    facts = {"seed": result.seed, "score": result.score, "success": result.success}
    return replace(rollout, demonstration=recorder.rows().demonstration(facts))
