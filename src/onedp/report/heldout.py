"""The comparison on held-out observations as a terminal table and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from onedp.evaluate.heldout import METRICS, HeldoutComparison, HeldoutRow, Metric
from onedp.evaluate.tables import three_digits
from onedp.files import write_text
from onedp.report.interval_plot import Mark, interval_plot
from onedp.report.svg import INK, series_colour

HEADINGS = {
    "energy_distance": "Energy distance",
    "sliced_wasserstein": "Sliced Wasserstein",
    "spread": "Spread over noise",
    "demonstration_error": "Error to demonstrations",
    "seam_jump": "Jump at seams",
    "at_limits": "At the limits",
}
POLICIES_IN_80_COLUMNS = 3
LIMITS = [
    "Success. A policy may answer like its teacher on recorded observations and still fail where its own mistakes "
    "lead: try it slowly on the robot before you rely on it.",
    "Observations far from the data. Everything here is measured on states that the demonstrator visited.",
]


def terminal_table(comparison: HeldoutComparison) -> Group:
    """Columns of policies, rows of metrics with their intervals below; tables of so many policies as 80 columns hold,
    the reference in each."""
    reference = next(row for row in comparison.rows if row.label == comparison.reference)
    others = [row for row in comparison.rows if row is not reference]
    beside = POLICIES_IN_80_COLUMNS - 1
    tables = [_metrics_table([reference, *others[first : first + beside]]) for first in range(0, len(others), beside)]
    return Group(f"{comparison.selection}, {comparison.draws} chunks each", *(tables or [_metrics_table([reference])]))


def _metrics_table(rows: Sequence[HeldoutRow]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for number, row in enumerate(rows):
        name = f"{row.policy}\n{row.sampler}\n" + ("" if number else "(reference)")
        table.add_column(name, justify="right", overflow="fold", min_width=14)
    for metric, heading in HEADINGS.items():
        table.add_row(heading, *(_cell(row.metrics[metric], "\n") for row in rows))
    table.add_row("Passes", *(str(row.nfe) for row in rows))
    table.add_row("Latency p50 [ms]", *(three_digits(row.latency_ms_p50) for row in rows))
    return table


def write_heldout_report(path: Path, comparison: HeldoutComparison) -> None:
    """Write the page whole or not at all; it needs no network to be read."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = [
        {
            "name": row.policy,
            "sampler": row.sampler,
            "is_reference": row.label == comparison.reference,
            "cells": [*(_cell(row.metrics[name], "\n").split("\n") for name in HEADINGS), [row.nfe], [_latency(row)]],
            "digest": row.weights_digest,
        }
        for row in comparison.rows
    ]
    text = environment.get_template("heldout.html.j2").render(
        comparison=comparison,
        columns=[*HEADINGS.values(), "Passes", "Latency p50 / p95 [ms]"],
        rows=rows,
        figures=[_figure(comparison, name) for name in HEADINGS if _has(comparison, name)],
        limits=LIMITS,
        meanings=[(HEADINGS[name], words) for name, words in METRICS.items()],
        hardware=", ".join(f"{key} {value}" for key, value in comparison.hardware.items()),
    )
    write_text(path, text)


def _latency(row: HeldoutRow) -> str:
    return f"{three_digits(row.latency_ms_p50)} / {three_digits(row.latency_ms_p95)}"


def _cell(metric: Metric | None, gap: str) -> str:
    return (
        "not in the data" if metric is None else f"{metric.mean:.3f}{gap}[{metric.ci95[0]:.3f}, {metric.ci95[1]:.3f}]"
    )


def _has(comparison: HeldoutComparison, name: str) -> bool:
    return all(row.metrics[name] is not None for row in comparison.rows)


def _figure(comparison: HeldoutComparison, name: str) -> dict[str, Any]:
    marks = []
    for number, row in enumerate(comparison.rows):
        metric = row.metrics[name]
        assert metric is not None  # _has
        reference = row.label == comparison.reference
        marks.append(
            Mark(
                row.label,
                metric.mean,
                *metric.ci95,
                _cell(metric, " "),
                INK if reference else series_colour(number),
                "D" if reference else "o",
            )
        )
    title = HEADINGS[name]
    unit = "share" if name == "at_limits" else "normalised action units"
    return {
        "title": title,
        "svg": Markup(interval_plot(marks, name, title, unit, window=_window(name, marks))),
        "caption": METRICS[name] + ".",
    }


def _window(name: str, marks: list[Mark]) -> tuple[float, float] | None:
    """A share begins at 0, and has an axis of some width where it is 0 everywhere."""
    return (0.0, max(0.01, 1.05 * max(mark.high for mark in marks))) if name == "at_limits" else None
