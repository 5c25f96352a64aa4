"""A whole benchmark: rows, latencies, and the files that say them."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onedp.bench.contestants import Contestant
from onedp.bench.frame import Lab, Row, collect_rows, with_latencies
from onedp.bench.output import markdown, results_json
from onedp.errors import OneDPError
from onedp.evaluate.runner import hardware
from onedp.files import write_json, write_text
from onedp.machine import command_line
from onedp.report.bench import write_bench_page, write_figures
from onedp.report.bench_figures import bench_figures


def run_bench(
    lab: Lab, contestants: Sequence[Contestant], budgets: Sequence[float], seeds: Sequence[int], out: Path
) -> list[Row]:
    """Make what is missing under ``out`` and write ``results.json``, ``table.md``, ``plots/`` and ``report.html``.

    Raises ``OneDPError`` before anything is written where nothing is finished and nothing may be made.
    """
    rows = collect_rows(lab, contestants, budgets, seeds)
    unfinished = [row.name for row in rows if not (row.numbers or row.failure)]  # only with --only-finished
    rows = [row for row in rows if row.name not in unfinished]
    if not rows:
        raise OneDPError(f"Nothing of this is finished in {out}. Leave out --only-finished to make it.")
    latencies = with_latencies(lab, rows)
    facts: dict[str, Any] = {
        "task": lab.task,
        "not_finished": unfinished,
        **lab.facts(),
        "command": command_line(),
        "hardware": hardware("cpu"),
        "package_version": importlib.metadata.version("onedp"),
        "date": datetime.date.today().isoformat(),
    }
    write_json(out / "results.json", results_json(lab.columns, rows, latencies, facts))
    figures = bench_figures(lab.columns, rows, latencies, facts.get("references", {}))
    write_figures(out / "plots", figures)
    plots = [f"[{figure.title}](plots/{figure.name}.svg): {figure.caption}." for figure in figures]
    write_text(out / "table.md", markdown(lab.columns, rows, latencies, plots, unfinished))
    write_bench_page(out / "report.html", f"Every method on {lab.task}", lab.columns, rows, latencies, figures, facts)
    return rows
