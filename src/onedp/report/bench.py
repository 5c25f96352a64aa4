"""A benchmark as one self-contained HTML page: plots, table, and what each column means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from onedp.bench.frame import Column, Row
from onedp.bench.output import cell_text, number, present, written
from onedp.files import write_text
from onedp.report.axes import label_points, make_axes, plain_log
from onedp.report.interval_plot import Mark, interval_plot
from onedp.report.svg import INK, PAPER, figure_style, series_colour, to_svg


def write_bench_page(
    path: Path,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    latencies: Sequence[Mapping[str, float]],
    facts: Mapping[str, Any],
) -> None:
    """Write the page whole or not at all; it needs no network to be read."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = present(columns, rows, latencies)
    table = [
        {
            "name": row.name,
            "is_reference": row.budget is None,
            "cells": [cell_text(column, row, latency) for column in shown],
        }
        for row, latency in zip(rows, latencies, strict=True)
    ]
    plotted = [column for column in shown if column.plot]
    figures = [{"title": c.heading, "svg": Markup(_column_plot(c, rows)), "caption": c.meaning} for c in plotted]
    figures += [
        {"title": f"{c.heading} and cost", "svg": Markup(svg), "caption": f"{c.meaning}, over the training's cost"}
        for c in plotted
        if (svg := cost_plot(c, rows))
    ]
    text = environment.get_template("bench.html.j2").render(
        title=title,
        columns=[column.heading for column in shown],
        rows=table,
        figures=figures,
        failures=[(row.name, row.failure) for row in rows if row.failure],
        meanings=[(column.heading, column.meaning) for column in shown],
        seeds=max((len(row.seeds) for row in rows), default=0),
        facts=facts,
        hardware=", ".join(f"{key} {value}" for key, value in facts["hardware"].items()),
    )
    write_text(path, text)


def _colour(row: Row, position: int) -> str:
    return INK if row.budget is None else series_colour(position)


def _column_plot(column: Column, rows: Sequence[Row]) -> str:
    """A row for each policy: mean over seeds, and the line from the smallest to the largest."""
    marks = []
    for position, row in enumerate(rows):
        values = row.values(column.key)
        if values:
            mean = sum(values) / len(values)
            marks.append(
                Mark(
                    row.name, mean, min(values), max(values), written(mean, column), _colour(row, position),
                    "D" if row.budget is None else "o",
                )
            )  # fmt: skip
    return interval_plot(marks, column.key.replace("_", "-"), column.heading, column.meaning)


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
