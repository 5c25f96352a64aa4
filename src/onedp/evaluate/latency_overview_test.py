"""The overview of all tasks sets the cell at a policy's own latency beside that of a frozen world, and no other."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from onedp.evaluate.comparison import save_results
from onedp.evaluate.fake_results_test import fake_evaluation
from onedp.evaluate.timing import Timing
from onedp.runtime.execution import Execution
from onedp.runtime.executor import Counters, Seams
from onedp.runtime.latency import FixedLatency
from onedp.tasks import PUSHT_KEYPOINTS

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "latency_overview.py"

if not SCRIPT.is_file():
    pytest.skip("not run from the source tree", allow_module_level=True)


@pytest.fixture(scope="module")
def overview():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        return importlib.import_module("latency_overview")
    finally:
        sys.path.remove(str(SCRIPT.parent))


def cell(policy, sampler, latency, skill, executor="sync", hz=50.0, **changed):
    execution = Execution(FixedLatency(latency), executor)
    seams = Seams(chunks=2, delay_ticks=2 * int(-(-latency * hz // 1)), joints=1, jump=3.0)
    timing = Timing.of(execution, PUSHT_KEYPOINTS.spec, hz, [Counters(executed=10)], [seams], [100])
    return fake_evaluation(policy, sampler, skill=skill, task="slide", timing=timing, episodes=100, **changed)


def test_each_policy_stands_at_its_own_latency(overview, tmp_path):
    cells = [
        cell("slide-ddpm", "ddpm:100", 0.0, 0.9),
        cell("slide-ddpm", "ddpm:100", 0.669, 0.2),
        cell("slide-ddpm", "ddim:10", 0.0, 0.8),
        cell("slide-ddpm", "ddim:10", 0.669, 0.1),  # not its own
        cell("slide-onedp-s", "one-step:65:0.75", 0.0, 0.8),
        cell("slide-onedp-s", "one-step:65:0.75", 0.016, 0.8),
        cell("slide-onedp-s", "one-step:65:0.75", 0.016, 0.1, executor="drop-late"),
        cell("slide-onedp-d", "one-step:65:0", 0.016, 0.8),  # nothing to set it beside
        cell("slide-x0", "one-step", 0.0, 0.8),  # no policy of the overview
    ]
    (tmp_path / "realtime-slide").mkdir()
    for number, each in enumerate(cells):
        save_results(tmp_path / "realtime-slide" / f"{number}.json", each)
    standing = overview.standings(cells)
    assert set(standing["slide"]) == {"DDPM-100", "OneDP-S"}
    slow = standing["slide"]["DDPM-100"]
    assert (slow.frozen.success_rate, slow.charged.success_rate) == (cells[0].success_rate, cells[1].success_rate)
    overview.main(tmp_path)
    text = (tmp_path / "realtime-tasks.md").read_text()
    rates = [f"{each.success_rate:.2f}" for each in cells]
    assert (
        f"| slide | {rates[0]} -> {rates[1]} (< 680 ms) | - | - | - | {rates[4]} -> {rates[5]} (>= 20 ms) | - |" in text
    )
    assert (tmp_path / "realtime-tasks.png").stat().st_size > 5000


@pytest.mark.parametrize(("hz", "ticks_s"), [(50.0, 0.08), (20.0, 0.1)])
def test_the_papers_latency_counts_as_the_ticks_of_the_task(overview, hz, ticks_s):
    cells = [cell("ddpm", "ddim:10", 0.0, 0.8, hz=hz), cell("ddpm", "ddim:10", 0.075, 0.7, hz=hz)]
    standing = overview.standings([*cells, cell("ddpm", "ddim:10", 0.2, 0.1, hz=hz)])["slide"]["DDIM-10"]
    assert standing.charged is cells[1]
    assert overview.charged_s(standing.charged) == pytest.approx(ticks_s)
