"""Time as an argument: the robot's real clock, and a virtual one whose seconds cost nothing."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """A monotonic clock."""

    def now(self) -> float:
        """Time [s] since some fixed moment."""
        ...

    def sleep_until(self, moment: float) -> None:
        """Return at ``moment`` [s], or at once when it has passed."""
        ...


class RealClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Time [s] since the machine started."""
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        """Sleep; the system may wake us late, never early."""
        while (left := moment - self.now()) > 0:
            time.sleep(left)


class VirtualClock:
    """Stands still but for ``sleep_until`` and ``advance``; for evaluation and exact tests."""

    def __init__(self, start: float = 0.0):
        self._now = start

    def now(self) -> float:
        """Time [s] since ``start`` = 0."""
        return self._now

    def sleep_until(self, moment: float) -> None:
        """Jump to ``moment``, never back."""
        self._now = max(self._now, moment)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: what a slow step costs."""
        if seconds < 0:
            raise ValueError(f"A clock does not go back by {-seconds} s.")
        self._now += seconds
