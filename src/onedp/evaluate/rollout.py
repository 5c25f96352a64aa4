"""Running episodes. The numbers do not depend on how many workers run them.

Episodes are cut into fixed groups of consecutive seeds. A group runs in lock-step through one policy with one thread
and a fixed batch size (finished episodes keep their row), so a row always meets the same arithmetic; a worker takes
whole groups. An episode's start comes from its own seed and its noise from (seed, chunk number).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from onedp.evaluate.results import EpisodeResult
from onedp.tasks import Environment, Task
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
    policy: Policy, task: Task, envs: Sequence[Environment], seeds: Sequence[int], on_step: Callable[[], None] | None = None
) -> list[EpisodeResult]:
    """Run the episodes of ``seeds`` in lock-step; there must be an environment for each and at most ``GROUP_SIZE``.

    ``on_step`` is called after every control step of the group (used to record pictures).
    """
    spec = policy.spec
    episodes = [Episode(task, env, seed, spec.n_obs_steps) for env, seed in zip(envs, seeds, strict=False)]
    chunk = 0
    while not all(episode.done for episode in episodes):
        obs = [episode.observation() for episode in episodes]
        noise = [episode_noise(episode.seed, chunk, policy.noise_shape) for episode in episodes]
        padding = GROUP_SIZE - len(episodes)
        batch = {name: np.stack([o[name] for o in obs] + [obs[0][name]] * padding) for name in obs[0]}
        actions = policy.infer(batch, np.stack(noise + [noise[0]] * padding))  # (B, Tp - To + 1, Da)
        for tick in range(spec.n_action_steps):
            for row, episode in enumerate(episodes):
                episode.step(actions[row, tick])
            if on_step is not None:
                on_step()
            if all(episode.done for episode in episodes):
                break
        chunk += 1
    return [episode.result() for episode in episodes]


def groups_of(first_seed: int, episodes: int) -> list[list[int]]:
    """Consecutive seeds cut into groups of ``GROUP_SIZE``; the last one may be shorter."""
    seeds = list(range(first_seed, first_seed + episodes))
    return [seeds[i : i + GROUP_SIZE] for i in range(0, len(seeds), GROUP_SIZE)]


@dataclass(frozen=True)
class Recording:
    """Pictures of one episode and what the score was at each of them."""

    frames: list[ndarray]
    """RGB, uint8 (size, size, 3), one per control step, the start included."""
    scores: list[float]
    """Best reward so far at each frame."""
    success: bool


def record_episode(policy: Policy, task: Task, seed: int, size: int = 256) -> Recording:
    """Run one episode as ``run_group`` does and take a picture after every control step."""
    env = task.make_env()
    rewards = _RewardLog(env)
    frames: list[ndarray] = []
    scores: list[float] = []

    def look() -> None:
        if len(rewards.best) > len(scores):
            frames.append(env.render(size))
            scores.append(rewards.best[-1])

    result = run_group(policy, task, [rewards], [seed], look)
    return Recording(frames, scores, result[0].success)


class _RewardLog:
    """An environment that remembers the best reward after each step."""

    def __init__(self, env: Environment):
        self._env = env
        self.best: list[float] = []

    def reset(self, seed: int) -> dict[str, ndarray]:
        self.best = []
        return self._env.reset(seed)

    def step(self, action: ndarray):  # noqa: ANN201  (StepResult, as the environment's)
        result = self._env.step(action)
        self.best.append(max([*self.best[-1:], result.reward]))
        return result

    def render(self, size: int) -> ndarray:
        return self._env.render(size)


def timed_calls(call: Callable[[], object], synchronize: Callable[[], None], calls: int) -> Iterator[float]:
    """Seconds of each of ``calls`` calls, the device synchronised before the clock stops."""
    for _ in range(calls):
        start = time.perf_counter()
        call()
        synchronize()
        yield time.perf_counter() - start
