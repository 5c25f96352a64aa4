"""Report of the cells that latency_grid.py made: README.md and plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from latency_pairs import what_is_added
from latency_tables import HEADER, charged_s, executor_of, how_of, lines_of, side_by_side, table, time_to_success
from latency_ways import ways_table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onedp.evaluate.results import EvaluationResult
from onedp.files import replaced_file

COLOURS = ("#1b6ca8", "#c2571a", "#2f8f5b", "#8a4fa3", "#7a7a7a", "#b3a000", "#111111", "#d46a9f")
LETTER_IN = 0.06
"""Width of a letter of the small font [in]."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def report(results: Sequence[EvaluationResult], folder: Path) -> None:
    """``README.md`` with the table, ``latency.png`` of sync, and ``executors.png``, each where such cells are."""
    with replaced_file(folder / "README.md") as temporary:
        parts = [
            HEADER,
            side_by_side(results),
            what_is_added(results),
            ways_table(results),
            "## All cells",
            table(results),
        ]
        temporary.write_text("\n\n".join(part.strip("\n") for part in parts if part) + "\n")
    drawn = [row for row in results if math.isfinite(charged_s(row))]
    if synchronous := [row for row in drawn if executor_of(row) == "sync"]:
        draw_latencies(synchronous, folder / "latency.png")
    if any(executor_of(row) != "sync" for row in drawn):
        draw_executors(drawn, folder / "executors.png")


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
            axes.set_xticks([tick + 10 for tick in ticks], [str(tick) for tick in ticks], rotation=60, fontsize=7)
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
    hows = ["nothing charged", *sorted({how_of(row) for row in results}, key=lambda how: (how != "sync", how))]
    gap = min(0.12, 0.84 / len(hows))  # all of a place stay inside it
    for (upper, lower), task in zip(panels.T, tasks, strict=True):
        for number, how in enumerate(hows):
            shown = []
            for index, (latency, name) in enumerate(places):
                wanted = (0.0, "sync") if number == 0 else (-latency, how)
                shown += [
                    (index + gap * (number - (len(hows) - 1) / 2), row)
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
        lower.set_xticks(range(len(places)), labels, rotation=90, fontsize=7)
        lower.set_xlim(-0.5, len(places) - 0.5)
    names_in = LETTER_IN * max(len(name) for _, name in places)
    _finish(figure, panels, handles, scored, path, panels_in=4.6 + names_in)


Measure = Callable[[EvaluationResult], tuple[float, float, float]]
"""A row's number and the ends of its interval."""


def _success(row: EvaluationResult) -> tuple[float, float, float]:
    return (row.success_rate, *row.success_ci95)


def _score(row: EvaluationResult) -> tuple[float, float, float]:
    return (row.score_mean, *row.score_ci95)


def _time_to_success(row: EvaluationResult) -> tuple[float, float, float]:
    return time_to_success(row) or (math.nan, math.nan, math.nan)


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


def _finish(
    figure: Figure, panels: Any, handles: dict[str, Any], scored: bool, path: Path, panels_in: float = 5.0
) -> None:
    """Names of the rows, the legend below, and the file."""
    panels[0, 0].set_ylabel("success")
    panels[1, 0].set_ylabel("score" if scored else "time to success [s]")
    for axes in panels.flat:
        axes.grid(alpha=0.2)
    entry_in = LETTER_IN * max(map(len, handles)) + 0.6  # of this font, with its line
    columns = 2 if len(handles) > 4 and 2 * entry_in <= figure.get_figwidth() else 1
    legend_in = 0.17 * -(-len(handles) // columns) + 0.1
    figure.set_figheight(panels_in + legend_in)
    figure.legend(handles.values(), handles.keys(), loc="lower center", fontsize=7, frameon=False, ncols=columns)
    figure.tight_layout(rect=(0, legend_in / (panels_in + legend_in), 1, 1))
    with replaced_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:])
