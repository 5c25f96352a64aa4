"""An opened data set of any format: what it holds, and single arrays read on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.data.episodes import Episodes, check_ends
from onedp.errors import DataError, did_you_mean

BLOCK_BYTES = 8 << 20
"""Size of the pieces in which ``blocks`` reads an array: small enough for any machine, large enough to be fast."""


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and type of a stored array, known without reading it."""

    shape: tuple[int, ...]
    dtype: str
    """As numpy writes it, e.g. "float32", "uint8"; "object" and texts such as "str" are never read."""
    problem: str = ""
    """Why it cannot be read, for a message; empty when it can."""
    doubt: str = ""
    """Why what is read may not be what was recorded, for a message; empty when all is well."""


@dataclass(frozen=True)
class Recording:
    """A data set on disk. Opening it reads the headers and the episode ends, nothing else."""

    source: str
    """Where it lies, for messages."""
    format: str
    """For people, e.g. "npz (compressed)"."""
    headers: Mapping[str, ArrayHeader]
    """Every array with one row a step, without the ``data/`` in front."""
    ends: ndarray
    """Index one past the last step of each episode, int64."""
    open_array: Callable[[str], Any]
    """Something with ``[rows]`` that reads these rows of the named array; may raise anything."""

    def __post_init__(self) -> None:
        check_ends(self.ends, self.source)

    def require(self, names: Iterable[str], why: str = "") -> None:
        """Raise ``DataError`` unless all ``names`` are there, are plain numbers and have one row a step.

        ``why``: a sentence, with a blank in front, that says what they are needed for.
        """
        missing = sorted(set(names) - set(self.headers))
        if missing:
            raise DataError(
                f"{self.source}: missing {missing}.{did_you_mean(missing[0], self.headers)} It has "
                f"{sorted(self.headers)}.{why} Look at it with: onedp inspect {self.source}"
            )
        for name in names:
            if problem := self.problem(name):
                raise DataError(f"{self.source}: {problem}")

    def problem(self, name: str) -> str:
        """What keeps the array from being read, or an empty text."""
        header, n_steps = self.headers[name], int(self.ends[-1])
        if header.problem:
            return f"'{name}' {header.problem}"
        if header.shape[:1] != (n_steps,):
            rows = f"{header.shape[0]} rows" if header.shape else "no rows"
            return (
                f"'{name}' has {rows}, but the last episode ends at step {n_steps}. Expected one row a step; the "
                "file is truncated or was written by something else. Write it again."
            )
        return ""

    def read(self, name: str) -> ndarray:
        """The whole array; memory-mapped where the format allows."""
        self.require((name,))
        return self._rows(self._opened(name), name, slice(None))

    def blocks(self, name: str) -> Iterator[ndarray]:
        """The array in consecutive pieces of some megabytes, so that pictures need little memory."""
        self.require((name,))
        header, array = self.headers[name], self._opened(name)
        row_bytes = max(1, int(np.prod(header.shape[1:], dtype=np.int64)) * np.dtype(header.dtype).itemsize)
        stored = getattr(array, "chunks", (1,))[0]  # zarr decodes whole chunks: never ask for part of one
        step = stored * max(1, BLOCK_BYTES // (row_bytes * stored))
        for start in range(0, header.shape[0], step):
            yield self._rows(array, name, slice(start, start + step))

    def episodes(self, names: Iterable[str] | None = None) -> Episodes:
        """Read the arrays ``names`` (None: all) and no others; raises ``DataError`` when one of them cannot be."""
        chosen = sorted(self.headers) if names is None else list(names)
        self.require(chosen)
        return Episodes({name: self.read(name) for name in chosen}, self.ends, self.source)

    def _opened(self, name: str) -> Any:
        try:
            return self.open_array(name)
        except Exception as error:
            raise self._damaged(name, error) from error

    def _rows(self, array: Any, name: str, rows: slice) -> ndarray:
        try:
            return np.asarray(array[rows])
        except Exception as error:  # codecs raise many kinds
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(
            f"{self.source}: '{name}' cannot be read ({type(error).__name__}: {error}). The file is damaged or "
            "incomplete; copy or download it again."
        )


def dtype_problem(dtype: np.dtype) -> str:
    """Why an array of this type is refused, or an empty text for plain numbers."""
    if dtype.kind in "biuf":
        return ""
    if dtype.hasobject:
        return (
            "holds Python objects. They would have to be unpickled, which can run foreign code, so they are refused. "
            "Expected plain numbers; save it again with e.g. array.astype('float32')."
        )
    kinds = {"U": "text", "S": "text", "c": "complex numbers", "M": "dates", "m": "time spans"}
    what = kinds.get(dtype.kind, "records")
    return f"holds {what} (type {dtype}), expected plain numbers. Remove it or save it again as numbers."
