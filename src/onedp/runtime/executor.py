"""Which action of which chunk a control tick executes.

A chunk computed from the observation of tick t has one action for each tick from t on. It is usable from tick
t + ceil(latency x rate), so the actions before that tick are late and dropped. Where actions are deltas (``hold``), or
the robot waits while the policy thinks (``waits``), one is late only if the robot made another move in its place: a
robot that stood still meanwhile begins with the first. For the same reason deltas of ticks that the loop skipped come
on the ticks after them.
Executors know ticks only, no clock and no policy: the robot's loop and an evaluation with charged latency drive the
same ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from onedp.errors import OneDPError, SpecError, unknown_choice
from onedp.types import PolicySpec

ENSEMBLE_DECAY = 0.01
"""m of ACT's weights exp(-m i), i = 0 for the oldest chunk (arXiv 2304.13705, sec. IV-B)."""
REMEMBERED_DELAYS = 10

HoldAction = Callable[[ndarray], ndarray]
"""From the last action ``(Da,)`` to the one that keeps the robot there while there is no new one."""


@dataclass
class Counters:
    """What an episode's timing cost."""

    executed: int = 0
    """Ticks with an action of their own."""
    dropped: int = 0
    """Actions that were late: their tick had passed when the chunk came, or another move had taken their place."""
    repeated: int = 0
    """Ticks on which the robot was held where the last action brought it, because there was no new one."""
    starved: int = 0
    """Ticks on which there was no action yet, not even one to hold: none had come, or only late ones."""
    deadline_misses: int = 0
    """Ticks skipped because the loop itself was busy until the next one began."""


@dataclass
class Seams:
    """How well chunks join: the first action that is executed of a chunk, beside the one that the chunk before has in
    its place."""

    chunks: int = 0
    """Chunks delivered."""
    delay_ticks: int = 0
    """Ticks really consumed from their observations until they came, summed."""
    joints: int = 0
    """Pairs of chunks that could be compared."""
    jump: float = 0.0
    """Distance of the two actions, physical units of the action, summed over ``joints``."""


class ChunkExecutor(ABC):
    """Says when a new chunk is wanted, takes chunks, gives the action of each tick. For one episode.

    Here is what all executors share: the newest chunk, when it was seen and came, and the counting.
    """

    continues = False
    """Whether new chunks should be made to go on from the one before (``continuation``)."""
    waits = False
    """Whether the robot stands still while the policy thinks."""

    def __init__(self, spec: PolicySpec, replan_ticks: int | None = None, hold: HoldAction | None = None):
        """``replan_ticks``: ticks from one observation that a chunk is made of to the next; None: the spec's Ta.

        ``hold``: for actions that are deltas, what is done on a tick without an action of its own; None: the last
        action again, which is right for positions. Raises ``SpecError`` when a chunk has fewer than ``replan_ticks``.
        """
        self.counters = Counters()
        self.seams = Seams()
        self._hold = hold
        self._replan = spec.n_action_steps if replan_ticks is None else replan_ticks
        if not 1 <= self._replan <= spec.chunk_length:
            raise SpecError(
                f"A new chunk every {self._replan} ticks is not possible, expected 1 to {spec.chunk_length}: "
                "a chunk has no more actions."
            )
        self._chunk: ndarray | None = None
        self._observed = 0
        self._begin = 0  # tick of the chunk's first action, late or not
        self._last: ndarray | None = None
        self._delays: list[int] = []
        self._moved: list[int] = []  # ticks with an action of their own
        self._postponed: list[int] = []  # for each tick that deltas were moved on by: the tick before the skipped ones

    @abstractmethod
    def wants_chunk(self, tick: int) -> bool:
        """Whether the policy should be asked with the observation of ``tick``, if it is not thinking already."""

    @abstractmethod
    def action(self, tick: int) -> Float32[ndarray, " da"] | None:
        """The action of ``tick``; None while there is none at all. Ask once a tick, in order."""

    def deliver(self, chunk: Float32[ndarray, "tc da"], observed: int, usable: int) -> None:
        """Take the chunk computed from the observation of tick ``observed``, usable from tick ``usable`` on.

        Its late actions are dropped. Raises ``SpecError`` when ``usable`` is before ``observed``.
        """
        if usable < observed:
            raise SpecError(f"A chunk observed at tick {observed} cannot be usable at tick {usable} before it.")
        delay = usable - observed
        self._moved = [tick for tick in self._moved if tick >= observed]
        self._postponed = [tick for tick in self._postponed if tick >= observed]
        late = len(self._moved) if self.waits or self.moves_by_deltas else delay
        self.counters.dropped += min(late, len(chunk))
        self.seams.chunks += 1
        self.seams.delay_ticks += delay
        self._delays = [*self._delays[1 - REMEMBERED_DELAYS :], delay]
        old = self.tail(observed + late + len(self._postponed))
        if old is not None and late < len(chunk):
            self.seams.joints += 1
            self.seams.jump += float(np.linalg.norm(chunk[late].astype(np.float64) - old[0]))
        self._chunk, self._begin, self._observed = chunk, usable - late, observed

    def skip(self, tick: int, ticks: int) -> None:
        """The loop was busy after ``tick`` for so many ``ticks``, on which the robot was told nothing.

        A position of one of them is out of date; a delta is not, since the robot has not moved by it, so what is left
        of the chunk comes so many ticks later.
        """
        self.counters.deadline_misses += ticks
        if self.moves_by_deltas and self._executes(tick + 1):
            self._postponed += [tick] * ticks
            self._postpone(ticks)

    def _executes(self, tick: int) -> bool:
        """Whether the chunk has an action for ``tick`` that is to be executed."""
        return self.tail(tick) is not None

    def _postpone(self, ticks: int) -> None:
        self._begin += ticks

    def tail(self, tick: int) -> Float32[ndarray, "n da"] | None:
        """Actions of the newest chunk for ``tick`` and after; None when it has none."""
        if self._chunk is None or not self._begin <= tick < self._begin + len(self._chunk):
            return None
        return self._chunk[tick - self._begin :]

    @property
    def moves_by_deltas(self) -> bool:
        """Whether actions say how to move rather than where to."""
        return self._hold is not None

    @property
    def expected_delay(self) -> int:
        """The longest of the last delays [ticks], as RTC expects the next (arXiv 2506.07339, algorithm 1)."""
        return max(self._delays, default=0)

    def _count(self, tick: int, action: ndarray | None) -> ndarray | None:
        """``action``, or what holds the robot after the last one where there is none."""
        if action is not None:
            self._last = action
            self._moved.append(tick)
            self.counters.executed += 1
        elif self._last is None:
            self.counters.starved += 1
        else:
            self.counters.repeated += 1
            return self._last if self._hold is None else self._hold(self._last)
        return self._last


class SynchronousExecutor(ChunkExecutor):
    """Executes Ta actions of a chunk, asks for the next, and holds the robot until it is usable."""

    waits = True
    _end = 0  # first tick the chunk is not meant for

    def wants_chunk(self, tick: int) -> bool:
        """When the actions to execute are used up."""
        return self._chunk is None or tick >= self._end

    def deliver(self, chunk: Float32[ndarray, "tc da"], observed: int, usable: int) -> None:
        """Its first Ta actions, or as many as are left of it, will be executed."""
        super().deliver(chunk, observed, usable)
        self._end = min(usable + self._replan, self._begin + len(chunk))

    def action(self, tick: int) -> Float32[ndarray, " da"] | None:
        """The chunk's action for ``tick``, else what holds the robot, else None."""
        tail = self.tail(tick) if self._executes(tick) else None
        return self._count(tick, None if tail is None else tail[0])

    def _executes(self, tick: int) -> bool:
        return tick < self._end and super()._executes(tick)

    def _postpone(self, ticks: int) -> None:
        super()._postpone(ticks)
        self._end += ticks


class DropLateExecutor(ChunkExecutor):
    """Goes on with the old chunk while the policy thinks, and changes to the new one, less its late actions."""

    def wants_chunk(self, tick: int) -> bool:
        """Once the newest chunk's observation is so many ticks old."""
        return self._chunk is None or tick >= self._observed + self._replan

    def action(self, tick: int) -> Float32[ndarray, " da"] | None:
        """The newest chunk's action for ``tick``, else what holds the robot, else None."""
        tail = self.tail(tick)
        return self._count(tick, None if tail is None else tail[0])


class EnsembleExecutor(DropLateExecutor):
    """As drop-late, but executes the mean of all chunks that reach ``tick`` (ACT's temporal ensembling)."""

    def __init__(self, spec: PolicySpec, replan_ticks: int | None = None, hold: HoldAction | None = None):
        super().__init__(spec, replan_ticks, hold)
        self._chunks: list[tuple[int, ndarray]] = []

    def deliver(self, chunk: Float32[ndarray, "tc da"], observed: int, usable: int) -> None:
        """Keep it until its last action is over."""
        super().deliver(chunk, observed, usable)
        self._chunks.append((self._begin, chunk))

    def _postpone(self, ticks: int) -> None:
        super()._postpone(ticks)
        self._chunks = [(begin + ticks, chunk) for begin, chunk in self._chunks]

    def action(self, tick: int) -> Float32[ndarray, " da"] | None:
        """Mean with the weights exp(-m i), i = 0 for the oldest chunk."""
        self._chunks = [(begin, chunk) for begin, chunk in self._chunks if tick < begin + len(chunk)]
        if not self._chunks:
            return self._count(tick, None)
        weights = np.exp(-ENSEMBLE_DECAY * np.arange(len(self._chunks)))
        actions = np.stack([chunk[tick - begin] for begin, chunk in self._chunks])
        return self._count(tick, (weights @ actions / weights.sum()).astype(np.float32))


class RealTimeChunkingExecutor(DropLateExecutor):
    """As drop-late, but each chunk is made to go on from the one before (RTC, arXiv 2506.07339)."""

    continues = True


EXECUTORS: dict[str, type[ChunkExecutor]] = {
    "sync": SynchronousExecutor,
    "drop-late": DropLateExecutor,
    "ensemble": EnsembleExecutor,
    "rtc": RealTimeChunkingExecutor,
}


def make_executor(
    name: str, spec: PolicySpec, replan_ticks: int | None = None, hold: HoldAction | None = None
) -> ChunkExecutor:
    """A fresh executor of the table for one episode; raises ``OneDPError`` on other names."""
    if name not in EXECUTORS:
        raise OneDPError(unknown_choice("executor", name, EXECUTORS))
    return EXECUTORS[name](spec, replan_ticks, hold)
