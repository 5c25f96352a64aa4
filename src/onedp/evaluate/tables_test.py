from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from onedp.evaluate.comparison import Comparison
from onedp.evaluate.fake_results_test import REFERENCE, STUDENT, fake_comparison, fake_evaluation
from onedp.evaluate.tables import (
    COLUMNS,
    caption,
    comparison_rows,
    markdown_table,
    short_names,
    signed,
    signed_interval,
    terminal_table,
    three_digits,
)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return fake_comparison()


def test_rows_hold_the_numbers_of_the_results(comparison):
    student, pair = comparison.result(STUDENT), comparison.pair(STUDENT)
    row = {row.label: row for row in comparison_rows(comparison)}[STUDENT]
    assert row.score[0] == f"{student.score_mean:.3f}"
    assert row.success_difference == (signed(pair.success_difference), signed_interval(pair.success_ci95))
    assert (row.policy, row.sampler, row.passes) == ("onedp-s", "one-step", "1")
    assert (row.latency, row.speed_up, row.rate) == ("1.62 / 1.91", "9.32× / 91.4×", "617")


def test_markdown_is_a_rectangle_with_the_reference_in_bold(comparison):
    lines = markdown_table(comparison).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(comparison.results)
    assert {line.count("|") for line in table} == {len(COLUMNS) + 1}
    assert [line for line in table if "**" in line] == [line for line in table if line.count("reference") == 2]
    assert "50 starts from seed 100000" in lines[-1]


def test_ways_of_every_policy_are_told_where_there_are_several(comparison):
    reference, student = comparison.result(REFERENCE), comparison.result(STUDENT)
    ways = ["left", "right", None, "left", "left"]
    rows = [dataclasses.replace(row, way=ways[i % 5]) for i, row in enumerate(student.per_episode)]
    text = caption(Comparison.build([reference, dataclasses.replace(student, per_episode=tuple(rows))], REFERENCE))
    assert text.endswith(" Ways: onedp-s one-step: left 0.75, right 0.25 of 40 episodes, entropy 0.81 bit.")
    assert "Ways" not in caption(comparison)


def test_terminal_table_fits_80_columns_whole(comparison):
    out = io.StringIO()
    Console(file=out, width=80).print(terminal_table(comparison))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    student = {row.label: row for row in comparison_rows(comparison)}[STUDENT]
    for cell in (student.score[0], student.success_difference[1].strip("[]").replace(", ", "…"), "91.4×", "onedp-s"):
        assert cell in text


def test_passes_that_a_hook_contradicts_are_shown(comparison):
    lying = dataclasses.replace(comparison.result(STUDENT), passes_counted=10)
    rows = comparison_rows(Comparison.build([comparison.result(REFERENCE), lying], REFERENCE))
    assert rows[1].passes == "1 (counted 10)"


def test_names_are_short_but_never_ambiguous():
    same = [
        fake_evaluation("a/student", "ddim:10"),
        fake_evaluation("b/student", "ddim:10"),
        fake_evaluation("student"),
    ]
    names = short_names(Comparison.build([*same[:2], fake_evaluation()], "pusht-keypoints-ddpm@ddim:10"))
    assert names == {
        "a/student@ddim:10": "a/student@ddim:10",
        "b/student@ddim:10": "b/student@ddim:10",
        "pusht-keypoints-ddpm@ddim:10": "ddpm ddim:10",
    }


def test_numbers_are_written_plainly():
    assert [signed(x) for x in (0.0041, -0.0123, 0.0, -0.0001)] == ["+0.004", "−0.012", "0.000", "0.000"]
    assert [three_digits(x) for x in (0.1234, 1.0, 1.618, 9.996, 15.12, 99.96, 148.2, 12345.6)] == [
        "0.123",
        "1.00",
        "1.62",
        "10.0",
        "15.1",
        "100",
        "148",
        "12,346",
    ]
