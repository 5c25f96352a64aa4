"""What is kept is read once, and no more is kept than there is room for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from onedp.data.kept import Kept
from onedp.errors import DataError


class Disk:
    """Arrays of ten bytes, and how often each was read."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def reader(self, key: str, size: int = 10) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            self.reads.append(key)
            return np.full(size, ord(key), dtype=np.uint8)

        return read


def test_what_is_asked_for_again_is_not_read_again() -> None:
    disk, kept = Disk(), Kept()
    first = kept.get("a", disk.reader("a"))
    assert kept.get("a", disk.reader("a")) is first
    assert disk.reads == ["a"]


def test_the_room_is_never_exceeded_and_what_was_not_used_the_longest_goes() -> None:
    disk, kept = Disk(), Kept(most_bytes=25)
    for key in "abacbacb":  # there is room for two: b goes for c, then c for b, ...
        np.testing.assert_array_equal(kept.get(key, disk.reader(key)), ord(key))
        assert kept.nbytes <= 25
    assert "".join(disk.reads) == "abcbacb"


def test_one_thing_that_is_larger_is_kept_alone() -> None:
    disk, kept = Disk(), Kept(most_bytes=25)
    kept.get("a", disk.reader("a"))
    for _ in range(2):
        kept.get("b", disk.reader("b", size=100))
        assert kept.nbytes == 100
    kept.get("a", disk.reader("a"))
    assert kept.nbytes == 10
    assert disk.reads == ["a", "b", "a"]


def test_a_failure_is_not_kept() -> None:
    disk, kept = Disk(), Kept()

    def fail() -> np.ndarray:
        raise DataError("the disk is gone")

    with pytest.raises(DataError, match="the disk is gone"):
        kept.get("a", fail)
    assert kept.nbytes == 0
    assert kept.get("a", disk.reader("a"))[0] == ord("a")


def test_threads_that_want_the_same_wait_for_one() -> None:
    disk, kept, together = Disk(), Kept(), threading.Barrier(8)

    def ask(_: int) -> np.ndarray:
        together.wait()
        return kept.get("a", disk.reader("a"))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert disk.reads == ["a"]
    assert all(each is found[0] for each in found)


def test_threads_without_room_still_get_what_they_asked_for() -> None:
    disk, kept = Disk(), Kept(most_bytes=15)

    def ask(number: int) -> bool:
        key = "abcdef"[number % 6]
        return bool((kept.get(key, disk.reader(key)) == ord(key)).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(600)))
    assert 0 <= kept.nbytes <= 15


def test_what_was_thrown_out_while_it_was_read_is_given_but_does_not_count() -> None:
    disk, kept = Disk(), Kept(most_bytes=5)

    def slow() -> np.ndarray:
        kept.get("b", disk.reader("b"))  # newer, and more than there is room for
        return disk.reader("a")()

    assert kept.get("a", slow)[0] == ord("a")
    assert kept.nbytes == 10  # b alone
    kept.get("b", disk.reader("b"))
    assert disk.reads == ["b", "a"]
