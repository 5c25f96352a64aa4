from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.evaluate.comparison import Comparison, PairedDifference, load_results, save_results
from onedp.evaluate.fake_results_test import REFERENCE, STUDENT, fake_comparison, fake_evaluation
from onedp.evaluate.results import EpisodeResult, EvaluationResult
from onedp.evaluate.tables import markdown_table
from onedp.evaluate.timing import Timing
from onedp.runtime.execution import Execution
from onedp.runtime.executor import Counters, Seams
from onedp.runtime.latency import FixedLatency, HistogramLatency
from onedp.serve.fake_policy_test import SPEC

SCHEMA = Path(__file__).parents[3] / "docs" / "results.schema.json"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return fake_comparison()


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_written_files_validate_and_read_back_equal(comparison, validator, tmp_path):
    for name, results in (("evaluation", comparison.results[0]), ("comparison", comparison)):
        path = tmp_path / f"{name}.json"
        save_results(path, results)
        validator.validate(json.loads(path.read_text()))
        assert load_results(path) == results
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.json", "evaluation.json"]


@pytest.mark.parametrize(
    ("cls", "place", "extra"),
    [
        (EvaluationResult, ("evaluation",), {"format"}),
        (Comparison, ("comparison",), {"format"}),
        (PairedDifference, ("paired",), set()),
        (Timing, ("timing",), set()),
        (EpisodeResult, ("evaluation", "properties", "per_episode", "items"), set()),
    ],
)
def test_schema_lists_exactly_the_fields(cls, place, extra):
    node = json.loads(SCHEMA.read_text())["$defs"]
    for key in place:
        node = node[key]
    names = {field.name for field in dataclasses.fields(cls)} | extra
    assert set(node["properties"]) == names
    assert set(node["required"]) == names - {"timing", "way"}  # not in all files


@pytest.mark.parametrize(
    "damage", [{"nfe": 0}, {"score_ci95": [0.1]}, {"hardware": {}}, {"latency_ms_p50": -1}, {"x": 1}]
)
def test_schema_refuses_what_is_wrong(comparison, validator, damage):
    data = {**comparison.results[0].to_json(), **damage}
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(data)


def test_a_way_is_written_only_where_there_is_one(validator):
    result = fake_evaluation(episodes=4)
    rows = list(result.per_episode)
    rows[1] = dataclasses.replace(rows[1], way="left")
    result = dataclasses.replace(result, per_episode=tuple(rows))
    data = result.to_json()
    validator.validate(data)
    assert [row.get("way", "-") for row in data["per_episode"]] == ["-", "left", "-", "-"]
    assert EvaluationResult.from_json(data) == result
    assert result.ways == {"left": 1}


def test_aggregates_come_from_the_episodes(comparison):
    result = comparison.result(STUDENT)
    assert result.score_mean == pytest.approx(np.mean([row.score for row in result.per_episode]))
    assert result.success_rate == np.mean([row.success for row in result.per_episode])
    assert result.score_ci95[0] < result.score_mean < result.score_ci95[1]
    assert result.success_ci95[0] < result.success_rate < result.success_ci95[1]
    assert result.chunks_per_s == pytest.approx(1000 / 1.62)


def test_order_of_episodes_does_not_matter():
    ordered = fake_evaluation()
    about = {f.name: getattr(ordered, f.name) for f in dataclasses.fields(ordered)}
    for name in ("episodes", "first_seed", "score_mean", "score_ci95", "success_rate", "success_ci95"):
        about.pop(name)
    rows = list(reversed(about.pop("per_episode")))
    assert EvaluationResult.from_episodes(rows, **about) == ordered


def test_differences_do_not_depend_on_which_others_are_compared(comparison):
    alone = Comparison.build([comparison.result(REFERENCE), comparison.result(STUDENT)], REFERENCE)
    assert alone.paired[0] == comparison.pair(STUDENT)
    assert comparison.pair(REFERENCE) is None


def test_difference_is_candidate_minus_reference(comparison):
    pair = comparison.pair("pusht-keypoints-ddpm@ddim:1")
    assert pair.score_difference < -0.3
    assert pair.score_ci95[0] < pair.score_difference < pair.score_ci95[1]
    assert sum((pair.success_both, pair.success_only_reference)) == comparison.result(REFERENCE).successes.sum()
    assert pair.successes.discordant == pair.success_only_candidate + pair.success_only_reference


def test_a_subset_of_starts_is_paired_only_when_asked():
    few, many = fake_evaluation(sampler="ddpm:100", nfe=100, episodes=20), fake_evaluation(episodes=50)
    with pytest.raises(OneDPError, match=r"ddpm@ddpm:100 lacks seeds 100020, 100021, .* and 25 more"):
        Comparison.build([many, few], many.label)
    assert Comparison.build([many, few], many.label, common_only=True).paired[0].episodes == 20


def test_comparison_refuses_contradictions(comparison):
    reference, student = comparison.result(REFERENCE), comparison.result(STUDENT)
    with pytest.raises(OneDPError, match="each policy and sampler once"):
        Comparison.build([reference, reference], REFERENCE)
    with pytest.raises(OneDPError, match=r"Unknown reference 'pusht-keypoints-ddpm@ddim:11'\. Did you mean"):
        Comparison.build([reference, student], "pusht-keypoints-ddpm@ddim:11")
    with pytest.raises(OneDPError, match=r"one task, 'pusht-keypoints'; its results are of \['lift', 'pusht"):
        Comparison.build([reference, dataclasses.replace(student, task="lift")], REFERENCE)
    with pytest.raises(OneDPError, match="pairs every other result with its reference"):
        dataclasses.replace(comparison, paired=comparison.paired[1:])


def test_evaluation_refuses_contradictions():
    result = fake_evaluation()
    with pytest.raises(OneDPError, match=r"score_mean is 0.99, but its episodes give"):
        dataclasses.replace(result, score_mean=0.99)
    with pytest.raises(OneDPError, match=r"success_rate is 1.0, but its episodes give"):
        dataclasses.replace(result, success_rate=1.0)
    with pytest.raises(OneDPError, match="must hold 51 different seeds in ascending order from 100000, it holds 50"):
        dataclasses.replace(result, episodes=51)
    with pytest.raises(OneDPError, match="must hold 0 different seeds"):
        dataclasses.replace(result, episodes=0, per_episode=())
    with pytest.raises(OneDPError, match="p50 <= p95"):
        dataclasses.replace(result, latency_ms_p95=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("nfe"), r"missing nfe\."),
        (lambda data: data.update(speed=1), r"unknown speed\."),
        (lambda data: data.update(nfe="ten"), "nfe is 'ten', expected int"),
        (lambda data: data.update(nfe=True), "nfe is True, expected int"),
        (lambda data: data.update(wall_clock_s=float("nan")), "wall_clock_s is nan, expected a finite number"),
        (lambda data: data.update(score_ci95=[0.1, 0.2, 0.3]), r"expected two numbers \[low, high\]"),
        (lambda data: data.update(score_ci95=[0.1, "x"]), "score_ci95 is 'x', expected float"),
        (lambda data: data.update(hardware="fast"), r"hardware is 'fast', expected dict"),
        (lambda data: data["per_episode"][3].pop("steps"), r"per_episode\[3\] does not have .*missing steps"),
        (lambda data: data["per_episode"].__setitem__(3, 5), r"per_episode\[3\] is a int, expected an object"),
        (lambda data: data.update(format="onedp.evaluation/9"), "format 'onedp.evaluation/9'.*upgrade"),
    ],
)
def test_reading_is_strict_and_names_what_is_wrong(tmp_path, change, message):
    data = copy.deepcopy(fake_evaluation().to_json())
    change(data)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(data))
    with pytest.raises(OneDPError, match=message):
        load_results(path)


def test_reading_what_is_no_results_file(tmp_path):
    with pytest.raises(OneDPError, match=r"does not exist\. It is written by: onedp evaluate"):
        load_results(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"format": ')
    with pytest.raises(OneDPError, match="is no results file"):
        load_results(tmp_path / "torn.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(OneDPError, match="has the format None"):
        load_results(tmp_path / "list.json")


def test_a_comparison_with_a_damaged_part_says_where(comparison):
    data = comparison.to_json()
    del data["results"][1]["sampler"]
    with pytest.raises(OneDPError, match=r"the comparison, results\[1\] .*missing sampler"):
        Comparison.from_json(data)
    data = comparison.to_json()
    data["paired"][0]["p"] = 0.04
    with pytest.raises(OneDPError, match=r"the comparison, paired\[0\] .*unknown p\."):
        Comparison.from_json(data)


def charged(**options) -> Timing:
    """One episode of 20 ticks at 50 Hz: two chunks that came 3 and 4 ticks late."""
    execution = Execution(FixedLatency(0.075), **options)
    counters = Counters(executed=13, dropped=7, repeated=4, starved=3)
    return Timing.of(execution, SPEC, 50.0, [counters], [Seams(2, 7, 1, 5.0)], [20])


def test_charged_results_say_so_wherever_they_appear(validator, tmp_path):
    result = fake_evaluation(timing=charged(executor="rtc"))
    assert result.label == "pusht-keypoints-ddpm@ddim:10 (0.075 s, rtc)"
    assert result.timing is not None
    assert result.timing.completion_s == 0.4
    assert (result.timing.delay_ticks, result.timing.seam_jump) == (3.5, 5.0)
    jumps = [dataclasses.replace(result.timing, executor=each).jump for each in ("sync", "drop-late")]
    assert jumps == [None, 5.0]  # under sync the robot stood still between two chunks
    assert dataclasses.replace(result.timing, executor="sync", delay_ticks=0.0).jump == 5.0
    frozen = fake_evaluation(timing=Timing.of(Execution(), SPEC, 10.0, [Counters()], [Seams()], []))
    assert frozen.label == "pusht-keypoints-ddpm@ddim:10"
    comparison = Comparison.build([frozen, result], frozen.label)
    assert "| ddim:10 (0.075 s, rtc) |" in markdown_table(comparison)
    for results in (result, comparison):
        save_results(tmp_path / "r.json", results)
        validator.validate(json.loads((tmp_path / "r.json").read_text()))
        assert load_results(tmp_path / "r.json") == results


def test_files_of_before_time_was_counted_are_read(validator):
    data = fake_evaluation().to_json()
    del data["timing"]
    validator.validate(data)
    assert EvaluationResult.from_json(data).timing is None
    with pytest.raises(OneDPError, match="timing does not have the expected entries: missing label"):
        EvaluationResult.from_json({**data, "timing": {}})


def test_a_histogram_is_part_of_the_result(validator):
    latency = HistogramLatency.of([0.01, 0.02, 0.03], "measured")
    timing = Timing.of(Execution(latency), SPEC, 10.0, [Counters()], [Seams()], [])
    validator.validate(fake_evaluation(timing=timing).to_json())
    assert timing.label == "measured (p50 0.02 s), sync"
