"""Text of a latency grid: every cell in a row, success of all executors side by side, and latency budgets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onedp.evaluate.comparison import PairedDifference, load_results
from onedp.evaluate.results import BOOTSTRAP_SEED, EvaluationResult
from onedp.evaluate.statistics import bootstrap_mean

HEADER = """# Charged latency

Made by `benchmarks/latency_grid.py` from the files beside it. Latency: time that was charged, as whole control ticks.
Dropped, repeated and starved are shares of all ticks; the jump is between two chunks on their first common tick (rtc
fades it away, ensemble executes the mean of both), in units of the action; none is given where the robot stood still
between them. Time to success counts from the start of the episode and is the mean of those that succeeded: where few
do, they are the easy ones, so the column behind it compares with the cell without latency on the starts that both
solved. The passes that rtc adds (a backward pass each) are not charged unless the latency is `measured`; of a one-step
policy rtc can only choose among four noises and fade over, unless it learned to go on from a chunk (method `going-on`).
Intervals are at 95 %; behind a paired difference stand the starts that only the first and only the second cell solved,
and McNemar's exact p. With few such starts the interval is too narrow, and p is what counts; it is not corrected for
the number of cells. Without latency drop-late does what sync does; where an executor was not run without latency, its
budget is measured against sync. `latency_ms` in the files depends on what else the machine did.
"""
LOWEST_SUCCESS = 0.2
"""Of a policy without latency, for it to have a latency budget."""


def read_cells(folder: Path) -> list[EvaluationResult]:
    """Every finished cell in a folder; raises ``OneDPError`` for files that are none."""
    results = [load_results(path) for path in sorted(folder.glob("*.json"))]
    return [result for result in results if isinstance(result, EvaluationResult) and result.timing is not None]


def charged_s(result: EvaluationResult) -> float:
    """The latency really charged, as the ticks that were consumed [s]; infinite where no episode was as long as it."""
    assert result.timing is not None
    if result.timing.chunks == 0:
        return math.inf
    return result.timing.delay_ticks / result.timing.control_hz


def how_of(result: EvaluationResult) -> str:
    """Executor, and noise where it is not fresh."""
    assert result.timing is not None
    noise = result.timing.noise
    return result.timing.executor + ("" if noise == "fresh" else f", {noise} noise")


def line_of(result: EvaluationResult) -> tuple[str, str, str]:
    """What the cells of one line of the plot have in common: task, policy and sampler, executor and re-planning."""
    assert result.timing is not None
    return (
        result.task,
        f"{result.policy} {result.sampler}",
        f"{how_of(result)}, replan {result.timing.replan_steps}",
    )


@dataclass(frozen=True)
class Budget:
    """Where between two measured latencies a policy begins to lose."""

    kept_s: float
    """The largest up to which the success is kept."""
    lost_s: float | None
    """The next one, at which it is not; None: none longer was measured."""

    @property
    def text(self) -> str:
        """As far as was measured."""
        kept, lost = 1000 * self.kept_s, None if self.lost_s is None else 1000 * self.lost_s
        if lost is None:
            return f">= {kept:.0f} ms"
        return f"{kept:.0f} to {lost:.0f} ms" if kept else f"< {lost:.0f} ms"


def latency_budget(results: Iterable[EvaluationResult], share: float = 0.95) -> Budget | None:
    """Up to which of the measured latencies ``share`` of the success without latency is kept, and the next longer one.

    None when there is no result without latency or none with it, or the success is below ``LOWEST_SUCCESS``: nothing
    would be lost of nothing. Of one policy, task and executor. Of results with equally many ticks the worst counts.
    """
    rows = sorted(results, key=lambda row: (charged_s(row), row.success_rate))
    if not rows or charged_s(rows[0]) > 0 or rows[0].success_rate < LOWEST_SUCCESS:
        return None
    worst: dict[float, float] = {}
    for row in rows:
        worst.setdefault(charged_s(row), row.success_rate)
    del worst[0.0]
    latencies = [latency for latency in worst if math.isfinite(latency)]
    if not latencies:
        return None
    wanted = share * rows[0].success_rate
    kept = list(itertools.takewhile(lambda latency: worst[latency] >= wanted, latencies))
    lost = latencies[len(kept)] if len(kept) < len(latencies) else None
    return Budget(kept[-1] if kept else 0.0, lost)


def table(results: Sequence[EvaluationResult]) -> str:
    """Markdown: one row a cell, and the latency budgets below."""
    lines = [
        "| task | policy | sampler | latency | executor | replan | starts | success | charged - not charged "
        "| executor - sync | score | time to success [s] | on common starts: charged - not charged [s] "
        "| dropped | repeated | starved | jump |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(results, key=lambda row: (row.task, row.policy, row.sampler, charged_s(row), row.label)):
        timing = row.timing
        assert timing is not None
        low, high = row.success_ci95
        score_low, score_high = row.score_ci95
        ticks = timing.executed + timing.repeated + timing.starved
        lines.append(
            f"| {row.task} | {row.policy} | {row.sampler} | {time_text(charged_s(row))} | "
            f"{how_of(row)} | {timing.replan_steps} | "
            f"{row.episodes} | {row.success_rate:.2f} [{low:.2f}, {high:.2f}] | "
            f"{_against_sync(row, results, 0.0, paired_text)} | "
            f"{_against_sync(row, results, charged_s(row), paired_text)} | "
            f"{row.score_mean:.3f} [{score_low:.3f}, {score_high:.3f}] | "
            f"{_with_interval(time_to_success(row))} | {_against_sync(row, results, 0.0, later_text)} | "
            f"{timing.dropped / ticks:.0%} | {timing.repeated / ticks:.0%} | {timing.starved / ticks:.0%} | "
            f"{'-' if timing.jump is None else f'{timing.jump:.1f}'} |"
        )
    return "\n".join([*lines, "", *_budgets(results)])


def side_by_side(results: Sequence[EvaluationResult]) -> str:
    """Markdown: success with nothing charged and with each executor, one row for each policy's latency on a task.

    Of cells with equally many ticks the worst counts.
    """
    hows = sorted({how_of(row) for row in results}, key=lambda how: (how != "sync", how))
    found: dict[tuple[str, str, str, int, float], dict[str, float]] = {}
    for row in results:
        assert row.timing is not None
        place = (row.task, row.policy, row.sampler, row.timing.replan_steps, charged_s(row))
        there = found.setdefault(place, {})
        there[how_of(row)] = min(row.success_rate, there.get(how_of(row), 1.0))
    lines = [
        f"| task | policy | sampler | replan | latency | nothing charged | {' | '.join(hows)} |",
        "|---|---|---|---|---|---|" + "---|" * len(hows),
    ]
    for (*place, latency), by_how in sorted(found.items()):
        task, policy, sampler, replan = place
        still = found.get((task, policy, sampler, replan, 0.0), {}).get("sync")
        if latency > 0:
            numbers = ["" if value is None else f"{value:.2f}" for value in (still, *map(by_how.get, hows))]
            lines.append(f"| {task} | {policy} | {sampler} | {replan} | {time_text(latency)} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def time_to_success(row: EvaluationResult) -> tuple[float, float, float] | None:
    """Mean [s] over the episodes that succeeded and its 95 % interval; None where none did, no width where one did."""
    assert row.timing is not None
    times = np.array([each.steps / row.timing.control_hz for each in row.per_episode if each.success])
    if len(times) < 2:
        return (float(times[0]),) * 3 if len(times) else None
    estimate = bootstrap_mean(times, np.random.default_rng(BOOTSTRAP_SEED))
    return estimate.value, estimate.low, estimate.high


def _with_interval(estimate: tuple[float, float, float] | None) -> str:
    return "-" if estimate is None else f"{estimate[0]:.1f} [{estimate[1]:.1f}, {estimate[2]:.1f}]"


def time_text(latency_s: float) -> str:
    """Milliseconds of a charged latency."""
    return f"{1000 * latency_s:.0f} ms" if math.isfinite(latency_s) else "no chunk came"


def _against_sync(
    row: EvaluationResult,
    results: Sequence[EvaluationResult],
    latency_s: float,
    text: Callable[[EvaluationResult, EvaluationResult], str],
) -> str:
    """``text`` of it and the sync cell at ``latency_s`` of the same policy, re-planning and starts, if there is one."""
    assert row.timing is not None
    sync = (*line_of(row)[:2], f"sync, replan {row.timing.replan_steps}")
    for other in results:
        if other is not row and line_of(other) == sync and charged_s(other) == latency_s and other.seeds == row.seeds:
            return text(row, other)
    return ""


def later_text(row: EvaluationResult, other: EvaluationResult) -> str:
    """How much later [s] it succeeds, of the starts that both solved: mean, its 95 % interval, their number."""
    assert row.timing is not None
    hz = row.timing.control_hz
    later = np.array(
        [
            (mine.steps - theirs.steps) / hz
            for mine, theirs in zip(row.per_episode, other.per_episode, strict=True)
            if mine.success and theirs.success
        ]
    )
    if len(later) < 2:
        return "-"
    estimate = bootstrap_mean(later, np.random.default_rng(BOOTSTRAP_SEED))
    return f"{estimate.value:+.1f} [{estimate.low:+.1f}, {estimate.high:+.1f}], {len(later)} starts"


def paired_text(row: EvaluationResult, other: EvaluationResult) -> str:
    """Difference of success on the same starts, the starts that only one of the two solved, and McNemar's exact p.

    With few such starts the bootstrap's interval is too narrow; then p is what counts.
    """
    pair = PairedDifference.of(row, other)
    table, (low, high) = pair.successes, pair.success_ci95
    counts = f"{table.only_candidate}:{table.only_reference}"
    return f"{pair.success_difference:+.2f} [{low:+.2f}, {high:+.2f}], {counts}, p {table.exact_p:.2g}"


def lines_of(results: Sequence[EvaluationResult]) -> dict[tuple[str, str, str], list[EvaluationResult]]:
    """Cells of each line, by latency. A line without a cell of no latency starts at that of sync."""
    lines: dict[tuple[str, str, str], list[EvaluationResult]] = {}
    for row in sorted(results, key=lambda row: (line_of(row), charged_s(row))):
        lines.setdefault(line_of(row), []).append(row)
    for rows in lines.values():
        timing = rows[0].timing
        assert timing is not None
        if charged_s(rows[0]) > 0 and timing.noise == "fresh":
            sync = (*line_of(rows[0])[:2], f"sync, replan {timing.replan_steps}")
            rows[:0] = [row for row in lines.get(sync, []) if charged_s(row) == 0]
    return lines


def _budgets(results: Sequence[EvaluationResult]) -> list[str]:
    lines = [
        "Latency budget: between which two measured latencies less than 95 % of the success without any is left "
        '(">=": no longer one was measured).',
        "",
    ]
    for line, rows in lines_of(results).items():
        budget = latency_budget(rows)
        if budget is not None:
            lines.append(f"- {', '.join(line)}: {budget.text}")
    return lines


def executor_of(result: EvaluationResult) -> str:
    """Its name."""
    assert result.timing is not None
    return result.timing.executor
