"""All figures of a benchmark, for its page and as files of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onedp.bench.frame import Column, Row
from onedp.bench.output import number, present, written
from onedp.report.axes import label_points, make_axes, plain_log
from onedp.report.bench_curves import CLOCKS, clock_of, convergence_plot, dashed, errors_plot
from onedp.report.interval_plot import Mark, interval_plot
from onedp.report.svg import INK, PAPER, figure_style, series_colour, to_svg

ERRORS = (
    "root-mean-square distance of each network pass's clean estimate, clipped, to the teacher's exact solution from "
    "the same noise, normalised units (error_at_pass_N in results.json)"
)


@dataclass(frozen=True)
class BenchFigure:
    """One figure."""

    name: str
    """Of its file, without the suffix."""
    title: str
    caption: str
    """A clause without a full stop."""
    svg: str
    """An ``<svg>`` element in the page's colours."""


def bench_figures(
    columns: Sequence[Column],
    rows: Sequence[Row],
    latencies: Sequence[Mapping[str, float]],
    references: Mapping[str, str],
) -> list[BenchFigure]:
    """Every figure that the rows have numbers for; ``references``: process to the sampler of its teacher."""
    plotted = [column for column in present(columns, rows, latencies) if column.plot]
    figures = [BenchFigure(dashed(c.key), c.heading, c.meaning, _column_plot(c, rows)) for c in plotted]
    for column in plotted[:1]:  # the score
        if svg := convergence_plot(column, rows, references):
            ends = "its interval" if column.interval else "smallest and largest seed"
            caption = (
                f"{column.meaning}, with {ends}, over the seconds of distillation ({CLOCKS[clock_of(rows)]}); a line "
                "for each method through its budgets, dashed: its teacher"
            )
            figures.append(BenchFigure(f"convergence-{dashed(column.key)}", f"{column.heading} and time", caption, svg))
    for column in plotted:
        if svg := cost_plot(column, rows):
            caption = f"{column.meaning}, over the training's cost"
            figures.append(BenchFigure(f"cost-{dashed(column.key)}", f"{column.heading} and cost", caption, svg))
    if svg := errors_plot(rows):
        figures.append(BenchFigure("errors-by-pass", "Error by pass", ERRORS, svg))
    return figures


def _colour(row: Row, position: int) -> str:
    return INK if row.budget is None else series_colour(position)


def _column_plot(column: Column, rows: Sequence[Row]) -> str:
    """A row for each policy: mean over seeds, and the line of its interval or from the smallest to the largest seed."""
    marks = []
    for position, row in enumerate(rows):
        values = row.values(column.key)
        if values:
            mean = sum(values) / len(values)
            low, high = row.mean(column.key + "_low"), row.mean(column.key + "_high")
            marks.append(
                Mark(
                    row.name,
                    mean,
                    min(values) if low is None else low,
                    max(values) if high is None else high,
                    written(mean, column),
                    _colour(row, position),
                    "D" if row.budget is None else "o",
                )
            )
    return interval_plot(marks, dashed(column.key), column.heading, column.meaning)


def cost_plot(column: Column, rows: Sequence[Row]) -> str | None:
    """A column over the training's cost in teacher trainings; None with fewer than two trained rows."""
    points = [
        (cost, value, row.name, _colour(row, position))
        for position, row in enumerate(rows)
        if row.budget is not None
        and (cost := row.mean("passes_ratio")) is not None
        and (value := number(row, {}, column.key)) is not None
    ]
    if len(points) < 2:
        return None
    with figure_style():
        figure, axes = make_axes(3.0, left=0.6)
        axes.set_xscale("log")
        for cost, value, _, colour in points:
            axes.plot(cost, value, "o", markersize=7, color=colour, markeredgecolor=PAPER)
        costs = [cost for cost, *_ in points]
        axes.set_xlim(min(costs) / 2, max(costs) * 2)
        axes.margins(y=0.12)
        label_points(axes, points)
        plain_log(axes)
        axes.grid(axis="y")
        axes.set_xlabel("training passes / teacher's, log scale")
        axes.set_ylabel(column.heading)
        listed = "; ".join(f"{name}: {cost:.3g}, {written(value, column)}" for cost, value, name, _ in points)
        return to_svg(figure, f"cost-{column.key.replace('_', '-')}", f"{column.heading} over training cost. {listed}.")
