"""An opened data set of any format: what it holds, and single arrays read on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.data.episodes import Episodes, check_ends
from onedp.data.lazy import LazyArray, StepArray, block_slices, selected
from onedp.errors import DataError, did_you_mean

LAZY_ROW_BYTES = 1024
"""Pictures of at least so many bytes are read on demand; smaller ones, and all that is not a picture, at once."""


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

    @property
    def is_lazy(self) -> bool:
        """Whether it stays on disk: pictures (N, H, W, C) that are not tiny."""
        if len(self.shape) != 4 or self.problem:
            return False
        return int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize >= LAZY_ROW_BYTES


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
    rate_hz: float | None = None
    """Steps a second, where the format says so."""
    bad_episodes: Mapping[int, str] = field(default_factory=dict)
    """Episodes that cannot be used to what is wrong with each, in words that go on after "episode 3"."""
    check_array: Callable[[str], Mapping[int, str]] = lambda name: {}
    """Episodes that cannot be used where the named array is needed: their pictures are missing, say."""
    skipped: tuple[str, ...] = ()
    """What was left out and why, a sentence each."""
    splits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Named subsets of the episodes, such as train and valid."""
    selection: tuple[int, ...] | None = None
    """Numbers of the episodes in the stored data set, where not all were chosen."""
    hint: str = ""
    """What to do when an array is missing, a sentence with a blank in front."""
    tasks: tuple[str, ...] = ()
    """Texts that the numbers in ``task_index`` stand for, where the format has them."""
    notes: tuple[str, ...] = ()
    """What else the data set says of itself, a sentence each."""
    policy: str = ""
    """The policy whose roll-outs these are (``onedp record``), in words; empty for demonstrations."""

    def __post_init__(self) -> None:
        check_ends(self.ends, self.source, self.bad_episodes)

    def require(self, names: Iterable[str], why: str = "") -> None:
        """Raise ``DataError`` unless all ``names`` are there, are plain numbers and have one row a step.

        ``why``: a sentence, with a blank in front, that says what they are needed for.
        """
        missing = sorted(set(names) - set(self.headers))
        if missing:
            raise DataError(
                f"{self.source}: missing {missing}.{did_you_mean(missing[0], self.headers)} It has "
                f"{sorted(self.headers)}.{why}{self.hint} Look at it with: onedp inspect {self.source}"
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

    def read(self, name: str) -> StepArray:
        """The whole array: in memory, memory-mapped where the format allows, or on demand for pictures."""
        self.require((name,))
        array = self._opened(name)
        if self.headers[name].is_lazy and not isinstance(array, np.memmap):
            return self._lazy(array, name)
        return self._rows(array, name, slice(None))

    def blocks(self, name: str) -> Iterator[ndarray]:
        """The array in consecutive pieces of some megabytes, so that pictures need little memory."""
        self.require((name,))
        array = self._lazy(self._opened(name), name)
        for rows in block_slices(array):
            yield array[rows]

    def episodes(self, names: Iterable[str] | None = None) -> Episodes:
        """Read the arrays ``names`` (None: all) and no others; raises ``DataError`` when one of them cannot be."""
        chosen = sorted(self.headers) if names is None else list(names)
        self.require(chosen)
        self.usable(chosen, skip=False)
        return Episodes({name: self.read(name) for name in chosen}, self.ends, self.source, self.skipped)

    def select(self, episodes: Iterable[int], skipped: Iterable[str] = ()) -> Recording:
        """Only these episodes, numbered anew, in increasing order; ``skipped`` says why the others are left out."""
        chosen = np.asarray(sorted(set(episodes)), dtype=np.int64)
        if not len(chosen):
            raise DataError(f"{self.source}: no episodes are left. {' '.join(skipped)}")
        lengths = np.diff(self.ends, prepend=0)
        starts = self.ends - lengths
        rows = np.concatenate([np.arange(starts[each], self.ends[each]) for each in chosen])
        headers = {
            name: header if self.problem(name) else replace(header, shape=(len(rows), *header.shape[1:]))
            for name, header in self.headers.items()
        }
        problems = {name: self.problem(name).removeprefix(f"'{name}' ") for name in self.headers}
        number = {int(old): new for new, old in enumerate(chosen)}

        def check_array(name: str) -> dict[int, str]:
            return {number[each]: why for each, why in self.check_array(name).items() if each in number}

        return replace(
            self,
            headers={name: replace(header, problem=problems[name]) for name, header in headers.items()},
            ends=np.cumsum(lengths[chosen]),
            open_array=lambda name: selected(self.read(name), rows),
            bad_episodes={number[each]: why for each, why in self.bad_episodes.items() if each in number},
            check_array=check_array,
            skipped=(*self.skipped, *skipped),
            selection=tuple(self.selection[each] if self.selection else int(each) for each in chosen),
            splits={
                name: tuple(number[each] for each in members if each in number) for name, members in self.splits.items()
            },
        )

    def without_bad_episodes(self, skip: bool) -> Recording:
        """This recording when all episodes are good, or the good ones when ``skip``; else raises ``DataError``."""
        if not self.bad_episodes:
            return self
        bad = sorted(self.bad_episodes)
        if not skip:
            more = f" {len(bad) - 1} more cannot be used either." if len(bad) > 1 else ""
            raise DataError(
                f"{self.source}: episode {bad[0]} {self.bad_episodes[bad[0]]}.{more} Mend or remove it, or go on "
                "without: --skip-bad-episodes"
            )
        skipped = bad_sentences(self.bad_episodes)
        return self.select(set(range(len(self.ends))) - set(bad), skipped)

    def usable(self, names: Iterable[str], skip: bool) -> Recording:
        """As ``without_bad_episodes``, also of those that are bad where the arrays ``names`` are needed."""
        bad = dict(self.bad_episodes)
        for name in names:
            bad |= {each: why for each, why in self.check_array(name).items() if each not in bad}
        return replace(self, bad_episodes=bad).without_bad_episodes(skip)

    def split(self, name: str) -> Recording:
        """The episodes of the named split; raises ``DataError`` when there is none of this name or it is empty."""
        if name not in self.splits:
            raise DataError(
                f"{self.source} has no split '{name}'.{did_you_mean(name, self.splits)} It has "
                f"{sorted(self.splits) or 'none'}."
            )
        members = self.splits[name]
        if not members:
            raise DataError(f"{self.source}: the split '{name}' has no episodes. It has {sorted(self.splits)}.")
        return self.select(members)

    def _lazy(self, array: Any, name: str) -> LazyArray:
        header = self.headers[name]
        source = array if isinstance(array, LazyArray) else stored_rows(array, header)

        def read(rows: Int64[ndarray, " n"]) -> ndarray:
            try:
                return source.read(rows)
            except DataError:
                raise
            except Exception as error:  # codecs raise many kinds
                raise self._damaged(name, error) from error

        return replace(source, read=read)

    def _opened(self, name: str) -> Any:
        try:
            return self.open_array(name)
        except DataError:
            raise
        except Exception as error:
            raise self._damaged(name, error) from error

    def _rows(self, array: Any, name: str, rows: slice) -> ndarray:
        try:
            return np.asarray(array[rows])
        except DataError:
            raise
        except Exception as error:  # codecs raise many kinds
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(
            f"{self.source}: '{name}' cannot be read ({type(error).__name__}: {error}). The file is damaged or "
            "incomplete; copy or download it again."
        )


def bad_sentences(bad: Mapping[int, str]) -> list[str]:
    """One sentence for each thing that is wrong, with the episodes that have it."""
    episodes: dict[str, list[int]] = {}
    for each in sorted(bad):
        episodes.setdefault(bad[each], []).append(each)
    return [
        f"Episode {each[0]} {why}."
        if len(each) == 1
        else f"Each of the {len(each)} episodes {each[0]}{' to ' if each[-1] - each[0] == len(each) - 1 else ' ... '}"
        f"{each[-1]} {why}."
        for why, each in episodes.items()
    ]


def stored_rows(array: Any, header: ArrayHeader) -> LazyArray:
    """An array of zarr, h5py or numpy as rows on demand; reads slices, since all of these are slow with row lists."""
    run = int((getattr(array, "chunks", None) or (1,))[0])

    def read(rows: Int64[ndarray, " n"]) -> ndarray:
        apart = (np.diff(rows) > 1) & (np.diff(rows // run) > 0)
        groups = np.split(rows, np.flatnonzero(apart) + 1)
        parts = [np.asarray(array[int(group[0]) : int(group[-1]) + 1])[group - group[0]] for group in groups]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return LazyArray(header.shape, np.dtype(header.dtype), read, run)


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
