"""How long a policy thinks: the models behind charged time.

A chunk computed from the observation of tick t is usable from tick ``t + charged_ticks(latency, rate)``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from onedp.errors import OneDPError
from onedp.files import write_json

HISTOGRAM_FORMAT = "onedp.latency-histogram/1"
ROUNDING_TICKS = 1e-6
"""A latency of exactly n periods costs n ticks, however the product is rounded."""

LONGEST_S = 60.0
"""Longer than any chunk takes; who writes 75 means milliseconds."""
PAPER_V100_S = {100: 0.669, 10: 0.075, 1: 0.016}
"""Network passes to seconds of a chunk on a V100, observation encoding included (arXiv 2410.21257): DDPM-100, DDIM-10
and one step."""
PAPER_ENCODING_S, PAPER_PASS_S = 0.009, 0.0066


def charged_ticks(seconds: float, rate_hz: float) -> int:
    """Control ticks that pass until a chunk is usable: ``ceil(seconds * rate_hz)``."""
    return max(0, math.ceil(seconds * rate_hz - ROUNDING_TICKS))


@runtime_checkable
class LatencyModel(Protocol):
    """Seconds from an observation to the chunk computed from it."""

    @property
    def label(self) -> str:
        """For tables, e.g. ``0.669 s`` or ``measured (p50 0.015 s)``."""
        ...

    def seconds(self, seed: int, chunk: int) -> float:
        """Latency of one chunk of one episode: the same whenever it is asked."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain data for results."""
        ...


@dataclass(frozen=True)
class FixedLatency:
    """Every chunk takes the same time."""

    value_s: float
    name: str = ""
    """Where the number is from; empty: given by the user."""

    def __post_init__(self) -> None:
        if not 0 <= self.value_s <= LONGEST_S:
            raise OneDPError(
                f"A latency must be a number of seconds from 0 to {LONGEST_S:g}; it is {self.value_s:g}. "
                "Milliseconds are written as 0.075."
            )

    @property
    def label(self) -> str:
        """Seconds, and their source."""
        return f"{self.name} {self.value_s:g} s".strip()

    def seconds(self, seed: int, chunk: int) -> float:
        """The value."""
        return self.value_s

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": "fixed", "name": self.name, "value_s": self.value_s}


@dataclass(frozen=True)
class HistogramLatency:
    """Each chunk draws its latency from recorded ones; the draw belongs to (seed, chunk), so it can be replayed."""

    edges_s: tuple[float, ...]
    """Ascending edges of the bins [s], one more than bins."""
    counts: tuple[int, ...]
    name: str = "recorded"

    def __post_init__(self) -> None:
        edges, counts = np.asarray(self.edges_s, dtype=np.float64), np.asarray(self.counts)
        if not (
            len(edges) == len(counts) + 1 >= 2
            and np.isfinite(edges).all()
            and 0 <= edges[0] <= edges[-1] <= LONGEST_S
            and (np.diff(edges) >= 0).all()
            and (counts >= 0).all()
            and counts.sum() > 0
        ):
            raise OneDPError(
                f"A latency histogram needs n counts (0 or more, one at least above) and n + 1 ascending edges [s] "
                f"from 0 to {LONGEST_S:g}; these are {len(counts)} counts and {len(edges)} edges."
            )

    @classmethod
    def of(cls, samples_s: Sequence[float], name: str = "recorded", bins: int = 50) -> HistogramLatency:
        """From recorded latencies [s]: bins of equal counts, so that rare slow answers keep their place."""
        if len(samples_s) == 0:
            raise OneDPError("There is no recorded latency to make a histogram of.")
        samples = np.sort(np.asarray(samples_s, dtype=np.float64))
        wrong = samples[~((samples >= 0) & (samples <= LONGEST_S))]
        if len(wrong):
            raise OneDPError(f"A recorded latency is {wrong[0]:g} s; all must be from 0 to {LONGEST_S:g} s.")
        bins = min(bins, len(samples))
        edges = np.quantile(samples, np.linspace(0, 1, bins + 1))
        counts = np.diff(np.round(np.linspace(0, len(samples), bins + 1)).astype(int))
        return cls(tuple(float(edge) for edge in edges), tuple(int(count) for count in counts), name)

    def quantile(self, q: float) -> float:
        """Latency [s] below which the share ``q`` lies."""
        shares = np.concatenate([[0.0], np.cumsum(self.counts) / sum(self.counts)])
        return float(np.interp(q, shares, self.edges_s))

    @property
    def label(self) -> str:
        """Name and median."""
        return f"{self.name} (p50 {self.quantile(0.5):.3g} s)"

    def seconds(self, seed: int, chunk: int) -> float:
        """Drawn from numpy's Philox keyed by (seed, chunk), in a stream apart from the noise's."""
        bits = np.random.Philox(key=np.array([seed, chunk], dtype=np.uint64), counter=[0, 0, 0, 1])
        return self.quantile(np.random.Generator(bits).random())

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": "histogram",
            "name": self.name,
            "edges_s": list(self.edges_s),
            "counts": list(self.counts),
        }

    @classmethod
    def read(cls, path: Path) -> HistogramLatency:
        """A file with ``format``, ``edges_s`` and ``counts``, or with ``latencies_s``, every one of them.

        Raises ``OneDPError`` on anything else.
        """
        expected = f"expected JSON with format '{HISTOGRAM_FORMAT}' and either edges_s and counts, or latencies_s"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != HISTOGRAM_FORMAT:
                raise OneDPError(f"{path} has the format {data['format']!r}; {expected}.")
            if "latencies_s" in data:
                return cls.of([float(value) for value in data["latencies_s"]], path.stem)
            return cls(tuple(float(edge) for edge in data["edges_s"]), tuple(int(n) for n in data["counts"]), path.stem)
        except OSError as error:
            raise OneDPError(f"The latencies {path} cannot be read ({error.strerror}); {expected}.") from error
        except (UnicodeDecodeError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise OneDPError(f"{path} holds no latencies ({type(error).__name__}: {error}); {expected}.") from error


def save_latencies(path: Path, latencies_s: Sequence[float], facts: Mapping[str, Any]) -> None:
    """Write every recorded latency [s] to ``path``, for ``HistogramLatency.read``; ``facts``: where they are from."""
    write_json(path, {"format": HISTOGRAM_FORMAT, **facts, "latencies_s": [float(value) for value in latencies_s]})


def paper_latency(nfe: int) -> FixedLatency:
    """The paper's V100: the three published totals; other numbers of passes at its 9 ms + 6.6 ms a pass."""
    return FixedLatency(PAPER_V100_S.get(nfe, round(PAPER_ENCODING_S + PAPER_PASS_S * nfe, 6)), "paper")


def parse_latency(text: str, nfe: int, measure: Callable[[], Sequence[float]]) -> FixedLatency | HistogramLatency:
    """Read ``0.669`` [s], ``measured``, ``paper`` or the path of a recorded histogram (``HistogramLatency.read``).

    ``nfe``: network passes of the policy, for ``paper``. ``measure``: latencies [s] of the policy on this machine.
    """
    if text == "paper":
        return paper_latency(nfe)
    if text == "measured":
        return HistogramLatency.of(measure(), "measured")
    try:
        return FixedLatency(float(text))
    except ValueError:
        pass
    path = Path(text)
    if not path.is_file():
        raise OneDPError(
            f"The latency '{text}' is not known. Valid: seconds (0.669), measured, paper, or a file of latencies."
        )
    return HistogramLatency.read(path)
