"""Make ``results/README.md`` from the JSON files under ``results/``: one row each, with the command that made it.

python scripts/results_table.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from onedp.evaluate.comparison import PairedDifference, load_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.statistics import binary_entropy, wilson_interval
from onedp.files import write_text
from onedp.tasks.metaworld import NAMES
from onedp.tasks.robosuite_anything import KINDS, kind_of

RESULTS = Path(__file__).resolve().parents[1] / "results"
MANIPULATION = json.loads((RESULTS / "manipulation-cost.json").read_text())
"""Of scripts/manipulation_rows.py: processor times, and the ways of demonstrations."""
REFERENCES = {
    "pusht-keypoints-ddpm": "ddim:10",
    "pusht-keypoints-edm": "heun:10",
    "pusht-state-ddpm": "ddim:10",
    "pusht-image-ddpm": "ddim:10",
    **{f"{task}-ddpm": "ddim:10" for task in MANIPULATION["processor_seconds"]},
    **{f"{task}-edm": "heun:10" for task in MANIPULATION["processor_seconds"]},
}
"""Teacher to the sampler every comparison with it is made with; named before any number was seen."""


MADE_BY = """
## Policies that the package does not ship

The commands below name them by the folder that they were trained in (`../runs/NAME` or `NAME`). All but lost-N,
onedp-1, onedp-2, onedp-half-N and onedp-twentieth-0 were distilled before the package had lost episodes; today that is
`onedp distill ... --no-lost`:

- onedp-s-150, -300, -600: `onedp distill pusht-keypoints-ddpm --method onedp-s --steps 150 --threads 1 --out NAME`
- regression-720: `onedp distill pusht-keypoints-ddpm --method regression --steps 720 --threads 1 --out NAME`
- onedp-ddpm: `onedp distill pusht-keypoints-ddpm --method regression-fine --threads 1 --out NAME`, when that method was
  called onedp
- s2400-0, -1, -2: `onedp distill pusht-keypoints-ddpm --regression-lr 7e-4 --seed N --threads 1 --out NAME`, the
  recipe `onedp` at the rate that it had (called `--method onedp-s --steps 2400` then); 25.2 % of the teacher's training
  in counted passes ([JSON](counted-costs.json), `scripts/counted_costs.py`)
- lost-N, lost950-0, lost1200-0: `scripts/measure_lost_states.sh`, the same recipe (also with `--steps 950`, 10 % of
  the teacher's training, and 1200, 12.6 %) on the same observations and 26 episodes more that a student of seed 1
  had lost. That student is s2400-1 in the rows of lost-states: trained on another machine it has other weights than
  s2400-1 of Push-T's rows
- onedp-1, onedp-2: `onedp distill pusht-keypoints-ddpm --seed N --threads 1 --out NAME`, the default at its present
  rate; seed 0 of it, made from the same number of pairs but for a few, is
  [rate-x-0.5-0.25-0-100000-2000](short-budgets/rate-x-0.5-0.25-0-100000-2000.json) (`scripts/short_budgets.py`)
- no-lost-0: `onedp distill pusht-keypoints-ddpm --no-lost --seed 0 --threads 1 --out NAME`, the default without lost
  episodes
- onedp-twentieth-0: `onedp distill pusht-keypoints-ddpm --steps 476 --threads 1 --out NAME`, 5 %
- onedp-half-0 (half-0), -1: `onedp distill pusht-keypoints-ddpm --steps 4800 --seed N --threads 1 --out NAME`, the
  recipe for twice its length, 50.4 %, with lost states
- edm-onedp: `onedp distill pusht-keypoints-edm --threads 1 --out NAME`, the same of the EDM teacher, 29.7 %
- going-on: `onedp distill pusht-keypoints-ddpm --method going-on --steps 1200 --threads 1 --out NAME`
- edm-METHOD-0-DIGEST: rivals at a tenth of the EDM teacher's training in counted passes, one seed: `onedp bench
  pusht-keypoints --methods edm/consistency-policy,edm/consistency-policy@consistency:3,edm/regression-fine,edm/onedp-s
  --budget 0.1 --seeds 1 --episodes 500 --first-seed 100000 --out DIR` (245, 940 and 784 steps)
- edm-fine: `onedp distill pusht-keypoints-edm --method regression-fine --threads 1 --out NAME`
- x0-student: `onedp distill pusht-keypoints-ddpm --method onedp-s --parameterization x0 --steps 1200 --threads 1 --out
  NAME`
- pusht-keypoints-edm-onedp-d: `onedp distill pusht-keypoints-edm --method onedp-d --threads 1 --out NAME`
- pusht-state-ddpm: `onedp train --task pusht-state --data pusht_cchi_v7_replay.zarr.zip --process ddpm --network
  unet-slim --mirror --steps 6000 --lr 6e-4 --threads 1 --out NAME`
- TASK-ddpm, TASK-edm, TASK-onedp-s, TASK-onedp-d and TASK-consistency-policy (of the EDM teacher) of robosuite's tasks
  and metaworld-eight: `python scripts/manipulation_rows.py TASK --workspace ../runs/manipulation`, which holds the
  recipes and runs `onedp collect`, `train`, `distill`, `evaluate`. Demonstrations are scripted, with `--noise 0.5`
  (metaworld-eight and coffee-lid 1). The cost is a ratio of processor times of whole commands
  ([JSON](manipulation-cost.json)): these runs shared the machine with other work, so their wall-clocks and latencies
  say little
- pusht-image-ddpm, pusht-image-onedp-s: `scripts/measure_pusht_image.sh`; processor times of its training (from the
  process list just before its end) and distillation commands
- lift-45, coffee-lid and pnp-milk-move were trained with `--precision no`. In start 100102 of pnp-milk-move, and in
  five of its 500 demonstrations, the carton trembled between a wall and the end of the arm's reach, which it does no
  more: on its path of today all three policies succeed in that start as they did
- visit0: `scripts/measure_visited_states.sh`, on tuning starts
"""
NOT_TIMED = (
    "regression-720",
    "x0-student",
    "onedp-ddpm",
    "edm-fine",
    "s2400-0",
    "s2400-1",
    "s2400-2",
    *(f"lost-{seed}" for seed in range(3)),
    "lost950-0",
    "lost1200-0",
    "edm-onedp",
    "going-on",
    "onedp-half-1",
    "no-lost-0",
    "edm-consistency-policy-0-cf0b74041617",
    "edm-onedp-s-0-1ca2c52e3dd0",
    "edm-regression-fine-0-8301292381e2",
)
"""Students whose distillation shared the machine with other work, while their teachers were timed without: no cost."""

STUDENTS = (
    ("s2400-0", "pusht-keypoints-onedp-s"),
    ("s2400-1", "pusht-keypoints-onedp-s"),
    ("s2400-2", "pusht-keypoints-onedp-s"),
    *((f"lost-{seed}", f"s2400-{seed}") for seed in range(3)),
    ("edm-onedp", "pusht-keypoints-edm-onedp-s"),
    ("regression-720", "onedp-s-600"),
    ("onedp-ddpm", "pusht-keypoints-onedp-s"),
    ("edm-fine", "pusht-keypoints-edm-onedp-s"),
)
"""Students that are compared with another student."""


def reference_of(result: EvaluationResult, results: dict[str, EvaluationResult]) -> EvaluationResult | None:
    """The teacher's reference row: a student's is the EDM one when its name says so, or it is a Consistency Policy."""
    of_edm = "edm" in result.policy or result.policy.endswith("consistency-policy")
    teacher = f"{result.task}-{'edm' if of_edm else 'ddpm'}"
    return results.get(f"{teacher}@{REFERENCES.get(teacher, '')}")


def costs_of_other_machines() -> dict[str, float]:
    """File to cost of students that were distilled on another machine than their teacher (scripts/cost_curve.py)."""
    file = RESULTS / "pusht-keypoints-cost-curve.json"
    if not file.exists():
        return {}
    curve = json.loads(file.read_text())
    return {each["row"]: each["cost"] for each in curve["points"]} | curve["edm_costs"]


def costs_in_processor_time() -> dict[str, float]:
    """Student to the processor time of its distillation over that of its teacher's training, whole commands."""
    kinds = {
        "onedp-s": ("distillation", "training"),
        "onedp-d": ("distillation onedp-d", "training"),
        "consistency-policy": ("distillation consistency-policy", "training edm"),
    }
    return {
        f"{task}-{method}": seconds[kind] / seconds[training]
        for task, seconds in MANIPULATION["processor_seconds"].items()
        for method, (kind, training) in kinds.items()
        if kind in seconds and training in seconds
    }


def row(result: EvaluationResult, reference: EvaluationResult | None, cost: float | None) -> str:
    """One line of the table."""
    cells = [
        result.policy,
        result.sampler,
        str(result.nfe),
        f"{result.episodes:,}",
        f"{result.score_mean:.3f} [{result.score_ci95[0]:.3f}, {result.score_ci95[1]:.3f}]",
        f"{result.success_rate:.3f} [{result.success_ci95[0]:.3f}, {result.success_ci95[1]:.3f}]",
    ]
    if reference is None or reference.label == result.label:
        cells += ["reference" if reference else "", ""]
    else:
        pair = PairedDifference.of(result, reference, common_only=True)
        for value, (low, high) in (
            (pair.score_difference, pair.score_ci95),
            (pair.success_difference, pair.success_ci95),
        ):
            cells.append(f"{value:+.3f} [{low:+.3f}, {high:+.3f}]")
    cells.append(f"{result.latency_ms_p50:.2f} / {result.latency_ms_p95:.2f}")
    cells.append("" if cost is None else f"{cost:.1%}")
    return "| " + " | ".join(cells) + " |"


def by_kind(task: str, folder: str, what: str, kinds: Sequence[str], kind_of: Callable[[int], int]) -> str:
    """Successes of a task's kinds of starts apart; ``kind_of`` says which one a seed has, ``what`` what they are."""
    loaded = [load_results(path) for path in sorted((RESULTS / folder).glob(f"{task}-*.json"))]
    lines = [f"\n## {task}, success by {what}\n\n| policy | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 1)}\n"]
    for result in loaded:
        assert isinstance(result, EvaluationResult)
        rates = []
        for index in range(len(kinds)):
            rows = [row.success for row in result.per_episode if kind_of(row.seed) == index]
            rates.append(f"{sum(rows)} of {len(rows)}")
        lines.append(f"| {result.policy} | {' | '.join(rates)} |\n")
    return "".join(lines)


def ways() -> str:
    """Success and the ways of demonstrations, teachers and students in tasks that have two."""
    header = "| | success | episodes of each way | share of the left one | entropy of left or not [bit] |"
    lines = [f"\n## Tasks with two ways\n\n{header}\n|---|---|---|---|---|\n"]
    for task, counts in MANIPULATION["ways_of_demonstrations"].items():
        lines.append(f"| {task}, demonstrations | | {_counts(counts)} | {_left(counts)} |\n")
        for path in sorted((RESULTS / "robosuite").glob(f"{task}-*.json")):
            result = load_results(path)
            assert isinstance(result, EvaluationResult)
            low, high = result.success_ci95
            success = f"{result.success_rate:.3f} [{low:.3f}, {high:.3f}]"
            lines.append(f"| {result.label} | {success} | {_counts(result.ways)} | {_left(result.ways)} |\n")
    lines.append("\nEpisodes that went no way, or none clearly, are not counted among the ways.\n")
    return "".join(lines)


def _left(ways: Mapping[str, int]) -> str:
    """Two cells: share of the episodes with a way that went left, and its entropy, with intervals."""
    left, total = ways.get("left", 0), sum(ways.values())
    if not total:
        return " | "
    low, high = wilson_interval(left, total)
    entropy = binary_entropy(left, total)
    return f"{left / total:.2f} [{low:.2f}, {high:.2f}] | {entropy.value:.2f} [{entropy.low:.2f}, {entropy.high:.2f}]"


def _counts(ways: Mapping[str, int]) -> str:
    return ", ".join(f"{way} {count}" for way, count in ways.items())


def hardware_of(results: Iterable[EvaluationResult]) -> str:
    """Where most of them were measured, and which ones elsewhere."""
    machines: dict[str, list[str]] = {}
    for result in results:
        machine = f"{result.hardware['cpu']}, {result.hardware['cores']} cores"
        machines.setdefault(machine, []).append(result.policy)
    (first, _), *others = sorted(machines.items(), key=lambda item: -len(item[1]))
    return "; ".join([first, *(f"{name}: {', '.join(sorted(set(policies)))}" for name, policies in others)])


def main() -> None:
    """Write one table a task, and the commands."""
    text = [
        "# Measured results\n\nMade by `scripts/results_table.py` from the JSON files beside it. Score: best reward of "
        "an episode, averaged; success: coverage > 0.95 in Push-T, the task's own elsewhere. Intervals are 95 % (BCa "
        "bootstrap, Wilson); differences are paired by start against the reference of the same teacher. Latency: one "
        "chunk, batch 1, one thread. Cost: wall-clock of distillation over that of the teacher's training, for "
        "robosuite, Meta-World and pusht-image processor time.\n"
    ]
    text.append(MADE_BY)
    measured, processor = costs_of_other_machines(), costs_in_processor_time()
    # those of `onedp bench` and scripts/short_budgets.py have tables of their own
    folders = (path for path in RESULTS.iterdir() if path.is_dir() and not (path / "table.md").exists())
    # those of charged time are benchmarks/latency_grid.py's
    folders = (path for path in folders if not path.name.startswith("realtime"))
    for folder in sorted(folders):
        loaded = {path: load_results(path) for path in sorted(folder.glob("*.json"))}
        rows = {path: result for path, result in loaded.items() if isinstance(result, EvaluationResult)}
        results = {result.label: result for result in rows.values()}
        if not rows:
            continue
        text.append(f"\n## {folder.name}\n\nHardware: {hardware_of(rows.values())}.\n\n")
        text.append(
            "| policy | sampler | passes | starts | score | success | score - reference | success - reference "
            "| latency p50 / p95 [ms] | cost |\n|---|---|---|---|---|---|---|---|---|---|\n"
        )
        for path, result in rows.items():
            cost = None
            if result.policy not in (*NOT_TIMED, *REFERENCES):  # a teacher, however sampled, was not distilled
                cost = measured.get(str(path.relative_to(RESULTS.parent)), result.distillation_cost)
                cost = processor.get(result.policy, cost)
            text.append(row(result, reference_of(result, results), cost) + "\n")
        text.append("\n" + "".join(f"- `{result.command}`\n" for result in rows.values()))
    text.append(by_kind("metaworld-eight", "metaworld", "task", NAMES, lambda seed: seed % len(NAMES)))
    text.append(by_kind("pnp-anything", "robosuite", "object", KINDS, kind_of))
    text.append(ways())
    text.append("\n## Student against student, Push-T with keypoints, on the starts that both have\n\n")
    text.append("| student | other | starts | score | success |\n|---|---|---|---|---|\n")
    for names in STUDENTS:
        ours, theirs = (load_results(RESULTS / "pusht-keypoints" / f"{name}-own.json") for name in names)
        assert isinstance(ours, EvaluationResult)
        assert isinstance(theirs, EvaluationResult)
        pair = PairedDifference.of(ours, theirs, common_only=True)
        intervals = ((pair.score_difference, pair.score_ci95), (pair.success_difference, pair.success_ci95))
        shown = " | ".join(f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" for value, (low, high) in intervals)
        text.append(f"| {names[0]} | {names[1]} | {pair.episodes} | {shown} |\n")
    write_text(RESULTS / "README.md", "".join(text))


if __name__ == "__main__":
    main()
