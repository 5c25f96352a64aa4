"""Demonstrations in memory (or memory-mapped): named arrays with time first, cut into episodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Episodes:
    """Recorded steps of all episodes, one after the other."""

    arrays: Mapping[str, ndarray]
    """Name to array ``(N, ...)``, N steps in all."""
    ends: Int64[ndarray, " episodes"]
    """Index one past the last step of each episode, increasing; the last one is N."""
    source: str
    """Where the data came from, for messages and provenance."""

    def __post_init__(self) -> None:
        check_ends(self.ends, self.source)
        if not self.arrays:
            raise DataError(f"{self.source}: no arrays. Expected at least one with a row for every step.")
        lengths = {name: len(array) if np.ndim(array) else 0 for name, array in self.arrays.items()}
        if set(lengths.values()) != {int(self.ends[-1])}:
            raise DataError(
                f"{self.source}: the last episode ends at step {int(self.ends[-1])}, but the arrays have {lengths} "
                "steps. Expected all equal; the file is truncated or was written by something else. Write it again."
            )

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def n_steps(self) -> int:
        """Steps of all episodes together."""
        return int(self.ends[-1])

    @property
    def starts(self) -> Int64[ndarray, " episodes"]:
        """Index of the first step of each episode."""
        return np.concatenate([[0], self.ends[:-1]]).astype(np.int64)

    @property
    def lengths(self) -> Int64[ndarray, " episodes"]:
        """Steps in each episode."""
        return np.diff(self.ends, prepend=0)

    def episode(self, index: int) -> dict[str, ndarray]:
        """Arrays of one episode, ``(T, ...)`` each."""
        return {name: array[self.starts[index] : self.ends[index]] for name, array in self.arrays.items()}

    def locate(self, step: int) -> tuple[int, int]:
        """Episode that holds the ``step`` of the whole data set, and the step within it; both count from 0."""
        return locate(self.ends, step)

    def require(self, names: Iterable[str]) -> None:
        """Raise ``DataError`` unless all ``names`` are present."""
        missing = sorted(set(names) - set(self.arrays))
        if missing:
            raise DataError(
                f"{self.source}: missing {missing}.{did_you_mean(missing[0], self.arrays)} The data set has "
                f"{sorted(self.arrays)}. Look at it with: onedp inspect {self.source}"
            )

    def require_finite(self, names: Iterable[str]) -> None:
        """Raise ``DataError`` naming the first episode and step with NaN or infinity in any of ``names``."""
        for name in names:
            array = self.arrays[name]
            if not np.issubdtype(array.dtype, np.floating):
                continue
            bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
            if len(bad):
                episode, step = self.locate(int(bad[0]))
                raise DataError(
                    f"{self.source}: '{name}' has NaN or infinity in {len(bad)} steps, first in episode {episode}, "
                    f"step {step}. Expected finite numbers; repair or remove these episodes."
                )

    def digest(self) -> str:
        """SHA-256 over names, shapes, types and bytes: the same data gives the same digest, whatever the file."""
        digest = DataDigest()
        for name in sorted(self.arrays):
            digest.begin(name, self.arrays[name].shape, self.arrays[name].dtype)
            digest.update(self.arrays[name])
        return digest.finish(self.ends)


class DataDigest:
    """The digest of ``Episodes``, fed array by array in the order of their names, each in pieces if need be."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def begin(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Announce the next array."""
        self._digest.update(f"{name} {shape} {dtype.newbyteorder('<').str};".encode())

    def update(self, rows: ndarray) -> None:
        """Add consecutive rows of the announced array."""
        little = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
        if little.size:
            self._digest.update(little.data)

    def finish(self, ends: ndarray) -> str:
        """Add the episode ends; the digest in hexadecimal."""
        self._digest.update(np.ascontiguousarray(ends, dtype="<i8").data)
        return self._digest.hexdigest()


def check_ends(ends: ndarray, source: str) -> None:
    """Raise ``DataError`` unless ``ends`` is a strictly increasing list of at least one positive integer."""
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer):
        raise DataError(
            f"{source}: the episode ends have the shape {ends.shape} and the type {ends.dtype}. Expected a list of "
            "whole numbers, the index one past the last step of each episode."
        )
    if len(ends) == 0:
        raise DataError(f"{source}: no episodes. Expected at least one; record some demonstrations first.")
    empty = np.flatnonzero(np.diff(ends.astype(np.int64), prepend=0) <= 0)
    if len(empty):
        first = int(empty[0])
        before = int(ends[first - 1]) if first else 0
        raise DataError(
            f"{source}: episode {first} is empty or ends before it starts (it starts at step {before} and ends at "
            f"{int(ends[first])}). Expected strictly increasing episode ends; remove empty episodes."
        )


def locate(ends: ndarray, step: int) -> tuple[int, int]:
    """Episode that holds the ``step`` of the whole data set, and the step within it; both count from 0."""
    episode = int(np.searchsorted(ends, step, side="right"))
    return episode, step - (int(ends[episode - 1]) if episode else 0)
