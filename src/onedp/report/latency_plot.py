"""Latency by runtime as one picture that stands alone (fixed colours, white paper)."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from onedp.evaluate.latency import LatencyRow

COLOURS = {"torch": "#555555", "onnxruntime": "#0b6fa4", "openvino": "#b5530e"}


def latency_plot(rows: Sequence[LatencyRow]) -> str:
    """SVG: a bar from the floor's mark to p50 for every row, a whisker to p99, on a logarithmic axis [ms]."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "onedp", "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(8.0, 1.2 + 0.3 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            colour = COLOURS.get(row.runtime.split()[0], "#333333")
            axes.barh(place, row.p50_ms, height=0.6, color=colour)
            axes.plot([row.p50_ms, row.p99_ms], [place, place], color="black", linewidth=1)
            axes.plot([row.floor_ms], [place], marker="|", markersize=13, markeredgewidth=2, color="#d11149")
            axes.annotate(f"{row.p50_ms:.2f}", (row.p99_ms, place), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(
            range(len(rows)), [f"{r.label}, {r.runtime} {r.precision}, {r.threads} thread(s)" for r in rows]
        )
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set_xlabel("one chunk, batch 1 [ms]: bar p50, line to p99, red mark the floor of this machine")
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
