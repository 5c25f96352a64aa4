"""Who thinks while the robot keeps its rate: a thread on the real robot, charged time in a simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from numpy import ndarray

from onedp.runtime.clock import Clock
from onedp.runtime.requests import infer_chunks
from onedp.types import Continuation, Policy

ROUNDING_S = 1e-9
"""Tick times are sums of floats: a latency of exactly one period must not cost two."""


@runtime_checkable
class Planner(Protocol):
    """Asks a policy, one chunk at a time, and never blocks."""

    def start(self, obs: Mapping[str, ndarray], noise: ndarray, previous: Continuation | None = None) -> None:
        """Begin to think about ``obs`` ``(1, To, *shape)``; call ``poll`` until it answers before the next.

        ``previous``: what the chunk should go on from; needs a ``ContinuingPolicy``.
        """
        ...

    def poll(self) -> ndarray | None:
        """The chunk ``(Tp - To + 1, Da)``, once; None while thinking. Raises what the policy raised."""
        ...


class ThreadPlanner:
    """Runs the policy in a thread of its own. ``close`` it at the end."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._answer: Future[ndarray] | None = None

    def start(self, obs: Mapping[str, ndarray], noise: ndarray, previous: Continuation | None = None) -> None:
        """See ``Planner``."""
        self._answer = self._pool.submit(infer_chunks, self._policy, obs, noise, previous)

    def poll(self) -> ndarray | None:
        """See ``Planner``."""
        if self._answer is None or not self._answer.done():
            return None
        answer, self._answer = self._answer, None
        return answer.result()[0]

    def close(self) -> None:
        """Let go of the thread; a policy that hangs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class ChargedPlanner:
    """Answers ``latency()`` seconds of its clock after it was asked, whatever the policy really takes."""

    policy: Policy
    clock: Clock
    latency: Callable[[], float]
    """Seconds of the next inference: a constant, or drawn from measured ones."""
    _chunk: ndarray | None = None
    _ready_at: float = 0.0

    def start(self, obs: Mapping[str, ndarray], noise: ndarray, previous: Continuation | None = None) -> None:
        """See ``Planner``."""
        self._chunk = infer_chunks(self.policy, obs, noise, previous)[0]
        self._ready_at = self.clock.now() + self.latency()

    def poll(self) -> ndarray | None:
        """See ``Planner``."""
        if self._chunk is None or self.clock.now() < self._ready_at - ROUNDING_S:
            return None
        chunk, self._chunk = self._chunk, None
        return chunk
