"""Who thinks while the robot keeps its rate: a thread on the real robot, charged time in a simulation."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from numpy import ndarray

from onedp.runtime.clock import Clock
from onedp.runtime.requests import infer_chunks
from onedp.types import Continuation, Policy

ROUNDING_S = 1e-9
"""Tick times are sums of floats: a latency of exactly one period must not cost two."""
LONGEST_WAIT_AT_EXIT_S = 5.0
"""For chunks in the making when Python ends: enough for a policy that thinks, and an end to one that hangs."""


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
    """Runs the policy in a thread of its own. ``close`` it at the end.

    The thread keeps no process alive: when Python ends, a chunk in the making is waited for, but not for longer than
    ``LONGEST_WAIT_AT_EXIT_S``.
    """

    def __init__(self, policy: Policy):
        self._policy = policy
        self._requests: _Requests = queue.SimpleQueue()
        self._answer: Future[ndarray] | None = None
        # Who forgets to close it loses no thread either: the thread knows the queue, not the planner.
        self._end_thread = weakref.finalize(self, self._requests.put, None)
        # A ThreadPoolExecutor would be joined at exit, however long its policy hangs.
        threading.Thread(target=_answer_requests, args=(self._requests,), name="policy", daemon=True).start()

    def start(self, obs: Mapping[str, ndarray], noise: ndarray, previous: Continuation | None = None) -> None:
        """See ``Planner``."""
        if not self._end_thread.alive:
            raise RuntimeError("This planner is closed.")
        self._answer = Future()
        _in_the_making.add(self._answer)
        self._answer.add_done_callback(_in_the_making.discard)
        self._requests.put((self._answer, partial(infer_chunks, self._policy, obs, noise, previous)))

    def poll(self) -> ndarray | None:
        """See ``Planner``."""
        if self._answer is None or not self._answer.done():
            return None
        answer, self._answer = self._answer, None
        return answer.result()[0]

    @property
    def busy(self) -> bool:
        """Whether its policy is at work, after ``close`` too."""
        return self._answer is not None and not self._answer.done()

    def close(self) -> None:
        """Let go of the thread; a policy that hangs is not waited for."""
        self._end_thread()


_Requests = queue.SimpleQueue[tuple[Future[ndarray], Callable[[], ndarray]] | None]
_in_the_making: set[Future[ndarray]] = set()
"""Chunks that the policies of all planners think about."""


def _answer_requests(requests: _Requests) -> None:
    while (request := requests.get()) is not None:
        answer, think = request
        try:
            answer.set_result(think())
        except BaseException as error:  # raised where the answer is polled
            answer.set_exception(error)
        del request, answer, think  # they hold arrays, and the next request may be long in coming


@atexit.register
def _wait_at_exit() -> None:
    """PyTorch aborts the whole process when one of its calls returns to a Python that has ended."""
    wait(_in_the_making, LONGEST_WAIT_AT_EXIT_S)


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
