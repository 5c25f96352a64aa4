"""Rows of dots with intervals: one row per policy, its name and number above its dot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from onedp.report.axes import make_axes, plain_log, shortened
from onedp.report.svg import BAD, GRID, INK, MUTED, PAPER, figure_style, to_svg

ROW_IN = 0.42
LONGEST_NAME = 46
"""Characters that leave room for the number on the same line."""


@dataclass(frozen=True)
class Mark:
    """One row of an interval plot."""

    name: str
    value: float
    low: float
    high: float
    text: str
    """The number as written beside the row."""
    colour: str
    marker: str


def interval_plot(
    marks: Sequence[Mark],
    name: str,
    title: str,
    xlabel: str,
    *,
    zero: bool = False,
    margin: float | None = None,
    window: tuple[float, float] | None = None,
    log: bool = False,
    tick_ms: float | None = None,
) -> str:
    """A row per policy: name and number above, dot and interval below."""
    with figure_style():
        figure, axes = make_axes(ROW_IN * len(marks) + 0.62, left=0.12)
        if log:
            axes.set_xscale("log")
            values = [mark.low for mark in marks] + [mark.high for mark in marks] + ([tick_ms] if tick_ms else [])
            axes.set_xlim(min(values) / 1.5, max(values) * 1.5)
            plain_log(axes)
        else:
            axes.set_xlim(window or _limits(marks))
        if zero:
            axes.axvline(0.0, color=MUTED, linewidth=1.0, zorder=1)
        if margin is not None:
            axes.axvspan(-margin, 0.0, color=GRID, alpha=0.45, linewidth=0, zorder=0)
            axes.axvline(-margin, color=BAD, linewidth=1.0, linestyle=(0, (3, 2)), zorder=1)
        if tick_ms is not None:
            axes.axvline(tick_ms, color=BAD, linewidth=1.0, linestyle=(0, (3, 2)), zorder=1)
        across = axes.get_yaxis_transform()
        axes.set_ylim(-len(marks) + 0.5, 0.62)
        for row, mark in enumerate(marks):
            label: dict[str, Any] = {"transform": across, "va": "center", "color": INK, "zorder": 3}
            label["bbox"] = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}  # lines behind do not cross it
            axes.text(0.0, -row + 0.30, shortened(mark.name, LONGEST_NAME), **label)
            axes.text(1.0, -row + 0.30, mark.text, ha="right", **label)
            _draw_mark(axes, -row - 0.12, mark)
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{xlabel}; dashed: {tick_ms:g} ms" if tick_ms else xlabel)
        return to_svg(figure, name, f"{title}. {'; '.join(f'{mark.name}: {mark.text}' for mark in marks)}.")


def _draw_mark(axes: Axes, y: float, mark: Mark) -> None:
    """Dot and interval; an arrow at the edge where they go on outside of the axis."""
    to_axes = axes.transData + axes.transAxes.inverted()
    low, value, high = (float(to_axes.transform((x, 0.0))[0]) for x in (mark.low, mark.value, mark.high))
    ends = (min(max(low, 0.0), 0.95), max(min(high, 1.0), 0.05))
    style: dict[str, Any] = {"color": mark.colour, "transform": axes.get_yaxis_transform(), "clip_on": False}
    axes.plot(ends, [y, y], linewidth=2.2, **style)
    if low < 0.0:
        axes.plot([0.012], [y], "<", markersize=7, **style)
    if high > 1.0:
        axes.plot([0.988], [y], ">", markersize=7, **style)
    if (low >= 0.0 or value > 0.04) and (high <= 1.0 or value < 0.96):
        axes.plot([value], [y], mark.marker, markersize=7.5, markeredgecolor=PAPER, **style)


def padded(low: float, high: float) -> tuple[float, float]:
    """Limits with some room on both sides, and of some width even around a single value."""
    room = 0.05 * (high - low) or 0.01
    return low - room, high + room


def _limits(marks: Sequence[Mark]) -> tuple[float, float]:
    low, high = min(mark.low for mark in marks), max(mark.high for mark in marks)
    return padded(low, high)
