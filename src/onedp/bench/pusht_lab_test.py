"""The benchmark of a simulated task with policies of a few weights; episodes are made up, everything else is real."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from onedp.bench import cost, pusht_lab, pusht_runs, timing
from onedp.bench.checks import check_samplers
from onedp.bench.contestants import Contestant, parse_contestants
from onedp.bench.heldout_numbers import HeldoutSettings, Sampling, exact_solution
from onedp.bench.pusht_lab import PushTLab
from onedp.bench.pusht_options import PushTOptions
from onedp.bench.run import run_bench
from onedp.errors import OneDPError
from onedp.evaluate.fake_results_test import fake_evaluation
from onedp.methods.config import DenoisingConfig
from onedp.methods.table import recipe
from onedp.nets.config import NETWORK_SIZES, MlpConfig
from onedp.policy import load_policy
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.run import train_teacher

LOOP = LoopConfig(steps=60, batch_size=64, checkpoint_every=60, diagnose_every=60, cpu=True)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "demonstrations.npz"
    state, action = rng.uniform(100, 400, (60, 5)), rng.uniform(100, 400, (60, 2))
    np.savez(path, state=state.astype(np.float32), action=action.astype(np.float32), episode_ends=[30, 60])
    return path


@pytest.fixture(scope="module")
def teachers(tmp_path_factory, demonstrations):
    folder = tmp_path_factory.mktemp("teachers")
    network = MlpConfig(width=8, blocks=1, step_embed_dim=8)
    for process in ("ddpm", "edm", "flow"):
        run = TeacherRun("pusht-keypoints", demonstrations, DenoisingConfig(process=process), network, LOOP)
        train_teacher(run, folder / process)
    return {process: str(folder / process) for process in ("ddpm", "edm", "flow")}


@pytest.fixture
def lab(tmp_path, teachers, demonstrations, monkeypatch):
    def evaluate(request):
        policy = load_policy(request.policy, request.sampler)
        return fake_evaluation(
            policy.name, policy.sampler.label, nfe=policy.nfe, skill=0.7 if policy.nfe > 1 else 0.5,
            episodes=request.episodes, first_seed=request.first_seed,
            digest=str(policy.provenance["weights_digest"]),
        )  # fmt: skip

    monkeypatch.setattr(pusht_lab, "evaluate", evaluate)
    monkeypatch.setattr(cost, "PROBE_STEPS", 12)
    options = PushTOptions(
        teachers=teachers, observations=demonstrations, demonstrations=demonstrations, episodes=30,
        heldout=HeldoutSettings(observations=4, draws=3),
    )  # fmt: skip
    return PushTLab("pusht-keypoints", tmp_path, options)


def number(row, name: str) -> float:
    """A column of a row that must be filled."""
    value = row.mean(name)
    assert value is not None
    return value


def test_a_run_from_samplers_to_the_page_and_again_from_what_is_there(lab, monkeypatch):
    contestants = parse_contestants(["ddim:10,heun:2,onedp-s,denoising"])
    rows = run_bench(lab, contestants, (0.2,), (0,), lab.out)
    assert [row.failure for row in rows] == [None] * 4
    by_name = {row.contestant: row for row in rows}
    assert by_name["ddim:10"].mean("score_difference") == 0.0
    student = by_name["onedp-s"]
    assert number(student, "success_difference") < 0
    for name in ("score_difference", "success_difference"):
        assert number(student, f"{name}_low") < number(student, name) < number(student, f"{name}_high")
    assert number(student, "nfe") == 1
    assert 0.1 < number(student, "passes_ratio") <= 0.2
    numbers = lab.trained(Contestant.parse("onedp-s"), 0.2, 0).numbers
    assert number(student, "cpu_ratio") == pytest.approx(numbers["cpu_seconds"] / numbers["teacher_cpu_seconds"])
    assert by_name["denoising"].mean("passes_ratio") == pytest.approx(1.0, rel=0.05)
    assert number(student, "seam_jump") > 0
    assert all(0 <= number(row, "out_of_range") <= 1 for row in rows)
    first, last = (number(by_name["ddim:10"], f"error_at_pass_{n}") for n in (1, 10))
    assert last < first
    assert number(student, "error_at_pass_1") == number(student, "last_step_error") > 0
    assert by_name["denoising"].mean("last_step_error") is None  # it did not learn the teacher's map from noise
    assert number(student, "acting_noise") == 0.75
    table = (lab.out / "table.md").read_text()
    assert "| onedp-s, 20 % |" in table
    assert number(student, "wall_ratio") >= 0  # three steps may take no tenth of a second
    assert "Wall-clock / teacher" in table
    assert "(plots/errors-by-pass.svg)" in table
    assert "error_at_pass_N" in table
    assert "<h3>Error by pass</h3>" in (lab.out / "report.html").read_text()
    assert "teacher ddim:10: " in (lab.out / "plots/errors-by-pass.svg").read_text()
    assert json.loads((lab.out / "results.json").read_text())["first_seed"] == 200_000

    def refuse(*_):
        raise AssertionError("something finished was made again")

    for name in ("evaluate", "begun", "continued", "heldout_numbers", "probe_cost"):
        monkeypatch.setattr(pusht_lab, name, refuse)
    monkeypatch.setattr(timing, "median_latencies", refuse)
    run_bench(lab, contestants, (0.2,), (0,), lab.out)
    assert (lab.out / "table.md").read_text() == table


def test_a_student_may_have_a_network_of_its_own_and_is_counted_with_it(lab, monkeypatch):
    small = MlpConfig(width=4, blocks=1, step_embed_dim=8)
    monkeypatch.setitem(NETWORK_SIZES, "mlp", small)
    rows = run_bench(lab, parse_contestants(["regression", "regression+mlp", "denoising+mlp"]), (0.3,), (0,), lab.out)
    assert [row.failure for row in rows] == [None] * 3
    same, own, alone = rows
    assert own.name == "regression+mlp, 30 %"
    for row in (own, alone):
        assert row.trained is not None
        assert load_policy(row.trained.folder).network == small
    assert own.trained is not None
    student = sum(p.numel() for p in load_policy(own.trained.folder).denoiser.parameters())
    policy = load_policy(lab.options.teachers["ddpm"])
    teacher = sum(p.numel() for p in policy.denoiser.parameters())
    assert student < teacher
    assert number(own, "steps") > number(same, "steps")  # a step of it costs less
    # student forward and backward (3) at the preset's batch; its share of the preset's pairs, by the teacher
    pairs = policy.nfe * 18_462 / 1200 * teacher
    assert number(own, "passes") == pytest.approx(number(own, "steps") * (128 * 3 * student + pairs), rel=0.01)
    assert number(same, "passes") == pytest.approx(number(same, "steps") * (128 * 3 * teacher + pairs), rel=0.01)


def test_a_flow_policy_may_be_the_teacher(lab):
    rows = run_bench(lab, parse_contestants(["euler:10,flow/regression,edm/regression"]), (0.2,), (0,), lab.out)
    assert [row.failure for row in rows] == [None] * 3
    teacher, student, other = rows
    assert teacher.mean("score_difference") == 0.0
    assert number(student, "nfe") == 1
    assert number(student, "error_at_pass_1") > 0
    assert load_policy(lab.trained(Contestant.parse("flow/regression"), 0.2, 0).folder).denoiser.schedule.kind == "flow"
    assert number(student, "energy_distance") != number(other, "energy_distance")


def test_every_halving_of_progressive_distillation_is_a_row(lab):
    rows = run_bench(lab, parse_contestants(["progressive"]), (3.0,), (0,), lab.out)
    assert [row.name for row in rows] == [
        *(f"progressive -> {passes} passes, 300 %" for passes in (32, 16, 8, 4, 2)), "progressive, 300 %",
    ]  # fmt: skip
    assert [row.failure for row in rows] == [None] * 6
    assert [number(row, "nfe") for row in rows] == [32, 16, 8, 4, 2, 1]
    assert all(number(row, "score") > 0 for row in rows)  # on the same starts as all
    for name in ("steps", "passes", "passes_ratio", "cpu_seconds", "wall_seconds"):
        spent = [number(row, name) for row in rows]
        assert spent == sorted(spent)
        assert "seconds" in name or 0 < spent[0] < spent[-1]  # how long it takes is the machine's affair
    teacher = sum(p.numel() for p in load_policy(lab.options.teachers["ddpm"]).denoiser.parameters())
    step = 128 * 5 * teacher  # student forward and backward, two passes of the stage's teacher
    for row, following in itertools.pairwise(rows):
        between = number(following, "steps") - number(row, "steps")
        assert number(following, "passes") - number(row, "passes") == pytest.approx(between * step)
    table = (lab.out / "table.md").read_text()
    assert "| progressive -> 16 passes, 300 % |" in table


def test_halvings_of_older_runs_have_rows_without_what_was_not_kept(lab):
    contestant = Contestant.parse("progressive")
    lab.trained(contestant, 3.0, 0)
    (cost_cell,) = (lab.out / "cells").glob("cost-progressive-*.json")
    saved = json.loads(cost_cell.read_text())
    cost_cell.write_text(json.dumps({**saved, "result": {"step": saved["result"]["step"]}}))
    for file in (lab.out / "runs").glob("*/stages/*/provenance.json"):
        provenance = json.loads(file.read_text())
        for name in ("stage_step", "cpu_seconds"):
            del provenance[name]
        file.write_text(json.dumps(provenance))
    for kept in lab.stages(contestant, 3.0, 0).values():
        assert {name for name, value in kept.numbers.items() if value is None} == {"steps", "passes", "cpu_seconds"}
    rows = run_bench(lab, [contestant], (3.0,), (0,), lab.out)
    assert [row.failure for row in rows] == [None] * 6
    assert rows[0].mean("passes_ratio") is None


def test_a_stopped_distillation_continues(lab, monkeypatch):
    contestant = Contestant.parse("onedp-d")
    whole = lab.trained(contestant, 0.3, 0)

    def stop(run, folder):
        distill(run, folder, stop_after=5)
        raise KeyboardInterrupt

    def often(steps, batch_size, seed):
        return LoopConfig(steps, batch_size, seed, checkpoint_every=5, diagnose_every=50, cpu=True)

    distill = pusht_runs.distill_student
    elsewhere = PushTLab(lab.task, lab.out / "elsewhere", lab.options)
    with monkeypatch.context() as patch:
        patch.setattr(pusht_runs, "distill_student", stop)
        patch.setattr(elsewhere, "_loop", often)
        with pytest.raises(KeyboardInterrupt):
            elsewhere.trained(contestant, 0.3, 0)
    continued = elsewhere.trained(contestant, 0.3, 0)
    assert continued.numbers["cpu_seconds"] is None  # of a part only, so not a cost
    assert continued.numbers["steps"] == whole.numbers["steps"]
    assert (continued.folder / "weights.safetensors").exists()


def test_what_is_missing_is_said(lab):
    bare = PushTLab(lab.task, lab.out, PushTOptions(teachers={"ddpm": lab.options.teachers["ddpm"]}))
    with pytest.raises(OneDPError, match=r"There is no edm teacher\. Name one with --teacher-edm"):
        bare.teacher("edm")
    without = PushTLab(lab.task, lab.out, PushTOptions(lab.options.teachers, lab.options.observations))
    with pytest.raises(OneDPError, match=r"denoising is trained on demonstrations\. Give them with --demonstrations"):
        without.trained(Contestant.parse("denoising"), 1.0, 0)


def test_the_error_of_every_step_is_to_the_exact_solution_and_falls_with_the_solvers_steps(teachers):
    teacher = load_policy(teachers["edm"] + "/policy", "heun:10")
    obs = teacher.spec.fake_observation(5, np.random.default_rng(0))
    last = []
    for sampler in ("heun:3", "heun:10", "heun:20", "heun:40"):
        policy = load_policy(teachers["edm"] + "/policy", sampler)
        sampling = Sampling.of(policy, obs, seed=0)
        errors = sampling.errors(exact_solution(teacher, obs, sampling), policy.sampler.clip)
        assert len(errors) == policy.nfe
        assert errors[0] > errors[-1]
        last.append(errors[-1])
        assert "x0" not in vars(policy.denoiser)
    assert last == sorted(last, reverse=True)
    assert last[-1] == pytest.approx(0.0, abs=1e-6)


def test_the_exact_solution_begins_with_the_noise_that_the_policy_reads(teachers):
    obs = load_policy(teachers["edm"] + "/policy").spec.fake_observation(5, np.random.default_rng(0))
    teacher = load_policy(teachers["edm"] + "/policy", "heun:10")
    less = load_policy(teachers["edm"] + "/policy", "heun:40:0.5")
    sampling = Sampling.of(less, obs, seed=0)
    clip = less.sampler.clip
    assert sampling.errors(exact_solution(teacher, obs, sampling), clip)[-1] == pytest.approx(0.0, abs=1e-6)
    whole = Sampling.of(load_policy(teachers["edm"] + "/policy", "heun:40"), obs, seed=0)
    assert sampling.errors(exact_solution(teacher, obs, whole), clip)[-1] > 1e-3


def test_no_error_of_a_clipped_estimate_is_wider_than_the_range(teachers):
    """The first estimate of a policy that predicts noise is divided by next to nothing."""
    teacher = load_policy(teachers["ddpm"] + "/policy", "ddim:10")
    obs = teacher.spec.fake_observation(5, np.random.default_rng(0))
    sampling = Sampling.of(teacher, obs, seed=0)
    solution = exact_solution(teacher, obs, sampling)
    assert max(sampling.errors(solution, None)) > 2.0
    assert max(sampling.errors(solution, 1.0)) <= 2.0


def test_students_have_the_episodes_that_a_first_one_lost(demonstrations):
    """As ``onedp distill`` gives them; not with a teacher of another kind or data of one's own, nor when refused."""
    shipped, edm = Contestant.parse("onedp"), Contestant.parse("edm/onedp")

    def beside(contestant, **options):
        lab = PushTLab("pusht-keypoints", demonstrations.parent, PushTOptions(**options))
        run = lab._run(contestant, recipe("onedp", "small", contestant.process).config, LOOP)
        assert isinstance(run, StudentRun)
        return [file.name for file in run.beside]

    assert beside(shipped) == ["pusht_lost_observations.npz"]
    assert beside(edm) == beside(shipped, lost=False) == beside(shipped, observations=demonstrations) == []


def test_what_is_asked_before_a_training_times_nothing(lab, monkeypatch):
    """With --only-finished nothing may be made, so a sampler is judged without timing the teacher."""
    monkeypatch.setattr(lab, "teacher", lambda process: pytest.fail("timed"))
    check_samplers(parse_contestants(["edm/consistency-policy@consistency:3,ddim:10"]), lab)
    with pytest.raises(OneDPError, match="edm/ddim:10: "):
        check_samplers(parse_contestants(["edm/ddim:10"]), lab)
