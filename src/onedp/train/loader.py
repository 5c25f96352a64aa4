"""Batches made ahead of the loop by threads, in an order that depends on nothing but the run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from onedp.errors import OneDPError
from onedp.methods.method import Batch

Key = tuple[int, int]
"""(step, position of the update within the step)."""

BATCHES_AHEAD = 2
"""Per thread; each waits in memory."""


class BatchLoader:
    """Gives the batches of ``keys`` in their order; ``threads`` make them ahead, 0 makes them when they are asked for.

    Threads suffice: decoders and numpy's copies release the interpreter's lock. What ``make`` raises is raised by
    ``get``.
    """

    def __init__(self, make: Callable[[int, int], Batch], keys: Iterator[Key], threads: int):
        self._make = make
        self._keys = keys
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="loader") if threads else None
        self._waiting: deque[tuple[Key, Future[tuple[Batch, float]]]] = deque()
        self.windows = 0
        """Windows handed out."""
        self.busy_s = 0.0
        """Time that making them took, over all threads [s]."""
        self.waited_s = 0.0
        """Time that the loop waited for them [s]."""
        self._fill()

    def get(self, step: int, position: int) -> Batch:
        """The next batch, which must be that of this step and position."""
        start = time.perf_counter()
        if self._pool is None:
            batch, seconds = self._timed((step, position))
        else:
            key, future = self._waiting.popleft()
            if key != (step, position):
                raise OneDPError(f"The loader has the batch of step and update {key}, asked for {(step, position)}.")
            batch, seconds = future.result()
            self._fill()
        self.waited_s += time.perf_counter() - start
        self.busy_s += seconds
        self.windows += len(batch)
        return batch

    @property
    def windows_per_s(self) -> float:
        """Windows a second that the loader can make with its threads, were nobody else using the cores."""
        return self.windows * max(1, self.threads) / self.busy_s if self.busy_s > 0 else 0.0

    def close(self) -> None:
        """Stop the threads; batches that nobody asked for are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _fill(self) -> None:
        if self._pool is None:
            return
        while len(self._waiting) < BATCHES_AHEAD * self.threads:
            key = next(self._keys, None)
            if key is None:
                return
            self._waiting.append((key, self._pool.submit(self._timed, key)))

    def _timed(self, key: Key) -> tuple[Batch, float]:
        start = time.perf_counter()
        return self._make(*key), time.perf_counter() - start


WORTH_A_WORD = 0.05
"""Share of the time spent waiting from which the report says what helps."""


def loader_numbers(loader: BatchLoader, seconds: float) -> dict[str, float]:
    """For metrics.jsonl: how fast batches can be made beside how fast training takes them, in windows a second."""
    seconds = max(seconds, 1e-9)
    return {
        "loader/windows_per_s": round(loader.windows_per_s, 1),
        "loader/training_windows_per_s": round(loader.windows / seconds, 1),
        "loader/waiting_share": round(loader.waited_s / seconds, 4),
    }


def loader_report(loader: BatchLoader, seconds: float) -> str:
    """The same in a sentence, with what helps when training waits for the loader."""
    numbers = loader_numbers(loader, seconds)
    share = numbers["loader/waiting_share"]
    text = (
        f"Pictures: the loader makes {numbers['loader/windows_per_s']:,.0f} windows a second with {loader.threads} "
        f"threads, training took {numbers['loader/training_windows_per_s']:,.0f}; it waited {share:.1%} of the time."
    )
    return text + (" --frame-cache DIR or more --loader-threads would help." if share > WORTH_A_WORD else "")
