"""Tasks with several equally good ways: which one each episode went, and how evenly they are taken."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping


def way_counts(ways: Iterable[str | None]) -> dict[str, int]:
    """Episodes that went each way, in the ways' alphabetical order; those that went none (None) are left out."""
    return dict(sorted(Counter(way for way in ways if way is not None).items()))


def way_entropy(counts: Mapping[str, float]) -> float:
    """Shannon entropy of the shares of counts [bit]: 0 when all go one way, 1 when two ways are as frequent."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values() if n) + 0.0


def describe_ways(counts: Mapping[str, int]) -> str:
    """``left 0.52, right 0.48 of 100 episodes, entropy 1.00 bit``."""
    total = sum(counts.values())
    shares = ", ".join(f"{way} {n / total:.2f}" for way, n in counts.items())
    return f"{shares} of {total} episodes, entropy {way_entropy(counts):.2f} bit"
