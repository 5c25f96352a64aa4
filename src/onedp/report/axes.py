"""Axes of the report's figures: fixed margins, plain logarithmic ticks, names beside lines and points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy import ndarray

from onedp.report.svg import WIDTH_IN

LINE_PT = 13.0
"""Distance of two names above each other."""


def make_axes(height_in: float, left: float, right: float = 0.12) -> tuple[Figure, Axes]:
    """A figure of the standard width with margins in inches."""
    figure = Figure(figsize=(WIDTH_IN, height_in))
    bottom, top = 0.45, 0.08
    axes = figure.add_axes(
        (left / WIDTH_IN, bottom / height_in, 1 - (left + right) / WIDTH_IN, 1 - (bottom + top) / height_in)
    )
    axes.tick_params(length=0)
    return figure, axes


def axes_height_pt(axes: Axes) -> float:
    """Height between the axis limits, in points."""
    return float(axes.get_window_extent().height) * 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]


def plain_log(axes: Axes) -> None:
    """Ticks 1, 2, 5, 10 ... as plain numbers on a logarithmic x axis."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def shortened(name: str, characters: int) -> str:
    """``name`` with its middle left out where it is longer than ``characters``; the sampler at its end stays."""
    if len(name) <= characters:
        return name
    last_word = len((name.split() or [""])[-1])
    head = min(max(4, characters - 2 - last_word), max(4, characters - 5))
    tail = max(4, characters - 1 - head)
    return f"{name[:head]}…{name[-tail:]}"


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names to the right of the axis at the heights where their lines end, moved apart, with a leader."""
    low, high = axes.get_ylim()
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [float(to_axes.transform((axes.get_xlim()[1], y))[1]) for y, _, _ in ends]
    gap = LINE_PT / axes_height_pt(axes)
    for spot, place, (_, name, colour) in zip(spread(places, gap), places, ends, strict=True):
        axes.plot([1.0, 1.045], [place, spot], color=colour, linewidth=0.8, transform=axes.transAxes, clip_on=False)
        axes.text(1.06, spot, shortened(name, 17), transform=axes.transAxes, va="center", color=colour, fontsize=9)
    axes.set_ylim(low, high)


def label_points(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside points, on the side that has room, moved apart vertically."""
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [to_axes.transform((x, y)) for x, y, _, _ in points]
    moved = spread([float(place[1]) for place in places], LINE_PT / axes_height_pt(axes))
    for place, spot, (_, _, name, colour) in zip(places, moved, points, strict=True):
        on_left = place[0] > 0.6
        x = place[0] + (-0.07 if on_left else 0.07)
        axes.plot([place[0], x], [place[1], spot], color=colour, linewidth=0.8, transform=axes.transAxes, zorder=1)
        x, side = (x - 0.01, "right") if on_left else (x + 0.01, "left")
        text = shortened(name, 22)
        axes.text(x, spot, text, transform=axes.transAxes, va="center", ha=side, color=colour, fontsize=9)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Heights in [0, 1] as near to ``places`` as a distance of ``gap`` between neighbours allows, order kept."""
    order = np.argsort(places, kind="stable")
    target = np.asarray(places, dtype=np.float64)[order] - gap * np.arange(len(places))
    # Isotonic regression (pool adjacent violators) of the places with the gaps taken out, then the gaps put back.
    pools: list[list[float]] = []
    for value in target:
        pools.append([float(value), 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2], pools.pop()
            pools[-1] = [(a * m + b * n) / (m + n), m + n]
    level = np.concatenate([[value] * int(count) for value, count in pools]) if pools else np.zeros(0)
    room = max(0.0, 1.0 - gap * (len(places) - 1))
    moved: ndarray = np.empty(len(places))
    moved[order] = np.clip(level, 0.0, room) + gap * np.arange(len(places))
    return [float(value) for value in moved]
