"""What `onedp evaluate` and `onedp compare` say beside the numbers."""

from __future__ import annotations

import pytest

from onedp.cli.evaluate import lines_of
from onedp.cli.main import main
from onedp.evaluate import compare, runner
from onedp.evaluate.fake_results_test import fake_evaluation
from onedp.evaluate.groups import idle_workers
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.runner import EvaluationRequest
from onedp.evaluate.timing import Timing
from onedp.runtime.execution import Execution
from onedp.runtime.executor import Counters, Seams
from onedp.runtime.latency import FixedLatency
from onedp.tasks import PUSHT_KEYPOINTS


@pytest.mark.parametrize(
    ("workers", "line"),
    [
        (8, "2 of 8 workers can be used: episodes run in groups of 25, 50 make 2 groups.\n"),
        (2, ""),
        (None, ""),  # whatever the default is, nobody asked for it
    ],
)
def test_workers_for_whom_there_are_no_episodes_are_named(monkeypatch, capsys, workers, line):
    def evaluate(request: EvaluationRequest) -> EvaluationResult:
        assert capsys.readouterr().out == line  # before the episodes, of which there may be hours
        return fake_evaluation(episodes=request.episodes)

    monkeypatch.setattr(runner, "evaluate", evaluate)
    main(["evaluate", "policy", "--episodes", "50", *([] if workers is None else ["--workers", str(workers)])])
    assert "50 starts from seed 100000" in capsys.readouterr().out


def test_a_comparison_names_them_once(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(compare, "compare", lambda request: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["compare", "a", "b", "--episodes", "20", "--workers", "3", "--out", str(tmp_path)])
    assert capsys.readouterr().out == ("1 of 3 workers can be used: episodes run in groups of 25, 20 make 1 group.\n")


def test_a_comparison_of_results_has_no_workers(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(compare, "compare", lambda request: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["compare", "a.json", "b.json", "--episodes", "20", "--workers", "3", "--out", str(tmp_path)])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("episodes", "most"), [(2, 1), (25, 1), (26, 2), (500, 20)])
def test_as_many_workers_as_groups_can_be_used(episodes, most):
    assert idle_workers(episodes, most) == ""
    assert idle_workers(episodes, most + 1).startswith(f"{most} of {most + 1} workers")


def timing(latency_s: float, seams: Seams) -> Timing:
    execution = Execution(FixedLatency(latency_s))
    return Timing.of(execution, PUSHT_KEYPOINTS.spec, 50.0, [Counters(starved=100)], [seams], [])


def test_the_wait_for_a_chunk_is_said_only_where_one_came():
    never = "\n".join(lines_of(fake_evaluation(timing=timing(3.0, Seams()))))
    assert (
        "charged  3 s, sync: no chunk came before the episodes were over (ticks of 20 ms); time to success -" in never
    )
    assert "a chunk comes after" not in never
    came = "\n".join(lines_of(fake_evaluation(timing=timing(0.05, Seams(chunks=2, delay_ticks=6)))))
    assert "charged  0.05 s, sync: a chunk comes after 3.0 ticks of 20 ms; time to success -" in came
