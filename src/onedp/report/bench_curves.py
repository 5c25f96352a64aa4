"""Lines of a benchmark: the score against the seconds of distillation, and how a chunk forms pass by pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from onedp.bench.contestants import Contestant
from onedp.bench.frame import Column, Row
from onedp.bench.output import written
from onedp.report.axes import make_axes, plain_log, shortened
from onedp.report.svg import MUTED, PAPER, SERIES, figure_style, series_colour, to_svg

MARKERS = "osD^v"
"""One for every round of the colours."""
CLOCKS = {
    "cpu_seconds": "processor seconds, timed here",
    "wall_seconds": "wall-clock, since not all have processor seconds",
}


@dataclass(frozen=True)
class Point:
    """A row of the convergence curve: mean over seeds and its interval."""

    seconds: float
    value: float
    low: float
    high: float


def clock_of(rows: Sequence[Row]) -> str:
    """Which seconds all distillations of ``rows`` have: processor seconds, else those of the wall clock."""
    timed = [row for row in distilled(rows) if row.numbers]
    return "cpu_seconds" if all(row.mean("cpu_seconds") is not None for row in timed) else "wall_seconds"


def distilled(rows: Sequence[Row]) -> list[Row]:
    """Rows of methods that have a teacher."""
    return [row for row in rows if row.budget is not None and Contestant.parse(row.contestant).needs_teacher]


def convergence_plot(column: Column, rows: Sequence[Row], references: Mapping[str, str]) -> str | None:
    """``column`` against seconds of distillation, a line for each contestant through its budgets.

    Horizontal: ``references``, process to the sampler of its teacher. None where there are fewer than two points.
    """
    clock = clock_of(rows)
    lines = {
        name: points
        for name in dict.fromkeys(row.line for row in distilled(rows))
        if (points := _points([row for row in rows if row.line == name], column, clock))
    }
    count = sum(len(points) for points in lines.values())
    if count < 2:
        return None
    teachers = teacher_values(column, rows, references)
    with figure_style():
        figure, axes = _with_legend(len(lines) + len(teachers))
        for index, (name, points) in enumerate(lines.items()):
            seconds, values = [p.seconds for p in points], [p.value for p in points]
            # the mean of equal seeds may be a rounding beyond them, and a length must not be negative
            ends = [[max(0.0, p.value - p.low) for p in points], [max(0.0, p.high - p.value) for p in points]]
            axes.errorbar(
                seconds, values, yerr=ends, label=shortened(name, 21), color=series_colour(index), linewidth=1.4,
                elinewidth=1.0, marker=_marker(index), markersize=6.5, markeredgecolor=PAPER,
            )  # fmt: skip
        for index, (name, value) in enumerate(teachers.items()):
            style = (0, (4, 2 + 2 * index))
            axes.axhline(value, color=MUTED, linewidth=1.2, linestyle=style, label=shortened(name, 21), zorder=1)
        axes.set_xscale("log")
        plain_log(axes)
        _finish(axes, f"distillation [s], log scale ({CLOCKS[clock].partition(',')[0]})", column.heading)
        listed = [
            f"{name}: " + ", ".join(f"{written(p.value, column)} after {p.seconds:.3g} s" for p in points)
            for name, points in lines.items()
        ] + [f"{name}: {written(value, column)}" for name, value in teachers.items()]
        return to_svg(figure, f"convergence-{dashed(column.key)}", f"{column.heading}. {'; '.join(listed)}.")


def teacher_values(column: Column, rows: Sequence[Row], references: Mapping[str, str]) -> dict[str, float]:
    """``teacher SAMPLER`` to its number, for the teachers of the distilled rows: of its own row, or what they say."""
    found: dict[str, float] = {}
    for process, sampler in references.items():
        students = [row for row in distilled(rows) if Contestant.parse(row.contestant).process == process]
        own = [row for row in rows if row.budget is None and row.contestant in (sampler, f"{process}/{sampler}")]
        values = [row.mean(column.key) for row in own] + [row.mean(f"teacher_{column.key}") for row in students]
        known = [value for value in values if value is not None]
        if students and known:
            found[f"teacher {sampler}"] = known[0]
    return found


def errors_plot(rows: Sequence[Row]) -> str | None:
    """Error of the clean estimate against the number of the pass, a line for each row and a point where there is one
    pass; None where no row has more."""
    lines = {row.name: errors for row in rows if (errors := pass_errors(row))}
    if all(len(errors) < 2 for errors in lines.values()):
        return None
    with figure_style():
        figure, axes = _with_legend(len(lines))
        for index, (name, errors) in enumerate(lines.items()):
            axes.plot(
                range(1, len(errors) + 1), errors, label=shortened(name, 21), color=series_colour(index),
                linewidth=1.4, marker=_marker(index), markersize=4.5, markeredgecolor=PAPER,
            )  # fmt: skip
        if max(map(len, lines.values())) > 20:
            axes.set_xscale("log")
            plain_log(axes)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0.0)
        _finish(axes, "network pass", "distance to the exact solution")
        listed = "; ".join(f"{name}: {errors[0]:.3g} to {errors[-1]:.3g}" for name, errors in lines.items())
        return to_svg(figure, "errors-by-pass", f"Error of the clean estimate, first to last pass. {listed}.")


def pass_errors(row: Row) -> list[float]:
    """Means over seeds of ``error_at_pass_1``, ``error_at_pass_2`` and so on, as far as the row has them."""
    errors: list[float] = []
    while (error := row.mean(f"error_at_pass_{len(errors) + 1}")) is not None:
        errors.append(error)
    return errors


def _points(rows: Sequence[Row], column: Column, clock: str) -> list[Point]:
    """By seconds; the interval is that of the column where it has one, else from the smallest to the largest seed."""
    points = []
    for row in rows:
        seconds, value = row.mean(clock), row.mean(column.key)
        if seconds is not None and value is not None:
            low, high = (row.mean(f"{column.key}_{end}") for end in ("low", "high"))
            values = row.values(column.key)
            points.append(
                Point(
                    seconds, value, min(values) if low is None else low, max(values) if high is None else high
                )
            )  # fmt: skip
    return sorted(points, key=lambda point: point.seconds)


def _with_legend(entries: int) -> tuple[Figure, Axes]:
    """Axes with room for a legend at their right."""
    return make_axes(max(3.0, 0.7 + 0.2 * entries), left=0.6, right=1.95)


def _finish(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize=8.5, handlelength=1.6
    )


def _marker(index: int) -> str:
    return MARKERS[index // SERIES % len(MARKERS)]


def dashed(key: str) -> str:
    """A column's key as part of a file's name."""
    return key.replace("_", "-")
