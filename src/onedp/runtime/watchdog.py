"""Stops the robot when inference or observations are late, even if the control loop itself hangs in one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from onedp.errors import SpecError
from onedp.runtime.clock import Clock


@dataclass(frozen=True)
class WatchdogLimits:
    """How late is too late [s]."""

    inference_s: float
    """From asking the policy to its answer."""
    observation_s: float
    """Age of the newest observation."""

    def __post_init__(self) -> None:
        if not (self.inference_s > 0 and self.observation_s > 0):
            raise SpecError(f"The watchdog's limits must be positive, these are not: {self}.")


class Watchdog:
    """Calls ``stop`` once, at the first ``check`` that finds something late, or when told to. Thread-safe.

    Make it right before the loop starts: until the first observation, it counts from then.
    """

    def __init__(self, limits: WatchdogLimits, clock: Clock, stop: Callable[[], None]):
        self._limits = limits
        self._clock = clock
        self._stop = stop
        self._lock = threading.Lock()
        self._observed_at = clock.now()
        self._asked_at: float | None = None
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why the robot was stopped; None while it may move."""
        return self._reason

    def observed(self, moment: float) -> None:
        """An observation was taken at ``moment``."""
        with self._lock:
            self._observed_at = max(self._observed_at, moment)

    def asked(self) -> None:
        """The policy begins to think."""
        with self._lock:
            self._asked_at = self._clock.now()

    def answered(self) -> None:
        """The policy is done."""
        with self._lock:
            self._asked_at = None

    def check(self) -> bool:
        """Whether the robot may move; stops it if something is late."""
        with self._lock:
            now = self._clock.now()
            if now - self._observed_at > self._limits.observation_s:
                age = now - self._observed_at
                self._trip(f"the newest observation is {age:.3g} s old, allowed {self._limits.observation_s:.3g} s")
            elif self._asked_at is not None and now - self._asked_at > self._limits.inference_s:
                late = now - self._asked_at
                self._trip(f"the policy has thought for {late:.3g} s, allowed {self._limits.inference_s:.3g} s")
            return self._reason is None

    def stop(self, reason: str) -> None:
        """Stop the robot for another reason."""
        with self._lock:
            self._trip(reason)

    def _trip(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
            self._stop()

    @contextmanager
    def in_background(self, period_s: float) -> Iterator[None]:
        """Check every ``period_s`` from a thread, on the real time; for a real robot, whose driver may hang."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(period_s) and self.check():
                pass

        thread = threading.Thread(target=watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
