"""What a short distillation is best spent on: Push-T's DDPM teacher, one row a lever, at a share of its training.

    python scripts/short_budgets.py --workspace runs/short-budgets --share 0.1 --levers base "batch 64"

Every student has the same counted network passes, preparation included, whatever its batch and pairs; the states that
an earlier student lost are among its observations. Rows are what ``onedp evaluate`` writes, in ``--out``, with a
table.md; what is there already is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from two_modes_levers import Recipe, changed

from onedp.artifact import read_manifest, resolve_artifact
from onedp.bench.cost import FORWARD_BACKWARD, probe_cost
from onedp.bench.pusht_cost import builder, placeholder_windows
from onedp.errors import OneDPError
from onedp.evaluate.comparison import PairedDifference, load_results, save_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.runner import EvaluationRequest, evaluate
from onedp.files import write_text
from onedp.policy import load_policy
from onedp.shipped import shipped_lost, shipped_observations
from onedp.train.config import LoopConfig, StudentRun
from onedp.train.run import distill_student, resume_run

TASK, TEACHER = "pusht-keypoints", "pusht-keypoints-ddpm"
BASE = Recipe(process="ddpm")
ALONE = {"regression_share": 0.99, "warmup_share": 0.0}


def lever(batch: int, pairs: float, rate: float = 1.0, **more: Any) -> Recipe:
    """``pairs``: solutions of the teacher for every 128 windows of a run."""
    return changed(BASE, batch_size=batch, pairs_per_step=pairs * batch / 128, rates={"regression": rate}, **more)


LEVERS = {
    "base": BASE,
    "rate x 0.25": lever(128, 15.4, 0.25),
    "rate x 0.5": lever(128, 15.4, 0.5),
    "rate x 0.5, regression alone": lever(128, 15.4, 0.5, **ALONE),
    "rate x 3": lever(128, 15.4, 3.0),
    "pairs from less noise": lever(128, 15.4, pair_noise_scale=0.75),
    "pairs from less noise, rate x 0.5": lever(128, 15.4, 0.5, pair_noise_scale=0.75),
    "pairs from less noise, rate x 0.5, regression alone": lever(128, 15.4, 0.5, pair_noise_scale=0.75, **ALONE),
    "what is executed, rate x 0.5": lever(128, 15.4, 0.5, unexecuted_weight=0.1),
    "what is executed": lever(128, 15.4, unexecuted_weight=0.1),
    "twice as many pairs": lever(128, 30.8),
    "twice as many pairs, rate x 0.5": lever(128, 30.8, 0.5),
    "three times as many pairs, rate x 0.5": lever(128, 46.2, 0.5),
    "half as many pairs": lever(128, 7.7),
    "half as many pairs, rate x 0.5": lever(128, 7.7, 0.5),
    "half as many pairs, rate x 3": lever(128, 7.7, 3.0),
    "batch 64": lever(64, 15.4),
    "half as many pairs, batch 64": lever(64, 7.7),
    "half as many pairs, batch 64, rate x 0.5": lever(64, 7.7, 0.5),
    "half as many pairs, batch 64, rate x 2": lever(64, 7.7, 2.0),
    "half as many pairs, batch 64, rate x 3": lever(64, 7.7, 3.0),
    "half as many pairs, batch 64, rate x 3, regression alone": lever(64, 7.7, 3.0, **ALONE),
    "half as many pairs, batch 32": lever(32, 7.7),
    "half as many pairs, batch 32, rate x 2": lever(32, 7.7, 2.0),
    "a quarter of the pairs, batch 64": lever(64, 3.85),
}
"""What preset small of OneDP-S does (15.4 pairs for every 128 windows), with these things changed."""


@dataclass(frozen=True)
class Options:
    """Which rows."""

    workspace: Path
    """Folder for the runs."""
    share: float = 0.1
    """Of the teacher's training."""
    levers: tuple[str, ...] = tuple(LEVERS)
    seeds: tuple[int, ...] = (0,)
    """Training seeds."""
    episodes: int = 1000
    first_seed: int = 200_000
    """Tuning starts; test starts are 100000 and up."""
    out: Path = Path("results/short-budgets")


def _file_name(lever: str) -> str:
    return lever.replace(",", "").replace(" ", "-")


def steps_for(recipe: Recipe, share: float) -> int:
    """Steps whose counted passes are this share of the teacher's training."""
    folder = resolve_artifact(TEACHER)
    teacher = load_policy(folder)
    trained = read_manifest(folder).provenance["run"]["loop"]
    weights = sum(p.numel() for p in teacher.denoiser.parameters())
    windows = placeholder_windows(teacher, shipped_observations(TEACHER), TASK)
    loop = LoopConfig(steps=1000, batch_size=recipe.batch_size, threads=1, cpu=True)
    cost = probe_cost(builder(teacher, recipe.config, needs_teacher=True), windows, loop)
    whole = FORWARD_BACKWARD * trained["batch_size"] * trained["steps"] * weights
    return round(share * whole / cost["step"])


def student(name: str, options: Options, seed: int) -> Path:
    """The policy, trained if it is not there."""
    recipe = LEVERS[name]
    run_folder = options.workspace / f"{_file_name(name)}-{options.share:g}-{seed}"
    policy = run_folder / "policy"
    if not policy.exists():
        if run_folder.exists():
            resume_run(run_folder, "StudentRun")
            return policy
        steps = steps_for(recipe, options.share)
        print(f"{name}: {steps} steps of {recipe.batch_size}", flush=True)
        loop = LoopConfig(
            steps=steps,
            batch_size=recipe.batch_size,
            seed=seed,
            threads=1,
            cpu=True,
            diagnose_every=max(50, steps // 5),
            checkpoint_every=500,
        )
        lost = shipped_lost(TEACHER)
        assert lost is not None
        run = StudentRun(TEACHER, shipped_observations(TEACHER), recipe.config(steps), loop, beside=(lost,))
        distill_student(run, run_folder)
    return policy


def table(folder: Path) -> str:
    """Markdown: the rows that are there, and paired differences to ``base`` of the same share, seed and starts."""
    rows = {path.stem: load_results(path) for path in sorted(folder.glob("*.json"))}
    lines = [
        f"Made by `{Path(__file__).name}`. LEVER-SHARE-SEED: share of the teacher's training, seed of the student's. "
        "The student of rate x 0.5 at 0.25 is that of `onedp distill pusht-keypoints-ddpm --regression-lr 3.5e-4`.\n",
        "| student | starts | first | score | success | score - base | success - base |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        assert isinstance(row, EvaluationResult)
        lever = next(each for each in sorted(LEVERS, key=len, reverse=True) if name.startswith(_file_name(each)))
        base = rows.get(name.replace(_file_name(lever), "base", 1))
        differences = ["", ""]
        if isinstance(base, EvaluationResult) and base is not row:
            pair = PairedDifference.of(row, base)
            differences = [
                _estimate(pair.score_difference, pair.score_ci95, "+"),
                _estimate(pair.success_difference, pair.success_ci95, "+"),
            ]
        own = [_estimate(row.score_mean, row.score_ci95), _estimate(row.success_rate, row.success_ci95)]
        student = name.rsplit("-", 2)[0]
        lines.append(f"| {' | '.join([student, str(row.episodes), str(row.first_seed), *own, *differences])} |")
    return "\n".join(lines) + "\n"


def _estimate(value: float, interval: tuple[float, float], sign: str = "") -> str:
    low, high = interval
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def main(options: Options) -> None:
    """Train and evaluate what is missing."""
    unknown = sorted(set(options.levers) - set(LEVERS))
    if unknown:
        raise OneDPError(f"There are no levers {unknown}; there are {sorted(LEVERS)}.")
    for name in options.levers:
        for seed in options.seeds:
            policy = student(name, options, seed)
            row = options.out / f"{policy.parent.name}-{options.first_seed}-{options.episodes}.json"
            if not row.exists():
                request = EvaluationRequest(
                    str(policy), None, TASK, options.episodes, first_seed=options.first_seed, workers=1
                )
                result = evaluate(request)
                save_results(row, result)
                print(f"{name}, seed {seed}: {result.score_mean:.4f}, {result.success_rate:.3f}", flush=True)
    write_text(options.out / "table.md", table(options.out))


if __name__ == "__main__":
    main(tyro.cli(Options))
