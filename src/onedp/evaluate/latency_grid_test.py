"""The grid of charged latencies in benchmarks/: what its cells are, that it goes on where it was, table and budget."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from pathlib import Path

import pytest

from onedp.errors import OneDPError
from onedp.evaluate.comparison import load_results, save_results
from onedp.evaluate.fake_results_test import fake_evaluation
from onedp.evaluate.results import EpisodeResult
from onedp.evaluate.timing import Timing
from onedp.runtime.execution import Execution
from onedp.runtime.executor import Counters, Seams
from onedp.runtime.latency import FixedLatency
from onedp.tasks import PUSHT_KEYPOINTS

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "latency_grid.py"

if not SCRIPT.is_file():
    pytest.skip("not run from the source tree", allow_module_level=True)


@pytest.fixture(scope="module")
def grid():
    pytest.importorskip("gym_pusht")
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        return importlib.import_module("latency_grid")
    finally:
        sys.path.remove(str(SCRIPT.parent))


@pytest.fixture(scope="module")
def budget(grid):
    return sys.modules["latency_tables"].latency_budget


def test_shares_and_entropy_of_ways_are_in_the_report_of_tasks_that_have_two(grid):
    ways = sys.modules["latency_ways"]
    went = ["left"] * 25 + ["right"] * 25 + [None] * 50
    result = dataclasses.replace(fake_evaluation(timing=cell_timing(), episodes=100), task="coffee-lid")
    episodes = tuple(dataclasses.replace(row, way=way) for row, way in zip(result.per_episode, went, strict=True))
    table = ways.ways_table([dataclasses.replace(result, per_episode=episodes)])
    assert "| 0 ms | sync | " in table
    assert "| 50 | 0.50 [0.37, 0.63] | 1.00 [0.95, 1.00] |" in table
    one = tuple(dataclasses.replace(row, way="right") for row in result.per_episode)
    table = ways.ways_table([dataclasses.replace(result, per_episode=one)])
    assert "| 100 | 0.00 [0.00, 0.04] | 0.00 [0.00, 0.23] |" in table
    assert ways.ways_table([result]) == ""


def cell_timing(hz=50.0):
    return Timing.of(Execution(), PUSHT_KEYPOINTS.spec, hz, [Counters()], [Seams(1, 0)], [])


def cell(request):
    """What evaluating a request might give: a third less success for every 0.1 s."""
    latency = float(request.latency)
    execution = Execution(FixedLatency(latency), request.executor, noise=request.noise)
    seams = Seams(chunks=2, delay_ticks=round(2 * latency * 50), joints=1, jump=3.0)
    counters = Counters(executed=10, dropped=5, repeated=4, starved=1)
    timing = Timing.of(execution, PUSHT_KEYPOINTS.spec, 50.0, [counters], [seams], [100])
    skill = 0.9 - 3 * latency
    return fake_evaluation(
        request.policy,
        request.sampler or "one-step",
        skill=skill,
        task=request.task,
        timing=timing,
        episodes=request.episodes,
    )


def test_a_grid_that_was_stopped_goes_on_where_it_was(grid, tmp_path, monkeypatch):
    made = []

    def evaluate(request):
        made.append(request)
        if len(made) == 4:
            raise KeyboardInterrupt
        return cell(request)

    monkeypatch.setattr(grid, "evaluate", evaluate)
    options = grid.Options(
        policies=("student", "teacher@ddim:10:starts=10"),
        tasks=("pusht-drift@speed=10",),
        latencies=("0", "0.1", "0.2"),
        executors=("sync",),
        starts=50,
        folder=tmp_path,
    )
    with pytest.raises(KeyboardInterrupt):
        grid.main(options)
    assert [(each.latency, each.policy, each.episodes) for each in made[:2]] == [
        ("0", "student", 50),
        ("0", "teacher", 10),
    ]
    grid.main(options)
    assert len(made) == 7  # six cells, one of them tried twice
    assert len(list(tmp_path.glob("*.json"))) == 6
    assert (tmp_path / "pusht-drift_speed=10--teacher--ddim_10--0.1--sync.json").is_file()
    text = (tmp_path / "README.md").read_text()
    line = next(line for line in text.splitlines() if "| student | one-step | 100 ms | sync | 8 | 50 |" in line)
    against_nothing = r"-0\.\d\d \[-0\.\d\d, -0\.\d\d\], \d+:\d+, p [0-9.e-]+"
    assert re.fullmatch(against_nothing, line.split("|")[9].strip())
    assert "| 33% | 27% | 7% | 3.0 |" in text
    side = next(line for line in text.splitlines() if "| student | one-step | 8 | 100 ms |" in line)
    assert side.count("|") == 8  # nothing charged, and sync
    assert float(side.split("|")[6]) > float(side.split("|")[7])
    assert "- pusht-drift@speed=10, student one-step, sync, replan 8: < 100 ms" in text
    assert (tmp_path / "latency.png").stat().st_size > 5000
    assert not (tmp_path / "executors.png").exists()  # sync alone was run
    grid.main(dataclasses.replace(options, latencies=("0.1",), executors=("rtc",)))
    assert (tmp_path / "executors.png").stat().st_size > 5000
    text = (tmp_path / "README.md").read_text()
    assert "- pusht-drift@speed=10, student one-step, rtc, replan 8: < 100 ms" in text
    (tmp_path / "README.md").unlink()
    grid.main(grid.Options(folder=tmp_path, plot_only=True))
    assert (tmp_path / "README.md").read_text() == text


def test_the_budget_ends_before_the_first_latency_that_costs_too_much(budget):
    def row(latency, success_rate):
        rows = fake_evaluation(skill=0.7, timing=None)
        timing = Timing.of(
            Execution(FixedLatency(latency)),
            PUSHT_KEYPOINTS.spec,
            50.0,
            [Counters()],
            [Seams(1, round(latency * 50))],
            [],
        )
        result = object.__new__(type(rows))
        result.__dict__.update(rows.__dict__, success_rate=success_rate, timing=timing)
        return result

    rows = [row(0.6, 0.8), row(0.0, 0.8), row(0.1, 0.77), row(0.3, 0.5)]
    assert budget(rows).text == "100 to 300 ms"  # 0.6 s does not count: 0.3 s had failed
    assert budget(rows, share=0.5).text == ">= 600 ms"
    assert budget(rows[1:2]) is None  # without latency alone nothing is known of it
    assert budget([row(0.1, 0.8)]) is None
    assert budget([]) is None
    assert budget([row(0.0, 0.04), row(0.6, 0.04)]) is None  # nothing is lost of nothing
    assert budget([row(0.0, 1.0), row(0.1, 1.0), row(0.1, 0.5)]).text == "< 100 ms"  # of equal ticks the worst counts
    assert budget([row(0.0, 1.0), row(0.1, 1.0), row(0.2, 1.0), row(0.2, 0.5)]).text == "100 to 200 ms"


def test_times_are_compared_on_the_starts_that_both_solved(grid):
    def solved(*steps):
        result = fake_evaluation(skill=1.0, episodes=4, timing=cell_timing())
        episodes = [
            dataclasses.replace(each, success=count > 0, steps=count or 300)
            for each, count in zip(result.per_episode, steps, strict=True)
        ]
        result.__dict__["per_episode"] = tuple(episodes)  # its means are no matter here
        return result

    later_text = sys.modules["latency_tables"].later_text
    # the third was solved by the slow one alone, the fourth by the other alone
    text = later_text(solved(100, 200, 50, 0), solved(50, 150, 0, 10))
    assert text == "+1.0 [+1.0, +1.0], 2 starts"
    assert later_text(solved(100, 0, 0, 0), solved(50, 0, 0, 0)) == "-"


def test_a_grid_without_sync_has_its_pictures_too(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "evaluate", cell)
    options = grid.Options(
        policies=("a/teacher",), tasks=("pusht-drift",), latencies=("0.02",), executors=("drop-late",), folder=tmp_path
    )
    grid.main(options)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".json"} == {"README.md", "executors.png"}


def test_cells_are_never_mixed_up(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "evaluate", cell)
    options = grid.Options(policies=("a/teacher",), tasks=("pusht-drift",), latencies=("0",), folder=tmp_path)
    both = dataclasses.replace(options, policies=("a/teacher", "b/teacher"))
    with pytest.raises(OneDPError, match=r"would both be pusht-drift--teacher--own--0--sync\.json"):
        grid.main(both)
    grid.main(dataclasses.replace(options, starts=50))
    with pytest.raises(OneDPError, match="has 50 starts from 100000, 25 from 100000 are wanted"):
        grid.main(options)


def test_cells_of_other_weights_are_not_kept(grid, tmp_path, monkeypatch):
    """A policy that was trained again under its old name would be a row beside its predecessor's."""
    monkeypatch.setattr(grid, "evaluate", cell)
    shipped = "pusht-keypoints-onedp-s"
    options = grid.Options(policies=(shipped,), tasks=("pusht-drift",), latencies=("0",), folder=tmp_path)
    options = dataclasses.replace(options, starts=50)
    grid.main(options)  # the made-up cell is not of these weights
    with pytest.raises(OneDPError, match=f"is of other weights than {shipped} has now"):
        grid.main(options)
    (path,) = tmp_path.glob("*.json")
    own = dataclasses.replace(load_results(path), weights_digest=grid.digest_of(shipped))
    save_results(path, own)
    grid.main(options)
    assert grid.digest_of("no-such-policy") is None


def test_wrong_grids_are_refused_before_anything_is_evaluated(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "evaluate", lambda request: pytest.fail("evaluated"))
    with pytest.raises(OneDPError, match="Unknown option of pusht-drift 'sped'"):
        grid.main(grid.Options(tasks=("pusht-drift@sped=1",), folder=tmp_path))
    with pytest.raises(OneDPError, match="Unknown executor 'async'"):
        grid.main(grid.Options(executors=("async",), folder=tmp_path))
    with pytest.raises(OneDPError, match="There is no finished cell"):
        grid.main(grid.Options(plot_only=True, folder=tmp_path))


def test_a_latency_longer_than_the_episode_is_not_none(grid, tmp_path, monkeypatch):
    def evaluate(request):
        made = cell(request)
        never = request.latency == "9"
        timing = dataclasses.replace(made.timing, chunks=0, delay_ticks=0.0) if never else made.timing
        return dataclasses.replace(made, timing=timing)

    monkeypatch.setattr(grid, "evaluate", evaluate)
    grid.main(grid.Options(policies=("student",), tasks=("pusht-drift",), latencies=("9", "0.1"), folder=tmp_path))
    text = (tmp_path / "README.md").read_text()
    assert "| student | one-step | no chunk came | sync |" in text
    assert "- pusht-drift, student" not in text  # no budget: nothing without latency was measured
    assert (tmp_path / "latency.png").stat().st_size > 5000


def test_what_one_pass_adds_is_told_from_what_it_has_in_a_frozen_world(grid):
    """Of 20 starts the reference solves 16 and loses 8 to latency, drop-late gives it 4 back; the student loses 1."""

    def row(policy, sampler, executor, latency, solved):
        latency_model = FixedLatency(latency, "paper" if latency else "fixed")
        execution = Execution(latency_model, executor, replan_steps=8)
        counters, seams = Counters(executed=10), Seams(chunks=1, delay_ticks=round(50 * latency))
        timing = Timing.of(execution, PUSHT_KEYPOINTS.spec, 50.0, [counters], [seams], [9])
        episodes = [EpisodeResult(seed, float(seed < solved), seed < solved, 9) for seed in range(20)]
        about = fake_evaluation(policy, sampler, timing=timing)
        facts = {field.name: getattr(about, field.name) for field in dataclasses.fields(about)}
        made = ("per_episode", "episodes", "first_seed", "score_mean", "score_ci95", "success_rate", "success_ci95")
        return type(about).from_episodes(episodes, **{name: facts[name] for name in facts if name not in made})

    cells = [
        row("teacher", "ddim:10", "sync", 0, 16),
        row("teacher", "ddim:10", "sync", 0.075, 8),
        row("teacher", "ddim:10", "drop-late", 0.075, 12),
        row("student", "one-step", "sync", 0, 18),
        row("student", "one-step", "sync", 0.016, 17),
    ]
    what_is_added = sys.modules["latency_pairs"].what_is_added
    (line,) = [line for line in what_is_added(cells).splitlines() if line.startswith("| pusht-keypoints | student")]
    _, _, _, executor, still, charged, difference, _ = (part.strip() for part in line.split("|"))
    assert executor == "sync"
    assert still.startswith("+0.10 [")
    assert still.endswith("2:0, p 0.5")
    assert charged.startswith("+0.45 [")
    assert charged.endswith("9:0, p 0.0039")
    assert difference.startswith("+0.35 [")  # 8 of 20 against 1 of 20
    both = what_is_added([*cells, row("student", "one-step", "drop-late", 0.016, 16)])
    best = next(line for line in both.splitlines() if "best (sync / drop-late)" in line)
    assert "| +0.25 [" in best  # 17 against 12
    assert what_is_added(cells[:3]) == ""
