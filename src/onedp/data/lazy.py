"""Arrays of recorded steps that stay on disk: a video, the chunks of a zarr. Rows are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.errors import DataError

BLOCK_BYTES = 8 << 20
"""Size of the pieces in which whole arrays are read: small enough for any machine, large enough to be fast."""


@dataclass(frozen=True, eq=False)
class LazyArray:
    """Rows on disk with an array's ``shape``, ``dtype`` and indexing by slices and index arrays of the first axis."""

    shape: tuple[int, ...]
    """(N, ...)."""
    dtype: np.dtype
    read: Callable[[Int64[ndarray, " n"]], ndarray]
    """From increasing row numbers (n,) to their rows (n, ...); may raise anything, and be called by several threads."""
    run: int = 1
    """Rows that are stored together: reading one costs about as much as reading all of them."""
    content: Callable[[], bytes] | None = field(default=None, repr=False)
    """What stands for the bytes of all rows in a digest where decoding them would take long; None: the rows."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, rows: slice | ndarray) -> ndarray:
        """The rows of a slice, or of index arrays of any shape: ``(*rows.shape, ...)``; each row is read once."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)), dtype=np.int64)
        rows = np.asarray(rows, dtype=np.int64)
        needed, places = np.unique(rows.reshape(-1), return_inverse=True)
        if not len(needed):
            return np.empty((*rows.shape, *self.shape[1:]), dtype=self.dtype)
        values = np.asarray(self.read(needed))
        if len(needed) != rows.size or (places[1:] < places[:-1]).any():
            values = values[places]
        return values.reshape(*rows.shape, *self.shape[1:])

    def __array__(self, *arguments: object, **options: object) -> ndarray:
        """Refused, so that nothing pulls gigabytes of pictures into memory unawares."""
        raise DataError(
            f"These rows of shape {self.shape} are read from disk on demand; all of them would take "
            f"{self.nbytes / 2**30:.1f} GiB. Index the rows you need: array[rows]."
        )


StepArray: TypeAlias = ndarray | LazyArray
"""Steps ``(N, ...)`` in memory, memory-mapped or read on demand; all can be indexed by a slice or index array."""


def block_slices(array: StepArray, block_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Consecutive slices of some megabytes that never cut what is stored together."""
    row_bytes = max(1, int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize)
    run = array.run if isinstance(array, LazyArray) else 1
    step = run * max(1, block_bytes // (row_bytes * run))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


def selected(array: StepArray, rows: Int64[ndarray, " n"]) -> StepArray:
    """The rows ``rows`` of an array, in any order; on demand where the array is."""
    if not isinstance(array, LazyArray):
        return array[rows]
    source, content = array, array.content
    return LazyArray(
        (len(rows), *array.shape[1:]),
        array.dtype,
        lambda wanted: source[rows[wanted]],
        array.run,
        None if content is None else lambda: content() + np.ascontiguousarray(rows, dtype="<i8").tobytes(),
    )


def mapped(array: LazyArray, function: Callable[[ndarray], ndarray], dtype: np.dtype) -> LazyArray:
    """``function`` of the rows, row by row and of the same shape, applied when they are read."""
    return LazyArray(array.shape, np.dtype(dtype), lambda rows: function(array[rows]), array.run)


def concatenated(arrays: Sequence[StepArray]) -> StepArray:
    """The rows of several arrays one after the other; on demand when any of them is."""
    if len(arrays) == 1:
        return arrays[0]
    if not any(isinstance(array, LazyArray) for array in arrays):
        return np.concatenate([np.asarray(array) for array in arrays])
    starts = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64)

    def read(rows: Int64[ndarray, " n"]) -> ndarray:
        cuts = np.searchsorted(rows, starts)
        parts = [
            array[rows[low:high] - start]
            for array, start, low, high in zip(arrays, starts[:-1], cuts[:-1], cuts[1:], strict=True)
            if high > low
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    run = max(array.run if isinstance(array, LazyArray) else 1 for array in arrays)
    content = None
    if contents := [array.content for array in arrays if isinstance(array, LazyArray) and array.content]:
        content = (lambda: b"".join(each() for each in contents)) if len(contents) == len(arrays) else None
    return LazyArray((int(starts[-1]), *arrays[0].shape[1:]), arrays[0].dtype, read, run, content)
