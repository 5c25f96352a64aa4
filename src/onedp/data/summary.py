"""What the numbers of a data set look like, array by array: ranges, holes, jumps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from onedp.data.episodes import DataDigest, locate
from onedp.data.normalize import CONSTANT_RANGE
from onedp.data.recording import ArrayHeader, Recording
from onedp.data.statistics import RunningStatistics

MAX_DIMENSIONS = 64
"""Arrays with more numbers per step (pictures) are summarised over all of them, without jumps."""


@dataclass(frozen=True)
class Place:
    """One step in a data set; both numbers count from 0."""

    episode: int
    step: int
    """Within the episode."""


@dataclass(frozen=True)
class ArraySummary:
    """What ``summarize`` found in one array."""

    min: Float64[ndarray, " d"]
    """Per dimension, flat; of pictures one number for all. NaN and infinity are left out."""
    max: Float64[ndarray, " d"]
    mean: Float64[ndarray, " d"]
    std: Float64[ndarray, " d"]
    constant: tuple[int, ...]
    """Dimensions that do not vary."""
    n_not_finite: int
    """How many numbers are NaN or infinity."""
    first_not_finite: Place | None
    jump: Float64[ndarray, " d"] | None
    """Largest difference between successive steps of an episode, per dimension; None for pictures."""
    jump_at: tuple[Place, ...]
    """Where these are; the step is the later of the two."""


def summarize(blocks: Iterable[ndarray], ends: Int64[ndarray, " episodes"], n_dims: int) -> ArraySummary:
    """Summary of an array ``(N, ...)`` of ``n_dims`` numbers a step that arrives in consecutive pieces."""
    pooled = n_dims > MAX_DIMENSIONS
    running = RunningStatistics(1 if pooled else n_dims)
    first_bad: Place | None = None
    jump, jump_rows = np.zeros(n_dims), np.zeros(n_dims, dtype=np.int64)
    offset, previous = 0, np.empty((0, n_dims))
    n_bad = 0
    for block in blocks:
        running.update(block)
        flat = block.reshape(len(block), n_dims)
        if np.issubdtype(flat.dtype, np.floating):
            bad = np.argwhere(~np.isfinite(flat))
            n_bad += len(bad)
            if len(bad) and first_bad is None:
                first_bad = Place(*locate(ends, offset + int(bad[0, 0])))
        if not pooled:
            joined = np.concatenate([previous, flat.astype(np.float64)])
            largest, rows = _largest_jumps(joined, offset - len(previous), ends)
            jump, jump_rows = np.maximum(jump, largest), np.where(largest > jump, rows, jump_rows)
            previous = joined[-1:]
        offset += len(block)
    return ArraySummary(
        min=running.min,
        max=running.max,
        mean=running.mean,
        std=running.std,
        constant=tuple(np.flatnonzero(running.max - running.min < CONSTANT_RANGE).tolist()),
        n_not_finite=n_bad,
        first_not_finite=first_bad,
        jump=None if pooled else jump,
        jump_at=() if pooled else tuple(Place(*locate(ends, int(row))) for row in jump_rows),
    )


def _largest_jumps(rows: Float64[ndarray, "n d"], offset: int, ends: ndarray) -> tuple[ndarray, ndarray]:
    """Size and later row (counted in the data set) of the largest step of each dimension; 0 when there is none."""
    n_dims = rows.shape[1]
    if len(rows) < 2:
        return np.zeros(n_dims), np.zeros(n_dims, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        steps = np.abs(np.diff(rows, axis=0))  # (n - 1, d); row i leads to row i + 1
    later = offset + 1 + np.arange(len(steps))
    steps[np.isin(later, ends)] = 0.0  # from one episode to the next
    steps[~np.isfinite(steps)] = 0.0
    at = steps.argmax(axis=0)
    return steps[at, np.arange(n_dims)], later[at]


@dataclass(frozen=True)
class StuckRun:
    """How long a dimension kept exactly one value, as a frozen sensor does."""

    dimension: int
    """Flat."""
    steps: int
    at: Place
    """Where it began."""
    whole_episodes: int
    """Episodes in which it never changed, though it does in others."""


def stuck_runs(values: ndarray, ends: Int64[ndarray, " episodes"]) -> list[StuckRun]:
    """The longest run of each dimension of ``(N, ...)`` that varies at all."""
    flat = values.reshape(len(values), -1)
    starts = np.concatenate([[0], ends[:-1]])
    found = []
    for dimension in range(flat.shape[1]):
        column = flat[:, dimension]
        changes = np.flatnonzero(column[1:] != column[:-1]) + 1
        if not len(changes):
            continue
        begins = np.union1d(changes, starts)  # every run begins at a change or with its episode
        lengths = np.diff(begins, append=len(column))
        longest = int(lengths.argmax())
        in_all = np.diff(ends, prepend=0)
        whole = (lengths[np.searchsorted(begins, starts)] == in_all) & (in_all > 1)
        place = Place(*locate(ends, int(begins[longest])))
        found.append(StuckRun(dimension, int(lengths[longest]), place, int(whole.sum())))
    return found


@dataclass(frozen=True)
class FoundQuaternion:
    """Four numbers of an array that are a unit quaternion in every step."""

    start: int
    """Index of the first of them."""
    sign_changes: float
    """Share of steps to whose quaternion the one before is nearer with the other sign."""


def find_quaternions(values: ndarray, ends: Int64[ndarray, " episodes"]) -> list[FoundQuaternion]:
    """Where in ``values`` (steps, dims) unit quaternions look to be, from the left, without overlaps."""
    rows = values.astype(np.float64)
    found: list[FoundQuaternion] = []
    for start in range(rows.shape[1] - 3 if rows.ndim == 2 else 0):
        four = rows[:, start : start + 4]
        varied = (np.ptp(four, axis=0) > 1e-3).sum() >= 2 if np.isfinite(four).all() else False
        if (found and start < found[-1].start + 4) or not varied:
            continue
        if np.abs(np.linalg.norm(four, axis=1) - 1).max() < 1e-3:
            within = np.setdiff1d(np.arange(1, len(rows)), ends)
            flips = (four[within] * four[within - 1]).sum(axis=1) < 0
            found.append(FoundQuaternion(start, float(flips.mean()) if flips.size else 0.0))
    return found


def is_pictures(header: ArrayHeader) -> bool:
    """True for an array with so many numbers a step that reading it takes long."""
    return _n_dims(header) > MAX_DIMENSIONS


def summarize_recording(recording: Recording, names: Iterable[str]) -> tuple[dict[str, ArraySummary], str]:
    """Summaries of the arrays ``names``, and ``recording.episodes(names).digest()``; each is read once, in pieces."""
    names = sorted(names)
    recording.require(names)
    digest = DataDigest()
    summaries: dict[str, ArraySummary] = {}
    for name in names:
        header = recording.headers[name]
        digest.begin(name, header.shape, np.dtype(header.dtype))
        summaries[name] = summarize(_digested(recording.blocks(name), digest), recording.ends, _n_dims(header))
    return summaries, digest.finish(recording.ends)


def _n_dims(header: ArrayHeader) -> int:
    return int(np.prod(header.shape[1:], dtype=np.int64))


def _digested(blocks: Iterable[ndarray], digest: DataDigest) -> Iterable[ndarray]:
    for block in blocks:
        digest.update(block)
        yield block


def rate_from_timestamps(recording: Recording) -> float | None:
    """Control rate [Hz] from an array ``timestamp`` [s], the median over all steps; None when there is none."""
    header = recording.headers.get("timestamp")
    if header is None or recording.problem("timestamp") or header.shape[1:] not in ((), (1,)):
        return None
    steps = np.diff(np.asarray(recording.read("timestamp"), dtype=np.float64).reshape(-1))
    inside = np.delete(steps, recording.ends[:-1] - 1)  # not from one episode to the next
    period_s = float(np.median(inside)) if len(inside) else 0.0
    return 1.0 / period_s if period_s > 0 else None
