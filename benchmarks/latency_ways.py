"""Which way the episodes of each cell went, in tasks that have two."""

from __future__ import annotations

from collections.abc import Sequence

from latency_tables import charged_s, how_of, time_text

from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.statistics import binary_entropy, wilson_interval

INTRODUCTION = """## Ways

Of the episodes that went a way. Intervals are Wilson's, at 95 %; that of the entropy (of left or not) is what it can be
inside that of the share.
"""


def ways_table(results: Sequence[EvaluationResult]) -> str:
    """Markdown: share of the left way and entropy, one row a cell; empty where no cell has ways."""
    rows = [row for row in results if row.ways]
    if not rows:
        return ""
    lines = [
        INTRODUCTION,
        "| task | policy | sampler | latency | executor | success | episodes with a way | left | entropy [bit] |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row.task, row.policy, row.sampler, charged_s(row), row.label)):
        left, total = row.ways.get("left", 0), sum(row.ways.values())
        lines.append(
            f"| {row.task} | {row.policy} | {row.sampler} | {time_text(charged_s(row))} | {how_of(row)} | "
            f"{row.success_rate:.2f} | {total} | {_share(left, total)} | {_entropy(left, total)} |"
        )
    return "\n".join(lines)


def _share(left: int, total: int) -> str:
    low, high = wilson_interval(left, total)
    return f"{left / total:.2f} [{low:.2f}, {high:.2f}]"


def _entropy(left: int, total: int) -> str:
    entropy = binary_entropy(left, total)
    return f"{entropy.value:.2f} [{entropy.low:.2f}, {entropy.high:.2f}]"
