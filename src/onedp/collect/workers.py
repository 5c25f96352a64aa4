"""Starts attempted in worker processes, their results in order; those of a process that died are attempted again."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from onedp.errors import OneDPError

MOST_LOSSES = 3
Result = TypeVar("Result")


def attempts_in_order(attempt: Callable[[int], Result], seeds: Iterable[int], workers: int) -> Iterator[Result]:
    """``attempt(seed)`` for every seed, as they are asked for; two for each worker are under way.

    ``attempt`` is pickled, so what it opens it must open when it is called: an error there is raised here, one in a
    process's start would only break the pool. Raises ``OneDPError`` when ``MOST_LOSSES`` processes in a row died.
    """
    waiting, missing, losses = iter(seeds), deque[int](), 0
    while True:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            running: deque[Future[Result]] = deque()
            try:
                while True:
                    missing.extend(islice(waiting, 2 * workers - len(missing)))
                    running.extend(pool.submit(attempt, seed) for seed in islice(missing, len(running), None))
                    if not running:
                        return
                    result = running[0].result()
                    running.popleft()
                    missing.popleft()
                    losses = 0
                    yield result
            except BrokenProcessPool as error:
                losses += 1
                if losses == MOST_LOSSES:
                    raise OneDPError(
                        f"{MOST_LOSSES} workers in a row were lost, the last one near seed {missing[0]}. Something "
                        "stops them, most often too little memory: use fewer --workers, or run --workers 1 to see it."
                    ) from error
            finally:
                pool.shutdown(cancel_futures=True)
