"""One policy on one Push-T, tick by tick. Knows no real time: what paces it may be a thread or a test.

With a charged latency the lane is an evaluation that one can touch: a chunk from the observation of tick t is used from
tick t + ceil(latency x rate) on, and the world waits where the policy really needs longer. Without one (``latency`` is
None) a chunk is used from the tick at which it really comes, and the world waits for nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from onedp.errors import OneDPError
from onedp.live.drag import inside_walls, pull
from onedp.runtime.execution import NO_LATENCY, Execution
from onedp.runtime.latency import LatencyModel, charged_ticks
from onedp.runtime.observations import ObservationBuffer
from onedp.runtime.planner import Planner
from onedp.runtime.requests import ChunkRequests
from onedp.runtime.resampled import at_control_rate
from onedp.tasks import Task
from onedp.tasks.pusht import PushTEnvironment
from onedp.types import Policy

PlannerMaker = Callable[[Policy], Planner]


@dataclass(frozen=True)
class Timing:
    """How a lane's policy is executed."""

    latency: LatencyModel | None = NO_LATENCY
    """Charged for every chunk; None: what thinking really takes."""
    executor: str = "sync"
    """A name of ``onedp.runtime.executor.EXECUTORS``."""


class Lane:
    """A simulation, and the policy that acts in it. Not thread-safe."""

    def __init__(self, task: Task, policy: Policy, timing: Timing, make_planner: PlannerMaker, seed: int = 0):
        """``policy``: at its own rate. ``make_planner``: who thinks; gets the policy at the task's control rate.

        Raises ``OneDPError`` when the task is no Push-T, or the policy does not fit it or its executor.
        """
        env = task.make_env()
        if not isinstance(env, PushTEnvironment) or task.rest_action is None:
            raise OneDPError(f"'{task.name}' cannot be drawn here, only Push-T can.")
        self.task = task
        self.solved_times = 0
        self.error: str | None = None
        """What the policy raised; it is not asked again before ``configure`` or ``reset``."""
        self.held: ndarray | None = None
        """Pose that a hand pulls the T to; None when nobody does."""
        self._env = env
        self._rest_action = task.rest_action
        self._make_planner = make_planner
        self._planner: Planner | None = None
        self._forgotten: list[Planner] = []  # closed, with their policy still at work
        self.reward = self.score = 0.0  # of the newest tick, and the best of the attempt
        self.solved_after_s: float | None = None
        """From the beginning of the attempt; None while it has not come to its goal."""
        self._asked: int | None = None  # tick of the observation that the policy thinks about
        self._due = 0  # tick at which its chunk is charged to come
        self._delay_ticks: int | None = None  # of the newest chunk
        self._agent_target: ndarray | None = None
        self._configure(policy, timing)
        self.reset(seed)

    # --- what a user does

    def configure(self, policy: Policy, timing: Timing) -> None:
        """Go on from here with another policy or timing; a chunk in the making is forgotten, counters begin again.

        Raises ``OneDPError``, with nothing changed, when they do not fit.
        """
        self._configure(policy, timing)
        self._begin_chunks()

    def _configure(self, policy: Policy, timing: Timing) -> None:
        spec, expected = policy.spec, self.task.spec
        if (spec.observations, spec.action) != (expected.observations, expected.action):
            raise OneDPError(f"The policy does not fit the observations or actions of '{self.task.name}'.")
        control = at_control_rate(policy, self.task.control_hz)
        execution = Execution(timing.latency or NO_LATENCY, timing.executor)
        executor = execution.make_executor(control.spec, self.task.ticks_per_step)
        ChunkRequests(control, executor, 0)  # refuses an executor that the policy cannot serve
        self._policy, self._timing, self._execution = control, timing, execution
        self._buffer = ObservationBuffer(control.spec)

    def reset(self, seed: int) -> None:
        """The start of ``seed``, at tick 0."""
        self.seed, self.tick, self.held = seed, 0, None
        self._agent_target = None
        self._observe(self._env.reset(seed))
        self._begin_attempt()
        self._begin_chunks()

    def pull_to(self, pose: Float[ndarray, " 3"]) -> None:
        """A hand takes the T and pulls it towards this pose (x, y [px], angle [rad]) until ``release``."""
        self.held = inside_walls(pose)

    def release(self) -> None:
        """Let the T go where it is; a new attempt begins."""
        if self.held is not None:
            self.held = None
            self._begin_attempt()

    # --- time

    def advance(self) -> bool:
        """One control tick; False, with nothing changed, while the world waits for a policy that is charged less.

        After a success the robot rests, as an episode ends with it, until somebody takes the T.
        """
        if self.solved_after_s is not None and self.held is None:
            self._asked = self._agent_target = None
            self._act(None)
            return True
        if not self._think():
            return False
        self._act(self._executor.action(self.tick))
        return True

    def miss(self) -> None:
        """One control tick at which the loop was not there: the robot goes on to where it was sent last."""
        self._executor.skip(self.tick - 1, 1)
        self._act(self._agent_target)

    def _think(self) -> bool:
        if self.error is not None:
            return True
        try:
            arrived = self._deliver()
            if self._asked is None and self._executor.wants_chunk(self.tick):
                self._ask()
                arrived = self._deliver()
        except Exception as error:  # a policy's own; the page shows it, other lanes go on
            self.error = f"{type(error).__name__}: {error}"
            return True
        return arrived

    def _ask(self) -> None:
        request = self._requests.make(self.tick)
        latency_s = self._execution.latency.seconds(self.seed, request.chunk)
        self._asked = self.tick
        self._due = self.tick + charged_ticks(latency_s, self.task.control_hz)
        assert self._planner is not None  # made with the chunks
        self._planner.start(self._buffer.window(), request.noise[None], request.previous)

    def _deliver(self) -> bool:
        """Hand over the chunk if its time has come; False when it has and the chunk is not there."""
        charged = self._timing.latency is not None
        if self._asked is None or (charged and self.tick < self._due):
            return True
        assert self._planner is not None
        chunk = self._planner.poll()
        if chunk is None:
            return not charged
        self._executor.deliver(chunk, self._asked, self.tick)
        self._delay_ticks, self._asked = self.tick - self._asked, None
        return True

    def _act(self, action: ndarray | None) -> None:
        if action is None:
            action = self._rest_action(self._observation)
        else:
            self._agent_target = action
        if self.held is not None:
            pull(self._env, self.held, 1 / self.task.control_hz)
        result = self._env.step(action)
        self.tick += 1
        self.reward = result.reward
        self._observe(result.obs)
        if self.held is not None:
            return  # a hand earns nothing
        self.score = max(self.score, result.reward)
        if result.success and self.solved_after_s is None:  # its episode would end here
            self.solved_after_s = (self.tick - self._attempt_tick) / self.task.control_hz
            self.solved_times += 1

    def _observe(self, observation: dict[str, ndarray]) -> None:
        self._observation = observation
        self._buffer.push(observation)

    def _begin_attempt(self) -> None:
        self._attempt_tick = self.tick
        self.reward = self.score = 0.0
        self.solved_after_s = None

    def _begin_chunks(self) -> None:
        """A new executor and planner: nothing is planned, nothing counted."""
        self.close()
        self.error = None
        self._buffer.clear()
        self._buffer.push(self._observation)
        self._executor = self._execution.make_executor(self._policy.spec, self.task.ticks_per_step)
        self._requests = ChunkRequests(self._policy, self._executor, self.seed)
        self._forgotten = [each for each in (*self._forgotten, self._planner) if each is not None and _is_busy(each)]
        self._planner = self._make_planner(self._policy)
        self._asked = self._delay_ticks = None

    def close(self) -> None:
        """Let the thinking thread go, where there is one."""
        close = getattr(self._planner, "close", None)
        if close is not None:
            close()

    @property
    def busy(self) -> bool:
        """Whether a policy is at work for this lane, be it on a chunk that was forgotten."""
        return any(_is_busy(each) for each in (*self._forgotten, self._planner))

    # --- what a user sees

    @property
    def chunks(self) -> int:
        """Chunks that came since the last ``reset`` or ``configure``."""
        return self._executor.seams.chunks

    @property
    def counters(self) -> dict[str, int]:
        """See ``onedp.runtime.executor.Counters``."""
        return asdict(self._executor.counters)

    def plan(self) -> Float[ndarray, "n 2"]:
        """Targets of the newest chunk from now on, one a step of the policy [px]."""
        tail = self._executor.tail(self.tick)
        return np.zeros((0, 2)) if tail is None else tail[:: self.task.ticks_per_step].astype(np.float64)

    def snapshot(self) -> dict[str, Any]:
        """Plain data of this moment: positions [px], angles [rad], times [s]."""
        state = self._env.raw_state()
        target = self._agent_target
        delay = self._delay_ticks
        return {
            "seed": self.seed,
            "tick": self.tick,
            "agent": _rounded(state[:2], 1),
            "block": [*_rounded(state[2:4], 1), round(float(state[4]), 4)],
            "target": None if target is None else _rounded(target, 1),
            "plan": [_rounded(point, 1) for point in self.plan()],
            "held": self.held is not None,
            "thinking": self._asked is not None,
            "reward": round(self.reward, 3),
            "score": round(self.score, 3),
            "attempt_s": round((self.tick - self._attempt_tick) / self.task.control_hz, 2),
            "solved_after_s": self.solved_after_s,
            "solved_times": self.solved_times,
            "delay_ms": None if delay is None else math.floor(1000 * delay / self.task.control_hz),
            "chunks": self.chunks,
            "counters": self.counters,
            "error": self.error,
        }


def _is_busy(planner: Planner | None) -> bool:
    return getattr(planner, "busy", False)  # one without a thread is done when it was asked


def _rounded(point: ndarray, digits: int) -> list[float]:
    return [round(float(value), digits) for value in point]
