"""Running episodes. The numbers do not depend on how many workers run them.

Episodes are cut into fixed groups of consecutive seeds. A group runs in lock-step through one policy with one thread
and a fixed batch size (finished episodes keep their row), so a row always meets the same arithmetic; a worker takes
whole groups. An episode's start comes from its own seed and its noise from (seed, chunk number).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from onedp.evaluate.results import EpisodeResult
from onedp.tasks import Environment, StepResult, Task
from onedp.types import Policy, episode_noise

GROUP_SIZE = 25
"""Episodes in lock-step; part of what makes numbers repeat, so not an option."""


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

    def step(self, action: ndarray) -> None:
        """Execute one action unless the episode is over."""
        if self.done:
            return
        result = self._env.step(action)
        self._observations = [*self._observations[-self._n_obs_steps + 1 :], result.obs][-self._n_obs_steps :]
        self.steps += 1
        self.score = max(self.score, result.reward)
        self.success = self.success or result.success
        self.done = result.done or self.steps >= self.max_steps

    def result(self) -> EpisodeResult:
        """What the evaluation keeps of it."""
        return EpisodeResult(seed=self.seed, score=self.score, success=self.success, steps=self.steps)


def run_group(
    policy: Policy,
    task: Task,
    envs: Sequence[Environment],
    seeds: Sequence[int],
    first_row: int = 0,
) -> list[EpisodeResult]:
    """Run the episodes of ``seeds`` in lock-step, one environment each, in the rows of the batch from ``first_row`` on.

    The other rows repeat the first episode's inputs, so the batch size never changes.
    """
    spec = policy.spec
    episodes = [Episode(task, env, seed, spec.n_obs_steps) for env, seed in zip(envs, seeds, strict=False)]
    rows = np.zeros(GROUP_SIZE, dtype=np.int64)  # which episode fills each row
    rows[first_row : first_row + len(episodes)] = np.arange(len(episodes))
    chunk = 0
    while not all(episode.done for episode in episodes):
        obs = [episode.observation() for episode in episodes]
        noise = np.stack([episode_noise(episode.seed, chunk, policy.noise_shape) for episode in episodes])
        batch = {name: np.stack([o[name] for o in obs])[rows] for name in obs[0]}
        actions = policy.infer(batch, noise[rows])[first_row:]  # (B, Tp - To + 1, Da)
        for tick in range(spec.n_action_steps):
            for episode, chunk_of_episode in zip(episodes, actions[: len(episodes)], strict=True):
                episode.step(chunk_of_episode[tick])
        chunk += 1
    return [episode.result() for episode in episodes]


def groups_of(first_seed: int, episodes: int) -> list[list[int]]:
    """Consecutive seeds cut into groups of ``GROUP_SIZE``; the last one may be shorter."""
    seeds = list(range(first_seed, first_seed + episodes))
    return [seeds[i : i + GROUP_SIZE] for i in range(0, len(seeds), GROUP_SIZE)]


@dataclass(frozen=True)
class RolloutRecording:
    """Pictures of one episode and what the score was at each of them."""

    frames: list[ndarray]
    """RGB, uint8 (size, size, 3): one after every control step."""
    scores: list[float]
    """Best reward so far at each frame."""
    success: bool


def record_episode(policy: Policy, task: Task, seed: int, first_seed: int, size: int = 256) -> RolloutRecording:
    """Run the episode ``seed`` of an evaluation that began at ``first_seed``, again and exactly, with pictures."""
    camera = _Camera(task.make_env(), size)
    result = run_group(policy, task, [camera], [seed], first_row=(seed - first_seed) % GROUP_SIZE)
    return RolloutRecording(camera.frames, camera.scores, result[0].success)


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
