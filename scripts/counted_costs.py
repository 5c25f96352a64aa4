"""What each distillation's preset costs in counted network passes, as a share of the shipped teacher's training.

    python scripts/counted_costs.py

Counted as ``onedp bench`` counts its budgets: a pass forward is 1, with its backward pass 3 (2 through frozen weights),
times the weights of the network. So the share is the same on every machine.
"""

from __future__ import annotations

from pathlib import Path

from onedp.artifact import read_manifest, resolve_artifact
from onedp.bench.cost import FORWARD_BACKWARD, probe_cost
from onedp.bench.pusht_cost import builder, placeholder_windows
from onedp.files import write_json
from onedp.machine import command_line
from onedp.methods.config import MethodConfig
from onedp.methods.presets import fitted
from onedp.methods.table import recipe
from onedp.policy import load_policy
from onedp.shipped import shipped_observations
from onedp.train.config import LoopConfig

TASK = "pusht-keypoints"
TEACHERS = {"ddpm": "pusht-keypoints-ddpm", "edm": "pusht-keypoints-edm"}
METHODS = ("onedp", "onedp-s", "onedp-d", "regression-fine")
RESULT = Path(__file__).resolve().parents[1] / "results/counted-costs.json"


def share_of_teacher(process: str, method: str) -> dict[str, object]:
    """One preset: its steps, and its counted cost over that of its teacher's training."""
    folder = resolve_artifact(TEACHERS[process])
    teacher = load_policy(folder)
    trained = read_manifest(folder).provenance["run"]["loop"]
    weights = sum(p.numel() for p in teacher.denoiser.parameters())
    preset = recipe(method, process=process)

    def config_for(steps: int) -> MethodConfig:
        return fitted(preset, steps, weights)

    windows = placeholder_windows(teacher, shipped_observations(TEACHERS[process]), TASK)
    loop = LoopConfig(steps=1000, batch_size=preset.batch_size, threads=1, cpu=True)
    cost = probe_cost(builder(teacher, config_for, needs_teacher=True), windows, loop)
    whole = FORWARD_BACKWARD * trained["batch_size"] * trained["steps"] * weights
    return {
        "teacher": TEACHERS[process],
        "method": method,
        "steps": preset.steps,
        "batch_size": preset.batch_size,
        "share": round(preset.steps * cost["step"] / whole, 4),
        "share_before_the_first_step": round(preset.steps * cost["preparation"] / whole, 4),
    }


def main() -> None:
    """Count, print, write."""
    rows = [share_of_teacher(process, method) for process in TEACHERS for method in METHODS]
    for row in rows:
        print(row)
    write_json(RESULT, {"command": command_line(), "rows": rows})


if __name__ == "__main__":
    main()
