"""The laboratory with a network of a few weights: budgets, costs, and that nothing is done twice."""

from __future__ import annotations

import json

import pytest
import torch

from onedp.bench import cost, timing, two_modes_lab
from onedp.bench.contestants import Contestant, parse_contestants
from onedp.bench.cost import counted_passes, steps_within
from onedp.bench.lab import Examination, make_data
from onedp.bench.run import run_bench
from onedp.bench.two_modes import SPEC
from onedp.bench.two_modes_lab import TwoModesLab, TwoModesOptions
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import OneDPError
from onedp.methods.table import METHODS
from onedp.nets.build import build_denoiser
from onedp.nets.config import NETWORK_SIZES, MlpConfig
from onedp.policy import load_policy

NETWORK = MlpConfig(width=16, blocks=1, step_embed_dim=16)
TINY = TwoModesOptions(chunks=400, network=NETWORK, teacher_steps=120, teacher_batch=32, observations=4, draws=6)


@pytest.fixture(autouse=True)
def short_probes(monkeypatch):
    monkeypatch.setattr(cost, "PROBE_STEPS", 12)


def test_data_is_the_truth_scaled_to_its_range_with_a_twentieth_held_out():
    data = make_data(400, seed=0)
    windows = data.windows
    assert (len(windows.training), len(windows.heldout)) == (380, 20)
    batch = windows.batch(torch.arange(400), torch.device("cpu"))
    assert batch.nobs["obstacle"].shape == (400, 1, 2)
    assert batch.nactions is not None
    assert batch.nactions.shape == (400, 16, 2)
    assert batch.nactions.abs().max() == pytest.approx(1.0)
    again = make_data(400, seed=0).windows.batch(torch.arange(400), torch.device("cpu"))
    assert again.nactions is not None
    assert torch.equal(again.nactions, batch.nactions)


def test_passes_are_counted_by_weights_chunks_and_gradient():
    denoiser = build_denoiser(NETWORK, SPEC, CosineDdpm(), "eps")
    weights = sum(p.numel() for p in denoiser.parameters())
    x, t, cond = torch.zeros(5, 16, 2), torch.zeros(5, dtype=torch.int64), torch.zeros(5, 2)
    with counted_passes() as counter:
        denoiser.raw(x, t, cond)
        with torch.no_grad():
            denoiser.raw(x, t, cond)
    denoiser.raw(x, t, cond)  # outside
    assert counter.total == (3 + 1) * 5 * weights


def test_a_budget_too_small_for_a_step_is_refused():
    assert steps_within(0.1, teacher_cost=1000.0, step_cost=10.0) == 10
    with pytest.raises(OneDPError, match=r"0.1 % of the teacher's training is worth 0 steps .* Give more --budget"):
        steps_within(0.001, teacher_cost=1000.0, step_cost=10.0)


def test_cost_of_a_method_is_what_its_losses_pass_through_networks(tmp_path):
    """OneDP-D: student forward and backward (3), teacher forward (1), at the preset's batch."""
    lab = TwoModesLab(tmp_path, TINY)
    weights = lab.weights
    trained = lab.trained(Contestant.parse("onedp-d"), 0.5, seed=0)
    teacher = lab.teacher("ddpm").numbers
    assert teacher["passes"] is not None
    assert trained.numbers["passes"] is not None
    assert trained.numbers["steps"] is not None
    assert teacher["passes"] == 120 * 3 * 32 * weights
    steps = trained.numbers["steps"]
    assert trained.numbers["passes"] == pytest.approx(steps * 4 * 128 * weights)
    assert 0.4 < trained.numbers["passes"] / teacher["passes"] <= 0.5


def test_a_student_may_have_a_network_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORK_SIZES, "mlp", MlpConfig(width=8, blocks=1, step_embed_dim=8))
    lab = TwoModesLab(tmp_path, TINY)
    same, own = (lab.trained(Contestant.parse(text), 0.5, seed=0) for text in ("regression", "regression+mlp"))
    policy = load_policy(own.folder)
    assert policy.network == NETWORK_SIZES["mlp"]
    student = sum(p.numel() for p in policy.denoiser.parameters())
    assert own.numbers["steps"] is not None
    assert same.numbers["steps"] is not None
    assert own.numbers["steps"] > same.numbers["steps"]
    nfe = load_policy(lab.teacher("ddpm").folder).nfe
    pairs = nfe * 18_462 / 1200 * lab.weights  # a step's share of the preset's
    assert own.numbers["passes"] == pytest.approx(own.numbers["steps"] * (128 * 3 * student + pairs), rel=0.01)


def test_every_halving_of_progressive_distillation_is_a_row(tmp_path):
    lab = TwoModesLab(tmp_path, TINY)
    rows = run_bench(lab, parse_contestants(["progressive"]), (0.7,), range(2), tmp_path)
    assert [row.failure for row in rows] == [None] * 6
    assert [row.mean("nfe") for row in rows] == [32, 16, 8, 4, 2, 1]
    assert [row.seeds for row in rows] == [(0, 1)] * 6
    for name in ("steps", "passes_ratio", "cpu_seconds"):
        spent = [row.mean(name) or 0.0 for row in rows]
        assert spent == sorted(spent)
        assert "seconds" in name or 0 < spent[0] < spent[-1]  # how long it takes is the machine's affair
    (cell, _) = (tmp_path / "cells").glob("progressive-*.json")
    saved = json.loads(cell.read_text())
    del saved["result"]["stages"]
    cell.write_text(json.dumps(saved))  # as cells of before
    *stages, result = run_bench(lab, parse_contestants(["progressive"]), (0.7,), range(2), tmp_path)
    assert all("trained before its stages were kept. Remove" in (row.failure or "") for row in stages)
    assert (result.failure, result.seeds) == (None, (0, 1))
    looking = TwoModesLab(tmp_path, TINY, make_missing=False)
    rows = run_bench(looking, parse_contestants(["progressive"]), (0.7,), range(2), tmp_path)
    assert [len(row.seeds) for row in rows] == [1, 1, 1, 1, 1, 2]


def test_seeds_and_budgets_are_different_students_and_nothing_is_done_twice(tmp_path, monkeypatch):
    contestants = parse_contestants(["ddim:4,onedp-s,onedp-d"])
    lab = TwoModesLab(tmp_path, TINY)
    rows = run_bench(lab, contestants, (0.3,), range(2), tmp_path)
    assert [row.failure for row in rows] == [None] * 3
    assert {row.numbers[0]["nfe"] for row in rows} == {1, 4}
    digests = {lab.trained(contestants[1], budget, seed).digest for budget in (0.3, 0.5) for seed in (0, 1)}
    assert len(digests) == 4
    table = (tmp_path / "table.md").read_text()

    def refuse(*_):
        raise AssertionError("a finished cell was made again")

    monkeypatch.setattr(two_modes_lab, "fit", refuse)
    monkeypatch.setattr(timing, "median_latencies", refuse)
    monkeypatch.setattr(Examination, "chunks", refuse)
    run_bench(TwoModesLab(tmp_path, TINY), contestants, (0.3,), range(2), tmp_path)
    assert (tmp_path / "table.md").read_text() == table


def test_a_policy_is_judged_on_the_same_observations_and_noise_every_time(tmp_path):
    lab = TwoModesLab(tmp_path, TINY)
    teacher = lab.teacher("edm")
    first = lab.examined(teacher, "edm", "heun:2")
    again = TwoModesLab(tmp_path / "elsewhere", TINY)
    assert again.examined(again.teacher("edm"), "edm", "heun:2") == first
    assert first["nfe"] == 3
    for numbers in (first, lab.examined(teacher, "edm", "one-step")):
        assert numbers["out_of_range"] is not None
        assert 0 <= numbers["out_of_range"] <= 1


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """Teachers are trained once."""
    return tmp_path_factory.mktemp("bench")


@pytest.mark.parametrize(
    "method", [*sorted(set(METHODS) - {"denoising", "act"}), "edm/consistency-policy@consistency:3", "flow/onedp"]
)
def test_every_method_becomes_a_row(shared_folder, method):
    """A budget of a few steps: training, saving and examining go through. ACT has no MLP of two-modes."""
    rows = run_bench(TwoModesLab(shared_folder, TINY), parse_contestants([method]), [0.7], range(1), shared_folder)
    assert len(rows) == (6 if method == "progressive" else 1)  # every halving is one
    row = rows[-1]
    assert row.failure is None
    assert row.numbers[0]["nfe"] == {"mip": 2, "flow-matching": 10, "edm/consistency-policy@consistency:3": 3}.get(
        method, 1
    )
    assert f"| {row.name} |" in (shared_folder / "table.md").read_text()
