"""One thread a policy. It takes what has queued up meanwhile in one pass of the network.

Batching pays wherever a pass over 16 rows costs less than 16 passes, on a CPU too: measured in docs/serving.md. Chunks
that go on from others and chunks that stand alone are never of one pass.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray

from onedp.errors import OneDPError, ServeError
from onedp.types import Continuation, ContinuingPolicy, Policy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """Actions of one request and what they cost."""

    actions: ndarray
    """``(B, Tp - To + 1, Da)``, float32."""
    queue_s: float
    """From the request to the start of its pass [s]."""
    infer_s: float
    """The pass [s], shared by all requests in it."""
    batch_rows: int
    """Observations in that pass."""


@dataclass(frozen=True)
class _Job:
    obs: Mapping[str, ndarray]
    noise: ndarray
    previous: Continuation | None
    submitted_at: float
    answer: Future[Answer] = field(default_factory=Future)

    @property
    def rows(self) -> int:
        return len(self.noise)


class PolicyWorker:
    """Runs one policy in one thread; ``submit`` from any thread."""

    def __init__(
        self, name: str, policy: Policy, max_rows: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._name = name
        self._policy = policy
        self._max_rows = max_rows
        self._clock = clock
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"policy {name}", daemon=True)

    def start(self) -> None:
        """Begin to work. What was submitted before is taken first."""
        self._thread.start()

    def submit(
        self, obs: Mapping[str, ndarray], noise: ndarray, previous: Continuation | None = None
    ) -> Future[Answer]:
        """Queue a checked request. The future may be cancelled while it waits; it raises ``ServeError``.

        ``previous`` needs a ``ContinuingPolicy``.
        """
        job = _Job(obs, noise, previous, self._clock())
        self._queue.put(job)
        return job.answer

    def close(self, timeout_s: float) -> None:
        """Finish what is queued, then end the thread; give up on it after ``timeout_s``."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        held: _Job | None = None  # did not fit into the pass before
        while True:
            first = held or self._queue.get()
            if first is None:
                return
            jobs, held, last = self._collect(first)
            jobs = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if jobs:
                self._run(jobs)
            if last:
                self._queue.put(None)

    def _collect(self, first: _Job) -> tuple[list[_Job], _Job | None, bool]:
        """The jobs of one pass, one that did not fit, and whether the worker was told to end."""
        jobs, rows = [first], first.rows
        while rows < self._max_rows:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, None, True
            if rows + job.rows > self._max_rows or (job.previous is None) != (first.previous is None):
                return jobs, job, False
            jobs.append(job)
            rows += job.rows
        return jobs, None, False

    def _run(self, jobs: list[_Job]) -> None:
        started_at = self._clock()
        try:
            obs = {name: np.concatenate([job.obs[name] for job in jobs]) for name in jobs[0].obs}
            noise = np.concatenate([job.noise for job in jobs])
            actions = self._checked(self._chunks(obs, noise, jobs), len(noise))
        except Exception as error:
            if len(jobs) > 1:  # one request may have spoiled it for the others
                for job in jobs:
                    self._run([job])
                return
            if not isinstance(error, OneDPError):
                logger.exception("policy %s failed", self._name)
            jobs[0].answer.set_exception(
                ServeError(f"The policy '{self._name}' failed: {type(error).__name__}: {error}")
            )
            return
        infer_s, first_row = self._clock() - started_at, 0
        for job in jobs:
            own = actions[first_row : first_row + job.rows]
            first_row += job.rows
            job.answer.set_result(Answer(own, started_at - job.submitted_at, infer_s, len(noise)))

    def _chunks(self, obs: Mapping[str, ndarray], noise: ndarray, jobs: list[_Job]) -> ndarray:
        previous = [job.previous for job in jobs if job.previous is not None]
        if not previous:
            return self._policy.infer(obs, noise)
        assert isinstance(self._policy, ContinuingPolicy)  # read_request refused others
        return self._policy.infer_continuing(obs, noise, Continuation.joined(previous))

    def _checked(self, actions: ndarray, rows: int) -> ndarray:
        expected = (rows, self._policy.spec.chunk_length, self._policy.spec.action_dim)
        if np.shape(actions) != expected or not np.isfinite(actions).all():
            raise ServeError(f"its actions have the shape {np.shape(actions)}, expected {expected}, all finite.")
        return np.asarray(actions, dtype=np.float32)
