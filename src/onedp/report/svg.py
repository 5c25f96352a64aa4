"""matplotlib figures as inline SVG with the colours and the font of the page around them.

Figures are drawn with placeholder colours; ``to_svg`` turns each into ``var(--name)``, so one picture serves the light
page, the dark page and paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

SERIES = 8
"""Colours for policies, --series-0 to --series-7 in the style sheet."""
INK, MUTED, GRID, PAPER, GOOD, BAD = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
_NAMES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", GOOD: "good", BAD: "bad"}
WIDTH_IN = 4.8
"""Width of every figure: 346 points, so 10-point text is still 10 pixels high on a phone."""


def series_colour(index: int) -> str:
    """Placeholder of the colour of series ``index``; they repeat after ``SERIES``."""
    return f"#0102{index % SERIES:02x}"


@contextmanager
def figure_style() -> Iterator[None]:
    """matplotlib settings of all figures, for the time of drawing."""
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "onedp",
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.parse_math": False,  # a policy may be called $x$
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.labelsize": 9.5,
        "axes.edgecolor": GRID,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.unicode_minus": True,
        "figure.facecolor": "none",
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "lines.solid_capstyle": "round",
    }
    with mpl.rc_context(style):
        yield


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """One ``<svg>`` element; ``name`` keeps its ids apart from other figures', ``alt`` is its text alternative."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'id="', f'id="{name}-', text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)  # as older versions write it
    text = re.sub(r" ?font-family: [^;\"]*;", "", text)
    for colour, variable in {**_NAMES, **{series_colour(i): f"series-{i}" for i in range(SERIES)}}.items():
        text = text.replace(colour, f"var(--{variable})")
    head = re.search(r"<svg[^>]*>", text)
    box = re.search(r'viewBox="([^"]*)"', text)
    if head is None or box is None:
        raise RuntimeError("matplotlib wrote an SVG without a head")
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box.group(1)}" '
        f'role="img" aria-label="{escape(alt, quote=True)}">'
    )
    return re.sub(r"\n\s*", "\n", opening + text[head.end() :]).strip()


def standalone(svg: str) -> str:
    """What ``to_svg`` made as a file of its own: the light colours of the style sheet, on white."""
    sheet = (Path(__file__).parent / "report.css").read_text()
    light = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", sheet[: sheet.index("@media")]))
    coloured = re.sub(r"var\(--([a-z0-9-]+)\)", lambda use: light[use.group(1)], svg)
    return coloured.replace("<svg ", f'<svg style="background: {light["paper"]}; font-family: sans-serif" ', 1) + "\n"
