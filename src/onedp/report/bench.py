"""A benchmark as one self-contained HTML page: plots, table, and what each column means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from onedp.bench.frame import Column, Row
from onedp.bench.output import INTERVALS, cell_text, present
from onedp.files import write_text
from onedp.report.bench_figures import BenchFigure
from onedp.report.svg import standalone


def write_bench_page(
    path: Path,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    latencies: Sequence[Mapping[str, float]],
    figures: Sequence[BenchFigure],
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
    text = environment.get_template("bench.html.j2").render(
        title=title,
        columns=[column.heading for column in shown],
        rows=table,
        figures=[{"title": f.title, "svg": Markup(f.svg), "caption": f.caption} for f in figures],
        failures=[(row.name, row.failure) for row in rows if row.failure],
        meanings=[(column.heading, column.meaning) for column in shown],
        seeds=max((len(row.seeds) for row in rows), default=0),
        intervals=INTERVALS if any(column.interval for column in shown) else "",
        facts=facts,
        hardware=", ".join(f"{key} {value}" for key, value in facts["hardware"].items()),
    )
    write_text(path, text)


def write_figures(folder: Path, figures: Sequence[BenchFigure]) -> None:
    """Each figure as ``NAME.svg``, which stands alone: white paper, fixed colours."""
    for figure in figures:
        write_text(folder / f"{figure.name}.svg", standalone(figure.svg))
