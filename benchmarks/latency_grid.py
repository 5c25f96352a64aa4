"""What latency costs when the world does not wait: policies x latencies x tasks x executors, one file a cell.

    python benchmarks/latency_grid.py --policies pusht-keypoints-onedp-s pusht-keypoints-ddpm@ddim:10 \
        --tasks pusht-drift@speed=0 pusht-drift@speed=4 --latencies 0 0.075 0.669 --executors sync drop-late rtc

Cells that are there already are kept, so a run that was stopped goes on where it was: delete a file to make it again.
``POLICY@SAMPLER:starts=10`` gives a slow policy fewer starts. ``--latencies paper`` charges each policy what its
sampler took on the paper's V100. ``--plot-only`` draws what is there.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onedp.errors import OneDPError
from onedp.evaluate.comparison import load_results, save_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.runner import EvaluationRequest, evaluate
from onedp.files import replaced_file
from onedp.tasks import get_task

COLOURS = ("#1b6ca8", "#c2571a", "#2f8f5b", "#8a4fa3", "#7a7a7a", "#b3a000")
HEADER = """# Charged latency

Made by `benchmarks/latency_grid.py` from the files beside it. Latency: time that was charged, as whole control ticks.
Dropped, repeated and starved are shares of all ticks; the jump is between two chunks on their first common tick (rtc
fades it away), in units of the action. Intervals are at 95 %. Without latency drop-late does what sync does; where an
executor was not run without latency, its budget is measured against sync. `latency_ms` in the files depends on what
else the machine did.
"""
MARKERS = {"sync": "o", "drop-late": "s", "ensemble": "^", "rtc": "D"}


@dataclass(frozen=True)
class Options:
    """The grid. Rows are made in the order tasks, latencies, executors, policies: the last one varies first."""

    policies: tuple[str, ...] = ("pusht-keypoints-onedp-s",)
    """POLICY, POLICY@SAMPLER, and :starts=N behind either."""
    tasks: tuple[str, ...] = ("pusht-drift@speed=0", "pusht-drift@speed=4", "pusht-reset")
    latencies: tuple[str, ...] = ("paper",)
    """Seconds, paper, measured, or files of recorded latencies."""
    executors: tuple[str, ...] = ("sync",)
    noises: tuple[str, ...] = ("fresh",)
    replan: int | None = None
    """Policy steps between chunks; default: the policy's own."""
    starts: int = 25
    first_seed: int = 100_000
    workers: int = 1
    folder: Path = Path("results/realtime")
    plot: Path | None = None
    """Where to draw success against latency (PNG or SVG); default: latency.png in the folder."""
    plot_only: bool = False


@dataclass(frozen=True)
class Cell:
    """One evaluation of the grid."""

    request: EvaluationRequest

    @property
    def file(self) -> str:
        """Says everything that makes the cell different from others."""
        request = self.request
        parts = [request.task, request.policy.rstrip("/").rsplit("/", 1)[-1], request.sampler or "own"]
        parts += [Path(request.latency).stem if "/" in request.latency else request.latency, request.executor]
        if request.replan_steps is not None:
            parts.append(f"replan{request.replan_steps}")
        if request.noise != "fresh":
            parts.append(request.noise)
        name = "--".join(str(part) for part in parts)
        return "".join(c if c.isalnum() or c in ".-=" else "_" for c in name) + ".json"


def cells_of(options: Options) -> list[Cell]:
    """All cells, in the order in which they are made."""
    grid = itertools.product(options.tasks, options.latencies, options.executors, options.noises, options.policies)
    cells = []
    for task, latency, executor, noise, contestant in grid:
        name, _, starts = contestant.partition(":starts=")
        policy, _, sampler = name.partition("@")
        request = EvaluationRequest(
            policy=policy,
            sampler=sampler or None,
            task=task,
            episodes=int(starts or options.starts),
            first_seed=options.first_seed,
            workers=options.workers,
            latency=latency,
            executor=executor,
            replan_steps=options.replan,
            noise=noise,
        )
        cells.append(Cell(request))
    return cells


def read_cells(folder: Path) -> list[EvaluationResult]:
    """Every finished cell in a folder; raises ``OneDPError`` for files that are none."""
    results = [load_results(path) for path in sorted(folder.glob("*.json"))]
    return [result for result in results if isinstance(result, EvaluationResult) and result.timing is not None]


def charged_s(result: EvaluationResult) -> float:
    """The latency really charged, as the ticks that were consumed [s]."""
    assert result.timing is not None
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

    None when there is no result without latency. Of one policy, task and executor.
    """
    rows = sorted(results, key=charged_s)
    if not rows or charged_s(rows[0]) > 0:
        return None
    wanted = share * rows[0].success_rate
    kept = list(itertools.takewhile(lambda row: row.success_rate >= wanted, rows))
    return charged_s(kept[-1])


def table(results: Sequence[EvaluationResult]) -> str:
    """Markdown: one row a cell, and the latency budgets below."""
    lines = [
        "| task | policy | sampler | latency | executor | replan | starts | success | score | time to success [s] | "
        "dropped | repeated | starved | jump |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(results, key=lambda row: (row.task, row.policy, row.sampler, charged_s(row), row.label)):
        timing = row.timing
        assert timing is not None
        low, high = row.success_ci95
        score_low, score_high = row.score_ci95
        ticks = timing.executed + timing.repeated + timing.starved
        lines.append(
            f"| {row.task} | {row.policy} | {row.sampler} | {1000 * charged_s(row):.0f} ms | "
            f"{how_of(row)} | {timing.replan_steps} | "
            f"{row.episodes} | {row.success_rate:.2f} [{low:.2f}, {high:.2f}] | "
            f"{row.score_mean:.3f} [{score_low:.3f}, {score_high:.3f}] | "
            f"{'-' if timing.completion_s is None else f'{timing.completion_s:.1f}'} | "
            f"{timing.dropped / ticks:.0%} | {timing.repeated / ticks:.0%} | {timing.starved / ticks:.0%} | "
            f"{'-' if timing.seam_jump is None else f'{timing.seam_jump:.1f}'} |"
        )
    return "\n".join([*lines, "", *_budgets(results)])


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


def draw(results: Sequence[EvaluationResult], path: Path) -> None:
    """Success and score with 95 % intervals against the latency: a column a task, a line a policy and executor.

    Where the score says no more than success does, the time to success [s] stands in its place.
    """
    tasks = sorted({row.task for row in results})
    names = sorted({line_of(row)[1] for row in results})
    ticks = sorted({round(1000 * charged_s(row)) for row in results})
    scored = any(row.score_mean != row.success_rate for row in results)
    figure = Figure(figsize=(max(6.0, 3.0 * len(tasks)), 5.4))
    panels = figure.subplots(2, len(tasks), sharey="row", squeeze=False)
    handles: dict[str, Any] = {}
    for (upper, lower), task in zip(panels.T, tasks, strict=True):
        own = [row for row in results if row.task == task]
        _panel(upper, own, names, lambda row: (row.success_rate, *row.success_ci95))
        _panel(lower, own, names, _score if scored else _time_to_success)
        for axes in (upper, lower):
            axes.set_xscale("log")
            axes.set_xticks([tick + 10 for tick in ticks], [str(tick) for tick in ticks])
            axes.set_xticks([], minor=True)
        upper.set_title(task, fontsize=8)
        upper.set_ylim(0, 1)
        lower.set_xlabel("charged latency [ms]")
        artists, labels = upper.get_legend_handles_labels()
        handles.update(zip(labels, artists, strict=True))
    panels[0, 0].set_ylabel("success")
    panels[1, 0].set_ylabel("score" if scored else "time to success [s]")
    legend_in = 0.17 * len(handles) + 0.1
    figure.set_figheight(5.0 + legend_in)
    figure.legend(handles.values(), handles.keys(), loc="lower center", fontsize=7, frameon=False)
    figure.tight_layout(rect=(0, legend_in / (5.0 + legend_in), 1, 1))
    with replaced_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:] or "png")


def _score(row: EvaluationResult) -> tuple[float, float, float]:
    return (row.score_mean, *row.score_ci95)


def _time_to_success(row: EvaluationResult) -> tuple[float, float, float]:
    """The mean without an interval; NaN where nothing succeeded."""
    assert row.timing is not None
    mean = float("nan") if row.timing.completion_s is None else row.timing.completion_s
    return mean, mean, mean


def _panel(
    axes: Axes,
    results: Sequence[EvaluationResult],
    names: Sequence[str],
    value: Callable[[EvaluationResult], tuple[float, float, float]],
) -> None:
    """``value``: a row's number and the ends of its interval."""
    for index, ((_, name, how), rows) in enumerate(lines_of(results).items()):
        executor = how.split(",")[0]
        y, low, high = np.array([value(row) for row in rows]).T
        axes.errorbar(
            [1000 * charged_s(row) * (1 + 0.03 * index) + 10 for row in rows],  # beside each other; 0 is on the axis
            y,
            yerr=[y - low, high - y],
            color=COLOURS[names.index(name) % len(COLOURS)],
            marker=MARKERS[executor],
            linestyle="-" if executor == "sync" else "--" if executor == "drop-late" else ":",
            linewidth=1.2,
            elinewidth=0.8,
            markersize=4,
            label=f"{name}, {how}",
        )


def main(options: Options) -> None:
    """Make what is missing, then the table and the plot of everything in the folder."""
    options.folder.mkdir(parents=True, exist_ok=True)
    cells = [] if options.plot_only else cells_of(options)
    for cell in cells:
        get_task(str(cell.request.task))  # a misspelt one is known before the first hour
    for number, cell in enumerate(cells, start=1):
        path = options.folder / cell.file
        if not path.exists():
            print(f"[{number}/{len(cells)}] {cell.file}", flush=True)
            save_results(path, evaluate(cell.request))
    results = read_cells(options.folder)
    if not results:
        raise OneDPError(f"There is no finished cell in {options.folder}.")
    with replaced_file(options.folder / "README.md") as temporary:
        temporary.write_text(f"{HEADER}\n{table(results)}\n")
    draw(results, options.plot or options.folder / "latency.png")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except OneDPError as error:
        sys.exit(f"latency_grid: {error}")
