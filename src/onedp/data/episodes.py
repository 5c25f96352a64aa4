"""Demonstrations: named arrays with time first, cut into episodes; pictures may stay on disk until they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.data.lazy import LazyArray, StepArray, block_slices, concatenated, selected
from onedp.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Episodes:
    """Recorded steps of all episodes, one after the other."""

    arrays: Mapping[str, StepArray]
    """Name to array ``(N, ...)``, N steps in all; pictures are read on demand."""
    ends: Int64[ndarray, " episodes"]
    """Index one past the last step of each episode, increasing; the last one is N."""
    source: str
    """Where the data came from, for messages and provenance."""
    skipped: tuple[str, ...] = ()
    """Episodes that were left out and why, a sentence each."""

    def __post_init__(self) -> None:
        check_ends(self.ends, self.source)
        if not self.arrays:
            raise DataError(f"{self.source}: no arrays. Expected at least one with a row for every step.")
        lengths = {name: len(array) if array.ndim else 0 for name, array in self.arrays.items()}
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
            bad = steps_not_finite(array)
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
            digest.add(name, self.arrays[name])
        return digest.finish(self.ends)

    def dense(self, name: str) -> ndarray:
        """The array ``name`` in memory; raises ``DataError`` for pictures, which are read on demand only."""
        return np.asarray(self.arrays[name])

    def select(self, episodes: Iterable[int]) -> Episodes:
        """Only these episodes, numbered anew; ``episodes`` must increase."""
        chosen = np.asarray(list(episodes), dtype=np.int64)
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        rows = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
        arrays = {name: selected(array, rows) for name, array in self.arrays.items()}
        return Episodes(arrays, np.cumsum(lengths), self.source, self.skipped)


def joined_episodes(parts: Sequence[Episodes]) -> Episodes:
    """The episodes of all ``parts``, one after the other; arrays that are read on demand stay so.

    Raises ``DataError`` when they have not the same arrays of the same shapes.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    shapes = {name: array.shape[1:] for name, array in first.arrays.items()}
    for part in parts[1:]:
        others = {name: array.shape[1:] for name, array in part.arrays.items()}
        if others != shapes:
            raise DataError(
                f"{part.source} has the arrays {others} in each step, {first.source} has {shapes}. Only recordings of "
                "the same arrays can be joined."
            )
    offsets = np.cumsum([0, *(part.n_steps for part in parts[:-1])])
    return Episodes(
        {name: concatenated([part.arrays[name] for part in parts]) for name in first.arrays},
        np.concatenate([part.ends + offset for part, offset in zip(parts, offsets, strict=True)]),
        " and ".join(part.source for part in parts),
        tuple(sentence for part in parts for sentence in part.skipped),
    )


class DataDigest:
    """The digest of ``Episodes``, fed array by array in the order of their names, each in pieces if need be."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def begin(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Announce the next array."""
        self._digest.update(f"{name} {shape} {dtype.newbyteorder('<').str};".encode())

    def add(self, name: str, array: StepArray) -> None:
        """Add a whole array: its rows, or for a video the encoded bytes, since decoding it would take long."""
        if isinstance(array, LazyArray) and array.content is not None:
            self._digest.update(f"{name} {array.shape} encoded;".encode())
            self._digest.update(array.content())
            return
        self.begin(name, array.shape, array.dtype)
        if isinstance(array, LazyArray):
            for rows in block_slices(array):
                self.update(array[rows])
        else:
            self.update(array)

    def update(self, rows: ndarray) -> None:
        """Add consecutive rows of the announced array."""
        little = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
        if little.size:
            self._digest.update(little.data)

    def finish(self, ends: ndarray) -> str:
        """Add the episode ends; the digest in hexadecimal."""
        self._digest.update(np.ascontiguousarray(ends, dtype="<i8").data)
        return self._digest.hexdigest()


def steps_not_finite(array: StepArray) -> ndarray:
    """Steps (n,) with NaN or infinity; none for integers, such as pictures, which are not read."""
    if not np.issubdtype(array.dtype, np.floating) or isinstance(array, LazyArray):
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))


def check_ends(ends: ndarray, source: str, may_be_empty: Iterable[int] = ()) -> None:
    """Raise ``DataError`` unless ``ends`` is a strictly increasing list of at least one positive integer.

    The episodes ``may_be_empty`` may have no steps: somebody else deals with them.
    """
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer):
        raise DataError(
            f"{source}: the episode ends have the shape {ends.shape} and the type {ends.dtype}. Expected a list of "
            "whole numbers, the index one past the last step of each episode."
        )
    if len(ends) == 0:
        raise DataError(f"{source}: no episodes. Expected at least one; record some demonstrations first.")
    lengths = np.diff(ends.astype(np.int64), prepend=0)
    lengths[[each for each in may_be_empty if lengths[each] == 0]] = 1
    empty = np.flatnonzero(lengths <= 0)
    if len(empty):
        first = int(empty[0])
        before = int(ends[first - 1]) if first else 0
        raise DataError(
            f"{source}: episode {first} is empty or ends before it starts (it starts at step {before} and ends at "
            f"{int(ends[first])}). Expected strictly increasing episode ends; remove empty episodes."
        )


def empty_episodes(ends: ndarray) -> dict[int, str]:
    """Episodes without steps, as ``Recording.bad_episodes``; none when ``ends`` are no numbers."""
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer):
        return {}
    lengths = np.diff(ends.astype(np.int64), prepend=0)
    return {
        int(
            each
        ): f"is empty or ends before it starts (it starts at step {int(ends[each])} and ends at {int(ends[each])})"
        for each in np.flatnonzero(lengths == 0)
    }


def locate(ends: ndarray, step: int) -> tuple[int, int]:
    """Episode that holds the ``step`` of the whole data set, and the step within it; both count from 0."""
    episode = int(np.searchsorted(ends, step, side="right"))
    return episode, step - (int(ends[episode - 1]) if episode else 0)
