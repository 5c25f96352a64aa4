"""Rows of a benchmark, with a laboratory that only counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onedp.bench.cells import UnfinishedError
from onedp.bench.checks import check_samplers
from onedp.bench.contestants import parse_contestants
from onedp.bench.frame import Column, Lab, Trained, collect_rows, with_latencies
from onedp.bench.output import markdown, results_json
from onedp.bench.plan import plan
from onedp.bench.run import run_bench
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import OneDPError, TrainingError


class CountingLab(Lab):
    """Seeds are its scores; onedp-d diverges."""

    task = "counting"
    columns = (
        Column("score", "Score", "the seed", 1, plot=True),
        Column("passes_ratio", "Cost", "passes over the teacher's"),
        Column("cpu_ratio", "Time", "never measured here"),
        Column("latency_ms_p50", "ms", "latency"),
    )

    def __init__(self):
        self.made = []

    def teacher(self, process):
        return Trained(Path(process), f"teacher-{process}", {"passes": 100.0, "cpu_seconds": None})

    def trained(self, contestant, budget, seed):
        if contestant.method == "onedp-d":
            raise TrainingError("it diverged")
        self.made.append((contestant.text, budget, seed))
        return Trained(Path("x"), f"{contestant.text}-{seed}", {"passes": 100.0 * budget, "cpu_seconds": None})

    def examined(self, trained, process, sampler):
        return {"score": float(trained.digest[-1]) if trained.digest[-1].isdigit() else 1.0, "nothing": None}

    def latencies(self, policies):
        return [2.0 * (i + 1) for i in range(len(policies))]

    def facts(self):
        return {"options": {}}


def test_methods_have_a_row_for_each_budget_and_teachers_and_rivals_without_one_have_one():
    lab = CountingLab()
    rows = collect_rows(lab, parse_contestants(["ddim:10,onedp-s,denoising"]), (0.02, 0.1), (0, 1))
    assert [(row.name, row.budget) for row in rows] == [
        ("teacher ddim:10", None),
        ("onedp-s, 2 %", 0.02),
        ("onedp-s, 10 %", 0.1),
        ("denoising, 100 %", 1.0),
    ]
    assert lab.made[:2] == [("onedp-s", 0.02, 0), ("onedp-s", 0.02, 1)]
    assert rows[1].mean("score") == 0.5
    assert rows[1].mean("passes_ratio") == pytest.approx(0.02)
    assert rows[1].mean("cpu_ratio") is None  # not made up where it was not measured


def test_time_is_compared_with_the_teacher_s_of_the_same_hour_where_it_was_timed(monkeypatch):
    lab, contestant = CountingLab(), parse_contestants(["onedp-s"])[0]
    timed = Trained(Path("x"), "x", {"cpu_seconds": 30.0, "teacher_cpu_seconds": 120.0})
    assert lab.relative_cost(contestant, timed)["cpu_ratio"] == 0.25
    monkeypatch.setattr(lab, "teacher", lambda process: Trained(Path(process), "t", {"cpu_seconds": 60.0}))
    assert lab.relative_cost(contestant, timed)["cpu_ratio"] == 0.25
    assert lab.relative_cost(contestant, Trained(Path("x"), "x", {"cpu_seconds": 30.0}))["cpu_ratio"] == 0.5


def test_what_a_method_keeps_on_the_way_has_rows_before_its_result(monkeypatch):
    lab = CountingLab()

    def stages(contestant, budget, seed):
        names = [f"euler-{size}" for size in (32, 16, 8, 4, 2)]
        return {name: Trained(Path(name), f"{name}-{seed}", {"passes": 1.0}) for name in names}

    monkeypatch.setattr(lab, "stages", stages)
    rows = collect_rows(lab, parse_contestants(["progressive", "progressive@euler:2"]), (0.02, 0.1), (0, 2))
    names = [f"progressive -> {n} passes" for n in (32, 16, 8, 4, 2)] + ["progressive"]
    expected = [f"{name}, {budget} %" for budget in (2, 10) for name in names]
    assert [row.name for row in rows] == [*expected, "progressive@euler:2, 2 %", "progressive@euler:2, 10 %"]
    assert [row.line for row in rows[:6]] == names
    assert rows[0].mean("score") == 1.0
    assert rows[0].mean("passes_ratio") == pytest.approx(0.01)
    with_none = [row for row in rows if row.stage is None]
    assert len(with_none) == 4

    def missing(contestant, budget, seed):
        raise UnfinishedError("not kept")

    monkeypatch.setattr(lab, "stages", missing)
    first, *_, last = collect_rows(lab, parse_contestants(["progressive"]), (0.1,), (0,))
    assert (first.numbers, first.failure) == ((), None)
    assert last.numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onedp-s@foo:3", r"onedp-s@foo:3: .*sampler 'foo'.*Valid.*ddim"),
        ("ddim:foo", r"ddim:foo: .*no valid number after the colon: 'foo'"),
        ("edm/ddim:10", r"edm/ddim:10: .*does not fit a policy of the process 'edm'.*heun:N"),
        ("heun:10,consistency-policy@heun:10", r"consistency-policy@heun:10: .*process 'ddpm'"),
        ("flow-matching@ddim:10", r"does not fit a policy of the process 'flow'"),
        ("regression@ddim:10", r"regression makes a policy of one step.*@one-step:LEVEL"),
        ("onedp-s@one-step:100", r"one-step:100 is no step of a DDPM process"),
    ],
)
def test_samplers_that_no_policy_would_have_are_named_before_anything_is_trained(text, message):
    with pytest.raises(OneDPError, match=message):
        check_samplers(parse_contestants([text]), CountingLab())


def test_samplers_that_fit_pass():
    fitting = "ddim:10,edm/heun:18,onedp-s@one-step:65:0.5,edm/consistency-policy@consistency:3,progressive@euler:2"
    check_samplers(
        parse_contestants([f"{fitting},flow-matching@euler:20,denoising@ddim:4,edm/one-step"]), CountingLab()
    )


def test_a_teachers_own_schedule_decides_what_it_can_be_asked(monkeypatch):
    lab, contestants = CountingLab(), parse_contestants(["ddim:500"])
    with pytest.raises(OneDPError, match="ddim:500: "):
        check_samplers(contestants, lab)
    monkeypatch.setattr(lab, "schedule", lambda process: CosineDdpm(steps=1000))
    check_samplers(contestants, lab)


def test_the_plan_counts_trainings_and_the_teachers_time(monkeypatch):
    lab, seeds = CountingLab(), (0, 1)
    assert plan(lab, parse_contestants(["ddim:10"]), (0.1,), seeds) is None
    contestants = parse_contestants(["onedp-s,onedp-s@one-step:65:1,onedp-d,edm/onedp-s,denoising,ddim:10"])
    text = plan(lab, contestants, (0.02, 0.1), seeds)
    assert text == (
        "Plan: 14 trainings that cost 2.72 times a teacher's; evaluation comes on top. What is finished already is not "
        "made again."
    )
    monkeypatch.setattr(lab, "teacher_seconds", lambda process: 1000.0)
    several, one = (
        plan(lab, each, budgets, seeds) for each, budgets in ((contestants, (0.02, 0.1)), ([contestants[0]], (0.1,)))
    )
    assert "cost 2.72 times a teacher's, about 45 min on one thread; evaluation" in str(several)
    assert str(one).startswith("Plan: 2 trainings that cost 0.2 times a teacher's, about 3 min on one thread")


def test_a_method_that_fails_is_a_row_that_says_so_and_has_no_latency():
    lab = CountingLab()
    rows = collect_rows(lab, parse_contestants(["onedp-d,onedp-s"]), (0.1,), (0,))
    assert rows[0].failure == "TrainingError: it diverged"
    assert with_latencies(lab, rows) == [{}, {"latency_ms_p50": 2.0, "hz": 500.0}]


def test_a_teacher_s_sampler_that_fails_is_a_row_too(monkeypatch):
    lab = CountingLab()

    def examined(trained, process, sampler):
        if sampler is not None:
            raise OneDPError("no such episodes")
        return {"score": 1.0}

    monkeypatch.setattr(lab, "examined", examined)
    student, teacher = collect_rows(lab, parse_contestants(["onedp-s,ddim:10"]), (0.1,), (0,))
    assert student.numbers == ({**student.numbers[0], "score": 1.0},)
    assert (teacher.name, teacher.failure) == ("teacher ddim:10", "OneDPError: no such episodes")
    assert with_latencies(lab, [student, teacher])[1] == {}


def test_what_is_not_finished_is_left_out_seed_by_seed(monkeypatch, tmp_path):
    lab = CountingLab()
    trained = lab.trained

    def partly(contestant, budget, seed):
        if seed == 1 or contestant.text == "onedp-d":
            raise UnfinishedError(f"{contestant.text}-{seed} is not finished.")
        return trained(contestant, budget, seed)

    monkeypatch.setattr(lab, "trained", partly)
    some, none = collect_rows(lab, parse_contestants(["onedp-s,onedp-d"]), (0.1,), (0, 1, 2))
    assert (some.seeds, some.failure, some.mean("score")) == ((0, 2), None, 1.0)
    assert (none.seeds, none.numbers, none.failure) == ((), (), None)
    run_bench(lab, parse_contestants(["onedp-s,onedp-d"]), (0.1,), (0, 1, 2), tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "| onedp-s, 10 % |" in table
    assert "| onedp-d" not in table  # nothing of it is there yet
    assert "- onedp-d, 10 %: not finished." in table
    assert json.loads((tmp_path / "results.json").read_text())["not_finished"] == ["onedp-d, 10 %"]
    assert "<strong>onedp-d, 10 %</strong> is not finished" in (tmp_path / "report.html").read_text()


def test_table_and_json_hold_every_row_and_only_columns_with_numbers(tmp_path):
    lab = CountingLab()
    rows = collect_rows(lab, parse_contestants(["ddim:10,onedp-s,onedp-d"]), (0.1,), (0, 2))
    latencies = with_latencies(lab, rows)
    text = markdown(lab.columns, rows, latencies)
    assert "| row | Score | Cost | ms |" in text
    assert "| onedp-s, 10 % | 1.0 (0.0 … 2.0) | 0.100 | 4.000 |" in text
    assert "| onedp-d, 10 % |  |  |  |" in text
    assert "**onedp-d, 10 % failed**: TrainingError: it diverged" in text
    data = json.loads(json.dumps(results_json(lab.columns, rows, latencies, {"task": "counting"}), allow_nan=False))
    assert data["format"] == "onedp.bench/1"
    assert [row["failure"] for row in data["rows"]] == [None, None, "TrainingError: it diverged"]
    assert [each["score"] for each in data["rows"][1]["by_seed"]] == [0.0, 2.0]


def test_an_interval_stands_behind_its_number_and_in_the_json(tmp_path, monkeypatch):
    lab = CountingLab()
    columns = (Column("score", "Score", "the seed", 1, plot=True, interval=True),)
    monkeypatch.setattr(lab, "columns", columns)
    monkeypatch.setattr(lab, "examined", lambda *_: {"score": 0.5, "score_low": 0.25, "score_high": 0.75})
    run_bench(lab, parse_contestants(["onedp-s"]), (0.1,), (0,), tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "| onedp-s, 10 % | 0.5 [0.2, 0.8] |" in table
    assert "- In brackets: 95 % intervals" in table
    page = (tmp_path / "report.html").read_text()
    assert "0.5 [0.2, 0.8]" in page
    assert "One training seed. In brackets: 95 % intervals" in page
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["columns"]["score_low"] == "low end of the 95 % interval of score"
    assert data["rows"][0]["by_seed"][0]["score_high"] == 0.75


def test_the_page_is_one_file_with_table_plots_and_failures(tmp_path):
    run_bench(CountingLab(), parse_contestants(["ddim:10,onedp-s,onedp-d"]), (0.02, 0.1), (0, 2), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2  # scores, and scores over cost
    assert "onedp-s, 2 %" in page
    assert "<strong>onedp-d, 10 %</strong> failed: TrainingError: it diverged" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "table.md").exists()
    assert json.loads((tmp_path / "results.json").read_text())["task"] == "counting"
