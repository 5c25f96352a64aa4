"""Error of one-step students at every step of a chunk, to the teacher's exact solution from the same noise.

    python scripts/error_by_step.py pusht-keypoints-onedp-s

On 256 held-out observations of Push-T, for students of the shipped DDPM teacher; writes results/error-by-step.json.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from onedp.bench.heldout_numbers import EXACT_SAMPLERS, Sampling, exact_solution
from onedp.evaluate.heldout_data import load_heldout
from onedp.files import write_json
from onedp.machine import command_line
from onedp.policy import load_policy
from onedp.shipped import shipped_observations
from onedp.tasks import get_task
from onedp.threads import one_thread

TASK, TEACHER = "pusht-keypoints", "pusht-keypoints-ddpm"
OUT = Path(__file__).resolve().parents[1] / "results" / "error-by-step.json"
OBSERVATIONS = 256


def main(students: tyro.conf.Positional[tuple[str, ...]]) -> None:
    """Root mean squares over observations, normalised units."""
    teacher = load_policy(TEACHER)
    obs = load_heldout(shipped_observations(TEACHER), get_task(TASK), teacher.spec, OBSERVATIONS, 0).now
    errors = {}
    for name in students:
        with one_thread():
            sampling = Sampling.of(load_policy(name), obs, seed=0)
        squared = (sampling.chunk - exact_solution(teacher, obs, sampling)).square().mean(dim=(0, 2))
        errors[Path(name).name] = [round(float(each), 5) for each in squared.sqrt()]
    executed = list(teacher.spec.executed_steps)
    facts = {"observations": OBSERVATIONS, "solver": EXACT_SAMPLERS["ddpm"], "executed_steps": executed}
    write_json(OUT, {"command": command_line(), **facts, "root_mean_square_by_step": errors})


if __name__ == "__main__":
    tyro.cli(main)
