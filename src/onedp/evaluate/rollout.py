"""Running episodes. The numbers do not depend on how many workers run them.

Episodes are cut into fixed groups of consecutive seeds; a worker takes whole groups. A group runs in lock-step through
one policy with one thread, and the batch holds its running episodes in the order of their seeds. So which arithmetic a
row meets follows from the group alone: its batch sizes are known from how long its episodes lasted, and one episode
can be run again exactly. An episode's start comes from its own seed, its noise and sampled latencies from (seed, chunk
number).

Time is virtual: a simulation waits for the policy, and the latency that the policy is charged decides how many control
ticks go by, under the executor that a robot would run, until a chunk may be used. The default charges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from onedp.data.robomimic_writer import Demonstration
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
"""Episodes in lock-step at the most; part of what makes numbers repeat, so not an option."""
FROZEN = Execution()
"""The world waits while the policy thinks."""


class Episode:
    """One running episode: its environment, its last To observations and its best reward so far."""

    def __init__(self, task: Task, env: Environment, seed: int, n_obs_steps: int):
        self.seed = seed
        self.max_steps = task.max_steps
        self._env = env
        self._rest_action = task.rest_action
        self._n_obs_steps = n_obs_steps
        self._observations = [env.reset(seed)]
        self.score = 0.0
        self.success = False
        self.way: str | None = None
        self.done = False
        self.steps = 0

    def observation(self) -> dict[str, ndarray]:
        """The last To observations, the first one repeated at the start: ``{name: (To, *shape)}``."""
        missing = self._n_obs_steps - len(self._observations)
        window = [self._observations[0]] * missing + self._observations[-self._n_obs_steps :]
        return {name: np.stack([obs[name] for obs in window]) for name in window[0]}

    def step(self, action: ndarray | None) -> None:
        """Execute one action; before the first one (None) the robot rests."""
        if action is None:
            if self._rest_action is None:
                raise OneDPError(
                    "The task does not say how its robot rests, so no latency can be charged before the first chunk. "
                    "Give the task a rest_action."
                )
            action = self._rest_action(self._observations[-1])
        result = self._env.step(action)
        self._observations = [*self._observations[-self._n_obs_steps + 1 :], result.obs][-self._n_obs_steps :]
        self.steps += 1
        self.score = max(self.score, result.reward)
        self.success = self.success or result.success
        self.way = result.way or self.way
        self.done = result.done or self.steps >= self.max_steps

    def result(self) -> EpisodeResult:
        """What the evaluation keeps of it."""
        return EpisodeResult(self.seed, self.score, self.success, self.steps, self.way)


class _Ghost:
    """Stands for another episode of the group, of which only the length is known: it asks when that one asked."""

    def __init__(self, real: Episode, seed: int, steps: int):
        self.seed = seed
        self._real = real
        self._left = steps

    @property
    def done(self) -> bool:
        return self._left <= 0

    def observation(self) -> dict[str, ndarray]:
        return self._real.observation()

    def step(self, action: ndarray | None) -> None:
        self._left -= 1


@dataclass(frozen=True)
class Rollout:
    """One finished episode and what its timing cost."""

    result: EpisodeResult
    counters: Counters
    seams: Seams
    demonstration: Demonstration | None = None
    """The whole episode, where it was asked for (``onedp.evaluate.recorder``)."""


def run_group(
    policy: Policy, task: Task, envs: Sequence[Environment], seeds: Sequence[int], execution: Execution = FROZEN
) -> list[Rollout]:
    """Run the episodes of ``seeds`` in lock-step, one environment each; those that are over leave the batch."""
    ticks_per_step = round(task.control_hz / policy.spec.rate_hz)
    policy = at_control_rate(policy, task.control_hz)
    episodes = [Episode(task, env, seed, policy.spec.n_obs_steps) for env, seed in zip(envs, seeds, strict=False)]
    runs = _run(policy, task, episodes, execution, ticks_per_step)
    return [
        Rollout(episode.result(), run.executor.counters, run.executor.seams)
        for episode, run in zip(episodes, runs, strict=True)
    ]


def rerun_episode(
    policy: Policy,
    task: Task,
    env: Environment,
    seed: int,
    group_steps: Mapping[int, int],
    execution: Execution = FROZEN,
) -> EpisodeResult:
    """Run one episode of a group again, exactly, without the others.

    ``group_steps``: seeds of its group to the steps each of them lasted, which say how large the batch was at every
    chunk and which row was this episode's. The other rows repeat its own inputs.
    """
    ticks_per_step = round(task.control_hz / policy.spec.rate_hz)
    policy = at_control_rate(policy, task.control_hz)
    real = Episode(task, env, seed, policy.spec.n_obs_steps)
    episodes = [real if other == seed else _Ghost(real, other, steps) for other, steps in sorted(group_steps.items())]
    _run(policy, task, episodes, execution, ticks_per_step)
    return real.result()


def _run(
    policy: Policy, task: Task, episodes: Sequence[Episode | _Ghost], execution: Execution, ticks_per_step: int
) -> list[_Run]:
    """Run until every real episode is over; ``policy`` acts at the task's control rate."""
    runs = []
    for episode in episodes:
        executor = execution.make_executor(policy.spec, ticks_per_step, task.hold_action)
        runs.append(_Run(episode, executor, ChunkRequests(policy, executor, episode.seed, execution.noise)))
    tick = 0
    while not all(run.episode.done for run in runs if isinstance(run.episode, Episode)):
        running = [run for run in runs if not run.episode.done]
        _think(policy, running, tick)
        for run in running:
            run.ask(tick, execution, task.control_hz)
        _think(policy, running, tick)  # a latency of 0 is usable at once
        for run in running:
            run.episode.step(run.executor.action(tick))
        tick += 1
    return runs


class _Run:
    """One episode, its executor and the chunk that its policy is thinking about."""

    def __init__(self, episode: Episode | _Ghost, executor: ChunkExecutor, requests: ChunkRequests):
        self.episode = episode
        self.executor = executor
        self.request: ChunkRequest | None = None
        self.obs: dict[str, ndarray] = {}
        self.chunk: ndarray | None = None
        self.observed = self.usable = 0
        self._requests = requests

    def ask(self, tick: int, execution: Execution, control_hz: float) -> None:
        """Let the policy think about the newest observation, if a chunk is wanted and it is not thinking already."""
        if self.request is None and self.executor.wants_chunk(tick):
            self.obs = self.episode.observation()
            self.request = self._requests.make(tick)
            latency_s = execution.latency.seconds(self.episode.seed, self.request.chunk)
            self.observed, self.usable = tick, tick + charged_ticks(latency_s, control_hz)

    def deliver(self, tick: int) -> None:
        """Hand the chunk over when its time has come."""
        if self.chunk is not None and tick == self.usable:
            self.executor.deliver(self.chunk, self.observed, tick)
            self.request = self.chunk = None


def _think(policy: Policy, running: Sequence[_Run], tick: int) -> None:
    """Compute what is due now, in one batch with all else that was asked and not computed yet, and deliver it."""
    asked = [(run, run.request) for run in running if run.request is not None and run.chunk is None]
    if any(run.usable == tick for run, _ in asked):
        obs = {name: np.stack([run.obs[name] for run, _ in asked]) for name in asked[0][0].obs}
        noise = np.stack([request.noise for _, request in asked])
        previous = stacked([request for _, request in asked])
        for (run, _), chunk in zip(asked, infer_chunks(policy, obs, noise, previous), strict=True):
            run.chunk = chunk  # (Tc, Da)
    for run in running:
        run.deliver(tick)


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
    policy: Policy,
    task: Task,
    seed: int,
    rows: Sequence[EpisodeResult],
    size: int = 256,
    execution: Execution = FROZEN,
) -> RolloutRecording:
    """Run the episode ``seed`` of the evaluation that gave ``rows`` again, exactly, with pictures."""
    camera = _Camera(task.make_env(), size)
    result = rerun_episode(policy, task, camera, seed, steps_of_group(rows, seed), execution)
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
