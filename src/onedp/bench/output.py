"""Rows of a benchmark as ``results.json`` and ``table.md``. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onedp.bench.frame import Column, Row

BENCH_FORMAT = "onedp.bench/1"
INTERVALS = "95 % intervals, of several seeds the means of their ends"


ENDS = ("low", "high")


def present(columns: Sequence[Column], rows: Sequence[Row], latencies: Sequence[Mapping[str, float]]) -> list[Column]:
    """The columns of which at least one row has a number."""
    return [
        c for c in columns if any(number(row, own, c.key) is not None for row, own in zip(rows, latencies, strict=True))
    ]


def number(row: Row, latency: Mapping[str, float], key: str) -> float | None:
    """Mean over seeds, or the latency."""
    return latency[key] if key in latency else row.mean(key)


def cell_text(column: Column, row: Row, latency: Mapping[str, float]) -> tuple[str, str]:
    """The mean with its interval, and smallest to largest over seeds where they differ when rounded; empty where there
    is none."""
    value = number(row, latency, column.key)
    if value is None:
        return "", ""
    text = written(value, column)
    low, high = row.mean(f"{column.key}_low"), row.mean(f"{column.key}_high")
    if column.interval and low is not None and high is not None:
        text += f" [{written(low, column)}, {written(high, column)}]"
    values = row.values(column.key) if column.key not in latency else []
    ends = [written(end, column) for end in (min(values), max(values))] if values else []
    return text, f"{ends[0]} … {ends[1]}" if ends and ends[0] != ends[1] else ""


def written(value: float, column: Column) -> str:
    """A number with the column's digits; whole numbers with separators."""
    return f"{value:,.{column.digits}f}"


def markdown(
    columns: Sequence[Column],
    rows: Sequence[Row],
    latencies: Sequence[Mapping[str, float]],
    plots: Sequence[str] = (),
    unfinished: Sequence[str] = (),
) -> str:
    """The table, the meaning of its columns, the rows that failed or are missing, and a line for each of ``plots``."""
    shown = present(columns, rows, latencies)
    lines = ["| row | " + " | ".join(c.heading for c in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for row, latency in zip(rows, latencies, strict=True):
        cells = []
        for column in shown:
            value, ends = cell_text(column, row, latency)
            cells.append(f"{value} ({ends})" if ends else value)
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    seeds = max((len(row.seeds) for row in rows), default=0)
    lines += ["", f"Means over {seeds} seeds, with the smallest and the largest where they differ.", ""]
    lines += [
        f"- {row.name}: seed{'s' * (len(row.seeds) > 1)} {', '.join(map(str, row.seeds))} only."
        for row in rows
        if row.budget is not None and 0 < len(row.seeds) < seeds
    ]
    if any(column.interval for column in shown):
        lines.append(f"- In brackets: {INTERVALS}.")
    lines += [f"- {column.heading}: {column.meaning}." for column in shown]
    lines += [f"- **{row.name} failed**: {row.failure}" for row in rows if row.failure]
    lines += [f"- {name}: not finished." for name in unfinished]
    if plots:
        lines += ["", "Plots:", "", *(f"- {plot}" for plot in plots)]
    return "\n".join(lines) + "\n"


def results_json(
    columns: Sequence[Column], rows: Sequence[Row], latencies: Sequence[Mapping[str, float]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything of the table, seed by seed."""
    return {
        "format": BENCH_FORMAT,
        **facts,
        "columns": {
            **{column.key: column.meaning for column in columns},
            **{
                f"{c.key}_{end}": f"{end} end of the 95 % interval of {c.key}"
                for c in columns
                if c.interval
                for end in ENDS
            },
        },
        "rows": [
            {
                "name": row.name,
                "contestant": row.contestant,
                "stage": row.stage,
                "budget": row.budget,
                "seeds": list(row.seeds),
                "failure": row.failure,
                "weights_digest": row.trained.digest if row.trained else None,
                "by_seed": [dict(each) for each in row.numbers],
                **latency,
            }
            for row, latency in zip(rows, latencies, strict=True)
        ],
    }
