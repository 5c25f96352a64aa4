"""Workers that are lost, and errors in them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from onedp.collect.workers import attempts_in_order
from onedp.errors import OneDPError


def dying_once(folder: Path, deadly: int, seed: int) -> int:
    """The seed; the first process that is given the deadly one dies."""
    if seed == deadly and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(1)
    return seed


def dying(seed: int) -> int:
    os._exit(1)


def unable(seed: int) -> int:
    raise OneDPError(f"no simulator for {seed}")


def test_results_come_in_order_whatever_process_dies(tmp_path: Path) -> None:
    found = attempts_in_order(partial(dying_once, tmp_path, 3), range(7), workers=2)
    assert list(found) == list(range(7))
    assert (tmp_path / "died").exists()


def test_workers_that_die_again_and_again_are_given_up() -> None:
    with pytest.raises(OneDPError, match=r"3 workers in a row were lost, the last one near seed 5.*--workers 1"):
        list(attempts_in_order(dying, range(5, 9), workers=1))


def test_an_error_in_a_worker_is_the_users() -> None:
    with pytest.raises(OneDPError, match="no simulator for 5"):
        list(attempts_in_order(unable, range(5, 9), workers=2))


def test_no_more_is_attempted_than_is_asked_for(tmp_path: Path) -> None:
    seeds = iter(range(10**9))
    found = attempts_in_order(partial(dying_once, tmp_path, -1), seeds, workers=1)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    assert next(seeds) < 6
