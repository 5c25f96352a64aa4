"""What one policy adds to another under latency: paired on the same starts, with the loss that latency brings each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from latency_tables import charged_s, executor_of, paired_text

from onedp.evaluate.results import BOOTSTRAP_SEED, EvaluationResult
from onedp.evaluate.statistics import paired_mean_difference

REFERENCE_SAMPLER = "ddim:10"
"""What a user who has no student would run first."""
FROZEN = ""
Cells = dict[str, EvaluationResult]
Pair = tuple[EvaluationResult, EvaluationResult]
EXPLANATION = f"""Each policy at its own latency on the paper's V100 against the teacher with {REFERENCE_SAMPLER} at
its own, on the same starts. "best" is each policy's executor with most success, which flatters both. A policy that is
better while the world waits is so under latency too, so the last column takes that off: what latency costs the
reference more than the policy; its bootstrap interval is too narrow where few starts differ. Behind the other
differences stand the starts that only the policy and only the reference solved, and McNemar's exact p. Nothing is
corrected for the number of rows."""


def what_is_added(results: Sequence[EvaluationResult]) -> str:
    """Markdown: success of each policy minus the reference's; empty where no task has both with equal starts."""
    lines = []
    for task in sorted({row.task for row in results}):
        own = [row for row in results if row.task == task]
        reference = _cells_of(own, lambda row: row.sampler == REFERENCE_SAMPLER)
        for name in sorted({_name(row) for row in own if row.sampler != REFERENCE_SAMPLER}):
            policy = _cells_of(own, lambda row, name=name: _name(row) == name)
            lines += _rows(f"| {task} | {' '.join(name)} |", policy, reference)
    if not lines:
        return ""
    head = "| task | policy | executor | nothing charged | own latency | latency costs the reference more |"
    return "\n".join(["## Against the teacher's few passes", "", EXPLANATION, "", head, "|---" * 6 + "|", *lines])


def _name(row: EvaluationResult) -> tuple[str, str]:
    return row.policy, row.sampler


def _cells_of(results: Iterable[EvaluationResult], wanted: Callable[[EvaluationResult], bool]) -> Cells:
    """By executor, of cells with fresh noise that charge the paper's latency; FROZEN is the one that charges nothing.

    Where a policy was run with several re-plannings, those of the smallest.
    """
    cells: Cells = {}
    own = [row for row in results if wanted(row)]
    replan = min((row.timing.replan_steps for row in own if row.timing is not None), default=0)
    for row in own:
        assert row.timing is not None
        if row.timing.noise == "fresh" and row.timing.replan_steps == replan:
            if charged_s(row) == 0 and executor_of(row) == "sync":
                cells.setdefault(FROZEN, row)
            elif charged_s(row) > 0 and row.timing.latency.get("name") == "paper":
                cells.setdefault(executor_of(row), row)
    return cells


def _rows(start: str, policy: Cells, reference: Cells) -> list[str]:
    """A row for each executor that both were run with, and one for the best of each."""
    if FROZEN not in policy or FROZEN not in reference:
        return []
    pairs = {how: (policy[how], reference[how]) for how in sorted(policy, key=_sync_first) if how in reference}
    del pairs[FROZEN]
    if len(pairs) > 1:
        best = [max(pairs, key=lambda how, cells=cells: cells[how].success_rate) for cells in (policy, reference)]
        pairs[f"best ({' / '.join(best)})"] = (policy[best[0]], reference[best[1]])
    return [
        f"{start} {how} | {paired_text(policy[FROZEN], reference[FROZEN])} | {paired_text(*pair)} | "
        f"{_difference_of_losses(pair, (policy[FROZEN], reference[FROZEN]))} |"
        for how, pair in pairs.items()
        if pair[0].seeds == pair[1].seeds == policy[FROZEN].seeds == reference[FROZEN].seeds
    ]


def _sync_first(how: str) -> tuple[bool, str]:
    return how != "sync", how


def _difference_of_losses(charged: Pair, still: Pair) -> str:
    """(charged - still) of the policy minus that of the reference, bootstrapped over starts."""
    losses = [one.successes.astype(np.float64) - other.successes for one, other in zip(charged, still, strict=True)]
    estimate = paired_mean_difference(*losses, np.random.default_rng(BOOTSTRAP_SEED))
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"
