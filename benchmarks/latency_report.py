"""Table, latency budgets and plots of the cells that latency_grid.py made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onedp.evaluate.comparison import PairedDifference, load_results
from onedp.evaluate.results import EvaluationResult
from onedp.files import replaced_file

COLOURS = ("#1b6ca8", "#c2571a", "#2f8f5b", "#8a4fa3", "#7a7a7a", "#b3a000", "#111111", "#d46a9f")
HEADER = """# Charged latency

Made by `benchmarks/latency_grid.py` from the files beside it. Latency: time that was charged, as whole control ticks.
Dropped, repeated and starved are shares of all ticks; the jump is between two chunks on their first common tick (rtc
fades it away), in units of the action. Time to success counts from the start of the episode. The passes that rtc adds
(a backward pass each) are not charged unless the latency is `measured`; of a one-step policy rtc can only choose
among four noises and fade over, unless it learned to go on from a chunk (method `going-on`). Intervals are at 95 %.
Without latency drop-late does what sync does; where an executor was not run without latency, its budget is measured
against sync. `latency_ms` in the files depends on what else the machine did.
"""
LOWEST_SUCCESS = 0.2
"""Of a policy without latency, for it to have a latency budget."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


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


def latency_budget(results: Iterable[EvaluationResult], share: float = 0.95) -> float | None:
    """The largest latency [s], of those measured, up to which ``share`` of the success without latency is kept.

    None when there is no result without latency, or its success is below ``LOWEST_SUCCESS``: nothing would be lost of
    nothing. Of one policy, task and executor. Of results with equally many ticks the worst counts.
    """
    rows = sorted(results, key=lambda row: (charged_s(row), row.success_rate))
    if not rows or charged_s(rows[0]) > 0 or rows[0].success_rate < LOWEST_SUCCESS:
        return None
    wanted = share * rows[0].success_rate
    kept = list(itertools.takewhile(lambda row: row.success_rate >= wanted, rows))
    return charged_s(kept[-1])


def table(results: Sequence[EvaluationResult]) -> str:
    """Markdown: one row a cell, and the latency budgets below."""
    lines = [
        "| task | policy | sampler | latency | executor | replan | starts | success | charged - not charged "
        "| executor - sync | score | time to success [s] | dropped | repeated | starved | jump |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(results, key=lambda row: (row.task, row.policy, row.sampler, charged_s(row), row.label)):
        timing = row.timing
        assert timing is not None
        low, high = row.success_ci95
        score_low, score_high = row.score_ci95
        ticks = timing.executed + timing.repeated + timing.starved
        lines.append(
            f"| {row.task} | {row.policy} | {row.sampler} | {_latency(row)} | "
            f"{how_of(row)} | {timing.replan_steps} | "
            f"{row.episodes} | {row.success_rate:.2f} [{low:.2f}, {high:.2f}] | "
            f"{_against_sync(row, results, 0.0)} | {_against_sync(row, results, charged_s(row))} | "
            f"{row.score_mean:.3f} [{score_low:.3f}, {score_high:.3f}] | "
            f"{'-' if timing.completion_s is None else f'{timing.completion_s:.1f}'} | "
            f"{timing.dropped / ticks:.0%} | {timing.repeated / ticks:.0%} | {timing.starved / ticks:.0%} | "
            f"{'-' if timing.seam_jump is None else f'{timing.seam_jump:.1f}'} |"
        )
    return "\n".join([*lines, "", *_budgets(results)])


def _latency(row: EvaluationResult) -> str:
    seconds = charged_s(row)
    return f"{1000 * seconds:.0f} ms" if math.isfinite(seconds) else "no chunk came"


def _against_sync(row: EvaluationResult, results: Sequence[EvaluationResult], latency_s: float) -> str:
    """Paired difference of success to the sync cell at ``latency_s`` of the same policy, re-planning and starts."""
    assert row.timing is not None
    sync = (*line_of(row)[:2], f"sync, replan {row.timing.replan_steps}")
    for other in results:
        if other is not row and line_of(other) == sync and charged_s(other) == latency_s and other.seeds == row.seeds:
            pair = PairedDifference.of(row, other)
            return f"{pair.success_difference:+.2f} [{pair.success_ci95[0]:+.2f}, {pair.success_ci95[1]:+.2f}]"
    return ""


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
        "Latency budget: the largest latency measured up to which 95 % of the success without it is kept.",
        "",
    ]
    for line, rows in lines_of(results).items():
        budget = latency_budget(rows)
        if budget is not None:
            lines.append(f"- {', '.join(line)}: {1000 * budget:.0f} ms")
    return lines


def report(results: Sequence[EvaluationResult], folder: Path) -> None:
    """``README.md`` with the table, ``latency.png``, and ``executors.png`` where other executors than sync were run."""
    with replaced_file(folder / "README.md") as temporary:
        temporary.write_text(f"{HEADER}\n{table(results)}\n")
    drawn = [row for row in results if math.isfinite(charged_s(row))]
    draw_latencies([row for row in drawn if executor_of(row) == "sync"], folder / "latency.png")
    if any(executor_of(row) != "sync" for row in drawn):
        draw_executors(drawn, folder / "executors.png")


def executor_of(result: EvaluationResult) -> str:
    """Its name."""
    assert result.timing is not None
    return result.timing.executor


def draw_latencies(results: Sequence[EvaluationResult], path: Path) -> None:
    """Success and score with 95 % intervals against the latency: a column a task, a line a policy and re-planning.

    Where the score says no more than success does, the time to success [s] stands in its place.
    """
    tasks = sorted({row.task for row in results})
    ticks = sorted({round(1000 * charged_s(row)) for row in results})
    scored, second = _second_measure(results)
    figure, panels = _figure(tasks)
    handles: dict[str, Any] = {}
    lines = lines_of(results)
    names = sorted({line[1:] for line in lines})
    for (upper, lower), task in zip(panels.T, tasks, strict=True):
        for (line_task, *name), rows in lines.items():
            if line_task == task:
                number = names.index(tuple(name))
                # lines stand beside each other, and 0 has a place on the logarithmic axis
                x = [1000 * charged_s(row) * (1 + 0.03 * number) + 10 for row in rows]
                handles[", ".join(name)] = _points(upper, x, rows, _success, number, "-")
                _points(lower, x, rows, second, number, "-")
        for axes in (upper, lower):
            axes.set_xscale("log")
            axes.set_xticks([tick + 10 for tick in ticks], [str(tick) for tick in ticks])
            axes.set_xticks([], minor=True)
        lower.set_xlabel("charged latency [ms]")
    _finish(figure, panels, handles, scored, path)


def draw_executors(results: Sequence[EvaluationResult], path: Path) -> None:
    """Success and score or time to success of each executor, and of a frozen world: a column a task, a place a policy.

    Of the policies and latencies that another executor than sync was run with.
    """

    def place_of(row: EvaluationResult) -> tuple[float, str]:
        return -charged_s(row), f"{row.policy} {row.sampler}"

    tasks = sorted({row.task for row in results if executor_of(row) != "sync"})
    places = sorted({place_of(row) for row in results if executor_of(row) != "sync" and charged_s(row) > 0})
    scored, second = _second_measure(results)
    figure, panels = _figure(tasks)
    handles: dict[str, Any] = {}
    hows = ["nothing charged", *sorted({how_of(row) for row in results}, key=lambda how: how != "sync")]
    for (upper, lower), task in zip(panels.T, tasks, strict=True):
        for number, how in enumerate(hows):
            shown = []
            for index, (latency, name) in enumerate(places):
                wanted = (0.0, "sync") if number == 0 else (-latency, how)
                shown += [
                    (index + 0.12 * (number - 2), row)
                    for row in results
                    if row.task == task
                    and f"{row.policy} {row.sampler}" == name
                    and (charged_s(row), how_of(row)) == wanted
                ]
            if shown:
                x, rows = [x for x, _ in shown], [row for _, row in shown]
                handles[how] = _points(upper, x, rows, _success, number, "none")
                _points(lower, x, rows, second, number, "none")
        labels = [f"{name}\n{-1000 * latency:.0f} ms" for latency, name in places]
        lower.set_xticks(range(len(places)), labels, rotation=40, ha="right", fontsize=7)
        lower.set_xlim(-0.5, len(places) - 0.5)
    _finish(figure, panels, handles, scored, path)


Measure = Callable[[EvaluationResult], tuple[float, float, float]]
"""A row's number and the ends of its interval."""


def _success(row: EvaluationResult) -> tuple[float, float, float]:
    return (row.success_rate, *row.success_ci95)


def _score(row: EvaluationResult) -> tuple[float, float, float]:
    return (row.score_mean, *row.score_ci95)


def _time_to_success(row: EvaluationResult) -> tuple[float, float, float]:
    """The mean without an interval; NaN where nothing succeeded."""
    assert row.timing is not None
    mean = float("nan") if row.timing.completion_s is None else row.timing.completion_s
    return mean, mean, mean


def _second_measure(results: Sequence[EvaluationResult]) -> tuple[bool, Measure]:
    """Whether the score says more than success does, and what the lower row of panels shows."""
    scored = any(row.score_mean != row.success_rate for row in results)
    return scored, _score if scored else _time_to_success


def _figure(tasks: Sequence[str]) -> tuple[Figure, Any]:
    figure = Figure(figsize=(max(6.0, 3.4 * len(tasks)), 5.4))
    panels = figure.subplots(2, len(tasks), sharex="col", sharey="row", squeeze=False)
    for axes, task in zip(panels[0], tasks, strict=True):
        axes.set_title(task, fontsize=8)
        axes.set_ylim(0, 1.03)
    return figure, panels


def _points(
    axes: Axes, x: Sequence[float], rows: Sequence[EvaluationResult], measure: Measure, number: int, line: str
) -> Any:
    """``number``: of the line or executor, for colour and marker."""
    y, low, high = np.array([measure(row) for row in rows]).T
    return axes.errorbar(
        x,
        y,
        yerr=[y - low, high - y],
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        linestyle=line,
        linewidth=1.2,
        elinewidth=0.8,
        markersize=4,
    )


def _finish(figure: Figure, panels: Any, handles: dict[str, Any], scored: bool, path: Path) -> None:
    """Names of the rows, the legend below, and the file."""
    panels[0, 0].set_ylabel("success")
    panels[1, 0].set_ylabel("score" if scored else "time to success [s]")
    for axes in panels.flat:
        axes.grid(alpha=0.2)
    columns = 2 if len(handles) > 4 else 1
    legend_in = 0.17 * -(-len(handles) // columns) + 0.1
    figure.set_figheight(5.0 + legend_in)
    figure.legend(handles.values(), handles.keys(), loc="lower center", fontsize=7, frameon=False, ncols=columns)
    figure.tight_layout(rect=(0, legend_in / (5.0 + legend_in), 1, 1))
    with replaced_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:])
