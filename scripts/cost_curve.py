"""Quality of one-step students against what their distillation cost, from measured rows; table, JSON and plot.

    onedp train --task pusht-keypoints --data DATA --process ddpm --network unet --mirror --steps 40 --lr 6e-4 \
        --threads 1 --out runs/teacher-timing
    onedp train --task pusht-keypoints --data DATA --process edm --network unet-slim --mirror --steps 40 \
        --threads 1 --out runs/edm-timing
    python scripts/cost_curve.py --ddpm-timing runs/teacher-timing --edm-timing runs/edm-timing

Cost is a ratio of wall-clocks on one machine. Students distilled on another machine than the shipped teacher are
divided by the teacher's training as timed there: seconds a step of a short run times the teacher's steps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro
from matplotlib.figure import Figure

from onedp.artifact import read_manifest, resolve_artifact
from onedp.evaluate.comparison import PairedDifference, load_results
from onedp.evaluate.results import EvaluationResult
from onedp.files import replaced_file, write_json
from onedp.machine import command_line

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "results/pusht-keypoints"
REFERENCE = "pusht-keypoints-ddpm-ddim10"
UNDISTILLED = "pusht-keypoints-ddpm-one-step"
SHIPPED = "pusht-keypoints-onedp-s-own"


@dataclass(frozen=True)
class Options:
    """Where the timing run is, and where to write."""

    ddpm_timing: Path
    """Short training run with the DDPM teacher's options, on the machine that distilled ``students``."""
    edm_timing: Path
    """The same with the EDM teacher's."""
    students: tuple[str, ...] = ("onedp-s-150-own", "onedp-s-300-own", "onedp-s-600-own")
    """Students of the DDPM teacher in results/pusht-keypoints that were distilled on that machine."""
    edm_students: tuple[str, ...] = ("pusht-keypoints-edm-onedp-d-own",)
    """Students of the EDM teacher that were; only their cost is written."""
    json: Path = ROOT / "results/pusht-keypoints-cost-curve.json"
    plot: Path = ROOT / "docs/pusht-cost.png"


def load(name: str) -> EvaluationResult:
    """A row of ``results/pusht-keypoints``."""
    result = load_results(ROWS / f"{name}.json")
    assert isinstance(result, EvaluationResult)
    return result


def teacher_seconds_here(teacher: str, timing: Path) -> float:
    """The shipped teacher's training, at the seconds a step of the timing run."""
    steps = read_manifest(resolve_artifact(teacher)).provenance["run"]["loop"]["steps"]
    run = json.loads((timing / "policy/provenance.json").read_text())
    return run["training_seconds"] / run["run"]["loop"]["steps"] * steps


def point(name: str, cost: float, reference: EvaluationResult) -> dict[str, object]:
    """One point of the curve: the student's rates and its paired differences to the teacher's DDIM-10."""
    result = load(name)
    pair = PairedDifference.of(result, reference, common_only=True)
    return {
        "row": f"results/pusht-keypoints/{name}.json",
        "cost": round(cost, 4),
        "episodes": result.episodes,
        "score": result.score_mean,
        "score_difference": pair.score_difference,
        "score_difference_ci95": list(pair.score_ci95),
        "success": result.success_rate,
        "success_difference": pair.success_difference,
        "success_difference_ci95": list(pair.success_ci95),
    }


def draw(points: list[dict], reference: EvaluationResult, path: Path) -> None:
    """Score and success over cost, with the teacher as a line."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, name, level in zip(
        figure.subplots(1, 2), ("score", "success"), (reference.score_mean, reference.success_rate), strict=True
    ):
        costs = [100 * each["cost"] for each in points]
        values = [each[name] for each in points]
        margins = [
            [each[f"{name}_difference"] - each[f"{name}_difference_ci95"][0] for each in points],
            [each[f"{name}_difference_ci95"][1] - each[f"{name}_difference"] for each in points],
        ]
        axes.axhline(level, color="#444444", linewidth=1)
        axes.text(min(costs), level, "teacher, 10 passes", ha="left", va="bottom", fontsize=8, color="#444444")
        axes.errorbar(costs, values, yerr=margins, marker="o", color="#c2410c")
        axes.set_xlabel("distillation / teacher's training [%]")
        axes.set_ylabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    with replaced_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def main(options: Options) -> None:
    """Collect, write, draw."""
    reference = load(REFERENCE)
    teacher_seconds = teacher_seconds_here("pusht-keypoints-ddpm", options.ddpm_timing)
    edm_seconds = teacher_seconds_here("pusht-keypoints-edm", options.edm_timing)
    points = [point(UNDISTILLED, 0.0, reference)]
    for name in options.students:
        points.append(point(name, (load(name).training_seconds or 0.0) / teacher_seconds, reference))
    points.append(point(SHIPPED, load(SHIPPED).distillation_cost or 0.0, reference))
    for each in points:
        print(each)
    write_json(
        options.json,
        {
            "command": command_line(),
            "teacher_seconds_on_the_students_machine": {"ddpm": round(teacher_seconds), "edm": round(edm_seconds)},
            "difference": "paired by start with pusht-keypoints-ddpm ddim:10; 95 % intervals",
            "points": points,
            "edm_costs": {
                f"results/pusht-keypoints/{name}.json": round((load(name).training_seconds or 0.0) / edm_seconds, 4)
                for name in options.edm_students
            },
        },
    )
    draw(points, reference, options.plot)


if __name__ == "__main__":
    main(tyro.cli(Options))
