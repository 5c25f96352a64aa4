"""A lane in real time: a thread that ticks it, and that alone touches it."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from onedp.live.lane import Lane
from onedp.runtime.clock import Clock

RATE_WINDOW_S = 2.0
WAIT_S = 0.002
"""Between two looks for a chunk that the world waits for."""
MOST_LATE_TICKS = 10
"""Ticks that a busy loop makes up for; what it is later than that, its time just stands still."""

logger = logging.getLogger(__name__)


class RateMeter:
    """How often something that is counted happened in the last seconds."""

    def __init__(self, window_s: float = RATE_WINDOW_S):
        self._window_s = window_s
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, now: float, count: int) -> None:
        """``count`` so far, at ``now`` [s]; a smaller count than before begins anew."""
        if self._marks and count < self._marks[-1][1]:
            self._marks.clear()
        self._marks.append((now, count))
        while len(self._marks) > 2 and now - self._marks[1][0] >= self._window_s:
            self._marks.popleft()

    @property
    def per_s(self) -> float:
        """Mean rate [1/s] over the window; 0 before two marks."""
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return 0.0
        (first, low), (last, high) = self._marks[0], self._marks[-1]
        return (high - low) / (last - first)


class Pacer:
    """Decides what a lane does now. Apart from the thread, so that a virtual clock can drive it."""

    def __init__(self, lane: Lane, clock: Clock):
        self.lane = lane
        self.charged = True
        """Whether time may stand still: it must not where thinking takes what it takes."""
        self._clock = clock
        self._period = 1 / lane.task.control_hz
        self._next = clock.now()
        self._ticks, self._chunks = RateMeter(), RateMeter()

    def step(self) -> float:
        """Tick the lane if it is time; returns the moment [s] to call again."""
        now = self._clock.now()
        if now < self._next:
            return self._next
        late = int((now - self._next) / self._period)
        if not self.charged:
            for _ in range(min(late, MOST_LATE_TICKS)):
                self.lane.miss()
        if late > 0 and (not self.charged or late > MOST_LATE_TICKS):
            self._next = now  # made up for, or given up
        if not self.lane.advance():
            self._next = now  # the world waits
            self._mark(now)
            return now + WAIT_S
        self._next += self._period
        self._mark(now)
        return self._next

    def rest(self) -> None:
        """No time passes: the lane is paused."""
        self._next = self._clock.now()
        self._mark(self._next)

    def _mark(self, now: float) -> None:
        self._ticks.mark(now, self.lane.tick)
        self._chunks.mark(now, self.lane.chunks)

    def snapshot(self) -> dict[str, Any]:
        """The lane's, with its rates in real time."""
        return {
            **self.lane.snapshot(),
            "rate_hz": round(self._ticks.per_s, 1),
            "chunks_per_s": round(self._chunks.per_s, 2),
        }


class LaneThread:
    """Runs a lane until ``close``. ``call`` and ``snapshot`` may be used from any thread."""

    def __init__(self, lane: Lane, clock: Clock, name: str, charged: bool = True):
        self._pacer = Pacer(lane, clock)
        self._pacer.charged = charged
        self._clock = clock
        self._calls: queue.SimpleQueue[Callable[[Lane, Pacer], None]] = queue.SimpleQueue()
        self._snapshot = self._pacer.snapshot()
        self._paused = False
        self._still = threading.Event()  # while it is paused (or not started) and no policy is at work for it
        self._still.set()
        self._ending = False
        self.name = name
        self._thread = threading.Thread(target=self._run, name=f"lane {name}", daemon=True)

    def start(self) -> None:
        """Let time pass."""
        self._still.clear()
        self._thread.start()

    def call(self, action: Callable[[Lane, Pacer], None]) -> None:
        """Have ``action`` done between two ticks, soon. It must not raise."""
        self._calls.put(action)

    def pause(self, paused: bool) -> None:
        """Stop or go on; calls are done all the same."""

        def obey(lane: Lane, pacer: Pacer) -> None:
            self._paused = paused
            self._still.clear()

        self.call(obey)

    def wait_until_still(self, timeout_s: float) -> bool:
        """After ``pause(True)``: return when no policy is at work for the lane any more; False if one still is."""
        return self._still.wait(timeout_s)

    @property
    def snapshot(self) -> dict[str, Any]:
        """Of the newest tick."""
        return self._snapshot

    def close(self) -> None:
        """Stop for good; a policy that thinks is not waited for."""
        self._ending = True
        if self._thread.is_alive():
            self._thread.join()
        self._pacer.lane.close()

    def _run(self) -> None:
        while not self._ending:
            try:
                self._go_on()
            except Exception as error:  # ours: this lane stands still and says so, the others go on
                logger.exception("a lane failed")
                self._pacer.lane.error = f"{type(error).__name__}: {error}"
                self._paused = True

    def _go_on(self) -> None:
        while not self._calls.empty():
            self._calls.get()(self._pacer.lane, self._pacer)
        if self._paused:
            self._pacer.rest()
            if not self._pacer.lane.busy:
                self._still.set()
            wake = self._clock.now() + 0.02
        else:
            wake = self._pacer.step()
        self._snapshot = {**self._pacer.snapshot(), "paused": self._paused}
        self._clock.sleep_until(wake)
