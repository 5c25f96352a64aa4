from __future__ import annotations

import threading

import pytest
import torch

from onedp.errors import DataError, OneDPError
from onedp.methods.method import Batch
from onedp.train.loader import BatchLoader, loader_numbers, loader_report

KEYS = [(step, position) for step in range(4) for position in range(2)]


def batch_of(step: int, position: int) -> Batch:
    return Batch({"x": torch.full((3, 1), 10.0 * step + position)})


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_come_in_the_order_of_the_run_whatever_the_threads(threads: int) -> None:
    loader = BatchLoader(batch_of, iter(KEYS), threads)
    got = [float(loader.get(*key).nobs["x"][0]) for key in KEYS]
    loader.close()
    assert got == [10.0 * step + position for step, position in KEYS]
    assert loader.windows == 3 * len(KEYS)


def test_they_are_made_ahead_but_not_all() -> None:
    made: list[tuple[int, int]] = []
    enough = threading.Event()

    def make(step: int, position: int) -> Batch:
        made.append((step, position))
        if len(made) == 2:
            enough.set()
        return batch_of(step, position)

    loader = BatchLoader(make, iter(KEYS), 1)
    assert enough.wait(30)
    loader.close()
    assert made == KEYS[:2]  # two for each thread


def test_what_a_thread_raises_comes_out_where_the_batch_is_asked_for() -> None:
    def make(step: int, position: int) -> Batch:
        raise DataError("the video is truncated")

    loader = BatchLoader(make, iter(KEYS), 2)
    with pytest.raises(DataError, match="the video is truncated"):
        loader.get(0, 0)
    loader.close()


def test_another_batch_than_the_next_is_refused() -> None:
    loader = BatchLoader(batch_of, iter(KEYS), 1)
    with pytest.raises(OneDPError, match=r"has the batch of step and update \(0, 0\), asked for \(1, 0\)"):
        loader.get(1, 0)
    loader.close()


def test_report_says_what_helps_when_training_waits() -> None:
    loader = BatchLoader(batch_of, iter(KEYS), 2)
    loader.windows, loader.busy_s, loader.waited_s = 1000, 4.0, 1.0
    assert loader_numbers(loader, 8.0) == {
        "loader/windows_per_s": 500.0,
        "loader/training_windows_per_s": 125.0,
        "loader/waiting_share": 0.125,
    }
    assert loader_report(loader, 8.0) == (
        "Pictures: the loader makes 500 windows a second with 2 threads, training took 125; it waited 12.5% of the "
        "time. --frame-cache DIR or more --loader-threads would help."
    )
    assert loader_report(loader, 80.0).endswith("it waited 1.2% of the time.")
    loader.close()
