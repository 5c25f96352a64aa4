"""Running episodes. The numbers do not depend on how many workers run them.

Episodes are cut into fixed groups of consecutive seeds; a worker takes whole groups. A group runs in lock-step through
one policy with one thread, and the batch holds its running episodes in the order of their seeds. So which arithmetic a
row meets follows from the group alone: its batch sizes are known from how long its episodes lasted, and one episode
can be run again exactly. An episode's start comes from its own seed and its noise from (seed, chunk number).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from onedp.evaluate.results import EpisodeResult
from onedp.tasks import Environment, StepResult, Task
from onedp.types import Policy, episode_noise

GROUP_SIZE = 25
"""Episodes in lock-step at the most; part of what makes numbers repeat, so not an option."""


class Episode:
    """One running episode: its environment, its last To observations and its best reward so far."""

    def __init__(self, task: Task, env: Environment, seed: int, n_obs_steps: int):
        self.seed = seed
        self.max_steps = task.max_steps
        self._env = env
        self._n_obs_steps = n_obs_steps
        self._observations = [env.reset(seed)]
        self.score = 0.0
        self.success = False
        self.done = False
        self.steps = 0

    def observation(self) -> dict[str, ndarray]:
        """The last To observations, the first one repeated at the start: ``{name: (To, *shape)}``."""
        missing = self._n_obs_steps - len(self._observations)
        window = [self._observations[0]] * missing + self._observations[-self._n_obs_steps :]
        return {name: np.stack([obs[name] for obs in window]) for name in window[0]}

    def execute(self, actions: ndarray) -> None:
        """Execute actions (n, Da) in order until the episode is over."""
        for action in actions:
            if not self.done:
                self._step(action)

    def _step(self, action: ndarray) -> None:
        result = self._env.step(action)
        self._observations = [*self._observations[-self._n_obs_steps + 1 :], result.obs][-self._n_obs_steps :]
        self.steps += 1
        self.score = max(self.score, result.reward)
        self.success = self.success or result.success
        self.done = result.done or self.steps >= self.max_steps

    def result(self) -> EpisodeResult:
        """What the evaluation keeps of it."""
        return EpisodeResult(seed=self.seed, score=self.score, success=self.success, steps=self.steps)


def run_group(policy: Policy, task: Task, envs: Sequence[Environment], seeds: Sequence[int]) -> list[EpisodeResult]:
    """Run the episodes of ``seeds`` in lock-step, one environment each; those that are over leave the batch."""
    episodes = [Episode(task, env, seed, policy.spec.n_obs_steps) for env, seed in zip(envs, seeds, strict=False)]
    chunk = 0
    while running := [episode for episode in episodes if not episode.done]:
        observations = [episode.observation() for episode in running]
        batch = {name: np.stack([obs[name] for obs in observations]) for name in observations[0]}
        noise = np.stack([episode_noise(episode.seed, chunk, policy.noise_shape) for episode in running])
        for episode, actions in zip(running, policy.infer(batch, noise), strict=True):  # each (Tp - To + 1, Da)
            episode.execute(actions[: policy.spec.n_action_steps])
        chunk += 1
    return [episode.result() for episode in episodes]


def rerun_episode(
    policy: Policy, task: Task, env: Environment, seed: int, group_steps: Mapping[int, int]
) -> EpisodeResult:
    """Run one episode of a group again, exactly, without the others.

    ``group_steps``: seeds of its group to the steps each of them lasted, which say how large the batch was at every
    chunk and which row was this episode's. The other rows repeat its own inputs.
    """
    episode = Episode(task, env, seed, policy.spec.n_obs_steps)
    chunk = 0
    while not episode.done:
        started = chunk * policy.spec.n_action_steps
        running = [other for other, steps in sorted(group_steps.items()) if steps > started or other == seed]
        batch = {name: np.stack([values] * len(running)) for name, values in episode.observation().items()}
        noise = np.stack([episode_noise(seed, chunk, policy.noise_shape)] * len(running))
        actions = policy.infer(batch, noise)[running.index(seed)]
        episode.execute(actions[: policy.spec.n_action_steps])
        chunk += 1
    return episode.result()


def groups_of(first_seed: int, episodes: int) -> list[list[int]]:
    """Consecutive seeds cut into groups of ``GROUP_SIZE``; the last one may be shorter."""
    seeds = list(range(first_seed, first_seed + episodes))
    return [seeds[i : i + GROUP_SIZE] for i in range(0, len(seeds), GROUP_SIZE)]


def steps_of_group(rows: Sequence[EpisodeResult], seed: int) -> dict[int, int]:
    """What ``rerun_episode`` needs: of all rows of an evaluation, the steps of the group that ran ``seed``."""
    steps = {row.seed: row.steps for row in rows}
    group = next(group for group in groups_of(min(steps), len(steps)) if seed in group)
    return {each: steps[each] for each in group}


@dataclass(frozen=True)
class RolloutRecording:
    """Pictures of one episode and what the score was at each of them."""

    frames: list[ndarray]
    """RGB, uint8 (size, size, 3): one after every control step."""
    scores: list[float]
    """Best reward so far at each frame."""
    success: bool


def record_episode(
    policy: Policy, task: Task, seed: int, rows: Sequence[EpisodeResult], size: int = 256
) -> RolloutRecording:
    """Run the episode ``seed`` of the evaluation that gave ``rows`` again, exactly, with pictures."""
    camera = _Camera(task.make_env(), size)
    result = rerun_episode(policy, task, camera, seed, steps_of_group(rows, seed))
    return RolloutRecording(camera.frames, camera.scores, result.success)


class _Camera:
    """An environment that takes a picture after every step."""

    def __init__(self, env: Environment, size: int):
        self._env = env
        self._size = size
        self.frames: list[ndarray] = []
        self.scores: list[float] = []

    def reset(self, seed: int) -> dict[str, ndarray]:
        return self._env.reset(seed)

    def step(self, action: ndarray) -> StepResult:
        result = self._env.step(action)
        self.frames.append(self._env.render(self._size))
        self.scores.append(max([*self.scores[-1:], result.reward]))
        return result

    def render(self, size: int) -> ndarray:
        return self._env.render(size)
