"""Running episodes. The numbers do not depend on how many workers run them.

Episodes are cut into fixed groups of consecutive seeds. A group runs in lock-step through one policy with one thread
and a fixed batch size (every episode keeps its row), so a row always meets the same arithmetic; a worker takes whole
groups. An episode's start comes from its own seed, its noise and sampled latencies from (seed, chunk number).

Time is virtual: a simulation waits for the policy, and the latency that the policy is charged decides how many control
ticks go by, under the executor that a robot would run, until a chunk may be used. The default charges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.evaluate.results import EpisodeResult
from onedp.runtime.execution import Execution
from onedp.runtime.executor import ChunkExecutor, Counters, Seams
from onedp.runtime.latency import charged_ticks
from onedp.runtime.requests import ChunkRequest, ChunkRequests, infer_chunks, stacked
from onedp.runtime.resampled import at_control_rate
from onedp.tasks import Environment, StepResult, Task
from onedp.types import Policy

GROUP_SIZE = 25
"""Episodes in lock-step; part of what makes numbers repeat, so not an option."""
FROZEN = Execution()
"""The world waits while the policy thinks."""


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

    @property
    def newest(self) -> dict[str, ndarray]:
        """The newest observation, ``{name: (*shape)}``."""
        return self._observations[-1]

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


@dataclass(frozen=True)
class Rollout:
    """One finished episode and what its timing cost."""

    result: EpisodeResult
    counters: Counters
    seams: Seams


def run_group(
    policy: Policy,
    task: Task,
    envs: Sequence[Environment],
    seeds: Sequence[int],
    first_row: int = 0,
    execution: Execution = FROZEN,
) -> list[Rollout]:
    """Run the episodes of ``seeds`` in lock-step, one environment each, in the rows of the batch from ``first_row`` on.

    The other rows repeat another episode's inputs, so the batch size never changes. The charged latency only decides
    from which tick on a chunk may be used.
    """
    ticks_per_step = round(task.control_hz / policy.spec.rate_hz)
    policy = at_control_rate(policy, task.control_hz)
    runs = []
    for env, seed in zip(envs, seeds, strict=False):
        executor = execution.make_executor(policy.spec, ticks_per_step)
        requests = ChunkRequests(policy, executor, seed, execution.noise)
        runs.append(_Run(Episode(task, env, seed, policy.spec.n_obs_steps), executor, requests, task, execution))
    tick = 0
    while active := [run for run in runs if not run.episode.done]:
        _think(policy, runs, active, tick, first_row)
        for run in active:
            run.ask(tick)
        _think(policy, runs, active, tick, first_row)  # a latency of 0 is usable at once
        for run in active:
            run.act(tick)
        tick += 1
    return [Rollout(run.episode.result(), run.executor.counters, run.executor.seams) for run in runs]


class _Run:
    """One episode, its executor and the chunk that its policy is thinking about."""

    def __init__(
        self, episode: Episode, executor: ChunkExecutor, requests: ChunkRequests, task: Task, execution: Execution
    ):
        self.episode = episode
        self.executor = executor
        self.request: ChunkRequest | None = None
        self.obs: dict[str, ndarray] = {}
        self.chunk: ndarray | None = None
        self.observed = self.usable = 0
        self._requests = requests
        self._task = task
        self._latency = execution.latency

    def ask(self, tick: int) -> None:
        """Let the policy think about the newest observation, if a chunk is wanted and it is not thinking already."""
        if self.request is None and self.executor.wants_chunk(tick):
            self.obs = self.episode.observation()
            self.request = self._requests.make(tick)
            latency_s = self._latency.seconds(self.episode.seed, self.request.chunk)
            self.observed, self.usable = tick, tick + charged_ticks(latency_s, self._task.control_hz)

    def deliver(self, tick: int) -> None:
        """Hand the chunk over when its time has come."""
        if self.chunk is not None and tick == self.usable:
            self.executor.deliver(self.chunk, self.observed, tick)
            self.request = self.chunk = None

    def act(self, tick: int) -> None:
        """Execute the action of ``tick``; before the first chunk the robot rests."""
        action = self.executor.action(tick)
        if action is None:
            if self._task.rest_action is None:
                raise OneDPError(
                    f"The task {self._task.name} does not say how its robot rests, so no latency can be charged before "
                    "the first chunk. Give it a rest_action."
                )
            action = self._task.rest_action(self.episode.newest)
        self.episode.step(action)


def _think(policy: Policy, runs: Sequence[_Run], active: Sequence[_Run], tick: int, first_row: int) -> None:
    """Compute what is due, together with everything else that was asked meanwhile, and deliver it."""
    asked = [i for i, run in enumerate(runs) if run.request is not None and run.chunk is None and not run.episode.done]
    if any(runs[i].usable == tick for i in asked):
        filled = {first_row + i: i for i in asked}
        rows = [runs[filled.get(row, asked[0])] for row in range(GROUP_SIZE)]
        requests = [run.request for run in rows if run.request is not None]
        obs = {name: np.stack([run.obs[name] for run in rows]) for name in rows[0].obs}
        noise = np.stack([request.noise for request in requests])
        chunks = infer_chunks(policy, obs, noise, stacked(requests))  # (B, Tc, Da)
        for row, i in filled.items():
            runs[i].chunk = chunks[row]
    for run in active:
        run.deliver(tick)


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


def record_episode(
    policy: Policy, task: Task, seed: int, first_seed: int, size: int = 256, execution: Execution = FROZEN
) -> RolloutRecording:
    """Run the episode ``seed`` of an evaluation that began at ``first_seed``, again and exactly, with pictures."""
    camera = _Camera(task.make_env(), size)
    row = (seed - first_seed) % GROUP_SIZE
    (rollout,) = run_group(policy, task, [camera], [seed], row, execution)
    return RolloutRecording(camera.frames, camera.scores, rollout.result.success)


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
