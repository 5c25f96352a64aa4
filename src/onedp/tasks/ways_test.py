"""Shares and entropy of ways."""

from __future__ import annotations

import pytest

from onedp.tasks.ways import describe_ways, way_counts, way_entropy


def test_shares_and_entropy() -> None:
    counts = way_counts(["right", None, "left", "right", "right"])
    assert counts == {"left": 1, "right": 3}
    assert way_entropy(counts) == pytest.approx(0.811278, abs=1e-6)
    assert way_entropy({"left": 5, "right": 5}) == 1.0
    assert str(way_entropy({"left": 7})) == "0.0"
    assert describe_ways(counts) == "left 0.25, right 0.75 of 4 episodes, entropy 0.81 bit"
