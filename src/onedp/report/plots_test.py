from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from onedp.evaluate.comparison import Comparison
from onedp.evaluate.fake_results_test import REFERENCE, STUDENT, fake_comparison, fake_evaluation
from onedp.report import plots
from onedp.report.svg import INK, SERIES, series_colour

PLOTS: dict[str, Callable[[Comparison], str]] = {
    "score": plots.score_plot,
    "success": plots.success_plot,
    "score-difference": lambda comparison: plots.score_difference_plot(comparison, 0.02),
    "success-difference": plots.success_difference_plot,
    "latency": lambda comparison: plots.latency_plot(comparison, 100.0),
    "trade-off": plots.trade_off_plot,
    "survival": plots.survival_plot,
    "sorted": plots.sorted_difference_plot,
}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return fake_comparison()


@pytest.fixture(scope="module")
def drawn(comparison) -> dict[str, str]:
    return {name: plot(comparison) for name, plot in PLOTS.items()}


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_one_themed_accessible_svg(drawn, name):
    root = ElementTree.fromstring(drawn[name])
    assert root.tag.endswith("svg")
    assert root.get("role") == "img"
    assert "onedp-s one-step" in (root.get("aria-label") or "")
    assert "var(--" in drawn[name]
    assert not re.search(r"#0102[0-9a-f]{2}|#01010[1-6]", drawn[name])
    assert "DejaVu" not in drawn[name]


def test_ids_of_all_plots_are_apart(drawn):
    ids = [name for svg in drawn.values() for name in re.findall(r'id="([^"]*)"', svg)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", PLOTS)
def test_the_same_comparison_gives_the_same_bytes(comparison, drawn, name):
    assert PLOTS[name](comparison) == drawn[name]


def test_numbers_stand_in_plot_and_text_alternative(comparison, drawn):
    result = comparison.result(STUDENT)
    number = f"{result.score_mean:.3f} [{result.score_ci95[0]:.3f}, {result.score_ci95[1]:.3f}]"
    assert drawn["score"].count(number) == 2


def test_reference_is_ink_and_the_judged_come_first(comparison):
    colours = plots.policy_colours(comparison)
    assert colours[REFERENCE] == INK
    assert colours[STUDENT] == series_colour(0)
    assert len(set(colours.values())) == len(comparison.results) <= SERIES


@pytest.mark.parametrize("name", PLOTS)
def test_plots_survive_extremes(name):
    perfect = fake_evaluation(skill=2.0)
    student = fake_evaluation('st$uden$t <&> "s"', "one-step", nfe=1, skill=2.0, digest="x", latency_ms=15.0)
    svg = PLOTS[name](Comparison.build([perfect, student], REFERENCE))
    assert 'st$uden$t <&> "s" one-step' in (ElementTree.fromstring(svg).get("aria-label") or "")


def test_curves_skip_what_is_not_finite_and_name_each_series():
    curves = {"low": ([0, 1, 2], [100.0, float("nan"), 0.1]), "none": ([0], [float("nan")])}
    label = ElementTree.fromstring(plots.curves_plot(curves, "c-0", "Gap")).get("aria-label")
    assert label == "Gap over training steps. low from 100 to 0.1; none has no finite value."
