"""Lines of a benchmark hold the numbers that they should: which seconds, whose teacher, every pass."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from onedp.bench.frame import Column, Row
from onedp.report.bench_curves import clock_of, convergence_plot, errors_plot, pass_errors, teacher_values
from onedp.report.bench_figures import bench_figures
from onedp.report.interval_plot import Mark
from onedp.report.svg import standalone

SCORE = Column("score", "Score", "the score", plot=True)
REFERENCES = {"ddpm": "ddim:10", "edm": "heun:10"}


def student(contestant: str, budget: float, score: float, seconds: float | None) -> Row:
    numbers = {
        "score": score, "score_low": score - 0.1, "score_high": score + 0.1, "cpu_seconds": seconds,
        "wall_seconds": 10 * budget, "teacher_score": 0.875,
    }  # fmt: skip
    return Row(f"{contestant}, {100 * budget:g} %", contestant, budget, (0,), (numbers,))


ROWS = [
    student("onedp-s", 0.1, 0.625, 40.0),
    student("onedp-s", 0.02, 0.5, 8.0),
    student("onedp-d", 0.1, 0.25, 30.0),
    student("cloning", 1.0, 0.125, 500.0),
]


def label(svg: str) -> str:
    return ElementTree.fromstring(svg).get("aria-label") or ""


def test_the_curve_has_a_line_a_method_by_seconds_and_the_teacher():
    svg = convergence_plot(SCORE, ROWS, REFERENCES)
    assert svg is not None
    assert "onedp-s: 0.500 after 8 s, 0.625 after 40 s; onedp-d: 0.250 after 30 s; teacher ddim:10: 0.875" in label(svg)
    assert "cloning" not in svg  # it is no distillation
    assert "heun" not in svg  # nobody's teacher here
    assert "distillation [s], log scale (processor seconds)" in svg
    assert not re.search(r"#0102[0-9a-f]{2}|#01010[1-6]", svg)


def test_a_method_without_processor_seconds_makes_it_the_wall_clock_for_all():
    continued = [*ROWS, student("sid", 0.1, 0.5, None)]
    assert clock_of(ROWS) == "cpu_seconds"
    assert clock_of(continued) == "wall_seconds"
    svg = convergence_plot(SCORE, continued, REFERENCES)
    assert svg is not None
    assert "log scale (wall-clock)" in svg
    assert "onedp-s: 0.500 after 0.2 s, 0.625 after 1 s" in label(svg)
    (figure,) = [f for f in bench_figures([SCORE], continued, [{}] * 5, REFERENCES) if f.name == "convergence-score"]
    assert "wall-clock, since not all have processor seconds" in figure.caption


def test_seeds_that_are_equal_have_an_interval_of_no_length():
    """Their mean may be a rounding beyond them: (0.7 + 0.7 + 0.7) / 3 < 0.7."""
    numbers = tuple({"score": 0.7, "cpu_seconds": 10.0 * (i + 1), "wall_seconds": 1.0} for i in range(3))
    assert sum(each["score"] for each in numbers) / 3 < 0.7
    equal = [Row(f"sid, {b} %", "sid", b, (0, 1, 2), numbers) for b in (0.1, 0.2)]
    assert convergence_plot(SCORE, equal, REFERENCES) is not None


def test_a_curve_needs_two_points():
    assert convergence_plot(SCORE, ROWS[:1], REFERENCES) is None
    assert convergence_plot(SCORE, [ROWS[0], ROWS[3]], REFERENCES) is None


def test_the_teacher_is_its_own_row_where_there_is_one():
    row = Row("teacher ddim:10", "ddim:10", None, (), ({"score": 0.75},))
    assert teacher_values(SCORE, [*ROWS, row], REFERENCES) == {"teacher ddim:10": 0.75}
    edm = student("edm/onedp-s", 0.1, 0.5, 1.0)
    assert teacher_values(SCORE, [edm], REFERENCES) == {"teacher heun:10": 0.875}
    old = dataclasses.replace(edm, numbers=({"score": 0.5},))  # of a cell that does not know
    assert teacher_values(SCORE, [old], REFERENCES) == {}


def test_errors_by_pass_are_lines_and_points_of_one_pass():
    passes = Row("teacher ddim:3", "ddim:3", None, (), ({f"error_at_pass_{n}": 1 / n for n in (1, 2, 3)},))
    one = Row("onedp-s, 10 %", "onedp-s", 0.1, (0,), ({"error_at_pass_1": 0.25},))
    assert pass_errors(passes) == [1.0, 0.5, pytest.approx(1 / 3)]
    svg = errors_plot([passes, one])
    assert svg is not None
    assert "teacher ddim:3: 1 to 0.333; onedp-s, 10 %: 0.25 to 0.25." in label(svg)
    assert errors_plot([one]) is None


def test_a_figure_that_stands_alone_has_colours_of_its_own():
    svg = errors_plot([Row("a", "ddim:2", None, (), ({"error_at_pass_1": 1.0, "error_at_pass_2": 0.0},))])
    assert svg is not None
    assert "var(--" in svg
    alone = standalone(svg)
    assert "var(--" not in alone
    assert "#1c6bb0" in alone  # the first series
    ElementTree.fromstring(alone)


def test_a_column_has_its_interval_or_the_range_of_its_seeds(monkeypatch):
    drawn: list[list[Mark]] = []

    def draw(marks: list[Mark], *_: str) -> str:
        drawn.append(marks)
        return "<svg/>"

    monkeypatch.setattr("onedp.report.bench_figures.interval_plot", draw)
    seeds = Row("sid, 10 %", "sid", 0.1, (0, 1), ({"score": 0.5}, {"score": 0.75}))
    bench_figures([SCORE], [ROWS[0], seeds], [{}] * 2, REFERENCES)
    assert [(mark.value, mark.low, mark.high) for mark in drawn[0]] == [(0.625, 0.525, 0.725), (0.625, 0.5, 0.75)]


def test_names_that_differ_at_their_end_are_told_apart():
    rows = [student(f"edm/consistency-policy{how}", 0.1, 0.5, 1.0) for how in ("", "@consistency:3")]
    (figure,) = [f for f in bench_figures([SCORE], rows, [{}] * 2, REFERENCES) if f.name == "score"]
    assert all(f">{row.name}<" in figure.svg for row in rows)
