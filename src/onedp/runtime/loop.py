"""The control loop: observe, think without waiting, act, at the spec's rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from numpy import ndarray

from onedp.errors import OneDPError
from onedp.runtime.clock import Clock
from onedp.runtime.executor import ChunkExecutor
from onedp.runtime.limits import ActionLimiter
from onedp.runtime.observations import ObservationBuffer
from onedp.runtime.planner import Planner
from onedp.runtime.requests import ChunkRequests
from onedp.runtime.watchdog import Watchdog
from onedp.types import Policy

ROUNDING_TICKS = 1e-6


@dataclass(frozen=True)
class Observation:
    """What a robot sees at one control step."""

    moment: float
    """When it was taken, on the loop's clock [s]: an old camera frame keeps its old time."""
    fields: Mapping[str, ndarray]
    """``{name: (*shape)}``, physical units."""


@runtime_checkable
class Robot(Protocol):
    """What the loop needs of a robot."""

    def observe(self) -> Observation:
        """The newest observation; must not wait for one."""
        ...

    def act(self, action: ndarray) -> None:
        """Command one action ``(Da,)``, physical units."""
        ...

    def stop(self) -> None:
        """Stop and stay stopped: later actions are ignored. May come from another thread, during ``act`` too."""
        ...


@dataclass(frozen=True)
class ControlLoop:
    """One episode of one policy on one robot. All parts are made for this episode and share the clock."""

    robot: Robot
    policy: Policy
    """Its spec and noise; the planner is who asks it."""
    planner: Planner
    executor: ChunkExecutor
    limiter: ActionLimiter
    watchdog: Watchdog
    """Its ``stop`` is the robot's."""
    clock: Clock
    noise: str = "fresh"
    """A name of ``onedp.runtime.requests.NOISES``: how the noises of chunks hang together."""

    def run(self, ticks: int, seed: int = 0) -> str:
        """Run for ``ticks`` control steps, or until the watchdog stops the robot; say why it ended.

        The robot is stopped whatever happens: at the end, by the watchdog, and when anything raises. ``seed``: of the
        noise of the episode. Raises ``OneDPError`` when there is no tick to run.
        """
        try:
            self._run(ticks, seed)
        except BaseException as error:
            self.watchdog.stop(f"{type(error).__name__}: {error}")
            raise
        self.watchdog.stop(f"the {ticks} ticks are over")
        assert self.watchdog.reason is not None  # stopped above, or before
        return self.watchdog.reason

    def _run(self, ticks: int, seed: int) -> None:
        if ticks < 1:
            raise OneDPError(f"The loop is to run for {ticks} ticks, expected at least 1.")
        rate = self.policy.spec.rate_hz
        buffer, thinking = ObservationBuffer(self.policy.spec), _Thinking(self, seed)
        start, tick = self.clock.now(), 0
        while tick < ticks:
            self.clock.sleep_until(start + tick / rate)
            observation = self.robot.observe()
            self.watchdog.observed(observation.moment)
            buffer.push(observation.fields)
            thinking.go_on(tick, buffer)
            if not self.watchdog.check():
                return
            action = self.executor.action(tick)
            if action is not None:
                self.robot.act(self.limiter(action))
            now = math.floor((self.clock.now() - start) * rate + ROUNDING_TICKS)
            if missed := max(0, min(now, ticks) - tick - 1):
                self.executor.skip(tick, missed)
            tick = max(now, tick + 1)


class _Thinking:
    """Carries chunks from the planner to the executor, and knows since which tick the policy thinks."""

    def __init__(self, loop: ControlLoop, seed: int):
        self._loop = loop
        self._requests = ChunkRequests(loop.policy, loop.executor, seed, loop.noise)
        self._observed: int | None = None

    def go_on(self, tick: int, buffer: ObservationBuffer) -> None:
        """Take what is done, and ask for the next chunk if the executor wants one."""
        self._deliver(tick)
        if self._observed is None and self._loop.executor.wants_chunk(tick):
            request = self._requests.make(tick)
            self._loop.watchdog.asked()
            self._loop.planner.start(buffer.window(), request.noise[None], request.previous)
            self._observed = tick
            self._deliver(tick)  # a simulation may charge nothing

    def _deliver(self, tick: int) -> None:
        if self._observed is None:
            return
        chunk = self._loop.planner.poll()
        if chunk is not None:
            self._loop.watchdog.answered()
            self._loop.executor.deliver(chunk, observed=self._observed, usable=tick)
            self._observed = None
