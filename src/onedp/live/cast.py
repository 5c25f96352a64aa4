"""The policies on the page: what each may be changed to, and how that is opened. Runtimes come in as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from onedp.errors import ServeError, unknown_choice
from onedp.runtime.latency import FixedLatency, HistogramLatency, LatencyModel, paper_latency
from onedp.types import Policy

MEASURED, TRUE, PAPER = "measured", "true", "paper"
LATENCIES = ("0", MEASURED, TRUE, PAPER, "0.016", "0.075", "0.669")
"""What the page offers: none, drawn from those measured here at rest, what thinking really takes, the paper's for this
number of passes, and the paper's three for any."""
LONGEST_LATENCY_S = 5.0


@dataclass
class Member:
    """One policy of the cast: the same weights behind any of its samplers. Not thread-safe."""

    name: str
    task: str
    """That it was trained on."""
    sampler: str
    """The one that was asked for."""
    samplers: tuple[str, ...]
    """All that are offered."""
    open: Callable[[str], Policy]
    """The policy behind one of ``samplers``."""
    measure: Callable[[Policy, bool], Sequence[float]]
    """Latencies [s] of the policy here; True: of chunks that go on from the one before."""
    _measured: dict[tuple[str, bool], HistogramLatency] = field(default_factory=dict)

    def latency(
        self,
        text: str,
        sampler: str,
        policy: Policy,
        continuing: bool,
        at_rest: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> LatencyModel | None:
        """The model of a latency of the page, or of any number of seconds; None for ``true``.

        Raises ``ServeError`` on other texts: a page must not name files. May measure, which takes seconds:
        once for all, so it is done within ``at_rest()``, where nothing else computes.
        """
        if text == TRUE:
            return None
        if text == PAPER:
            return paper_latency(policy.nfe)
        if text == MEASURED:
            key = (sampler, continuing)
            if key not in self._measured:
                with at_rest():
                    self._measured[key] = HistogramLatency.of(self.measure(policy, continuing), MEASURED)
            return self._measured[key]
        try:
            seconds = float(text)
        except ValueError:
            raise ServeError(
                f"The latency '{text[:40]}' is not known. Valid: 0 to {LONGEST_LATENCY_S:g} seconds, {MEASURED}, "
                f"{TRUE}, {PAPER}."
            ) from None
        if not (np.isfinite(seconds) and 0 <= seconds <= LONGEST_LATENCY_S):
            raise ServeError(f"A latency must be 0 to {LONGEST_LATENCY_S:g} seconds here, it is {seconds:g}.")
        return FixedLatency(seconds)

    def check_sampler(self, sampler: str) -> None:
        """Raise ``ServeError`` for one that is not offered."""
        if sampler not in self.samplers:
            raise ServeError(unknown_choice(f"sampler of {self.name}", sampler, self.samplers))
