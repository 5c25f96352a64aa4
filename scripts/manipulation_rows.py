"""Rows of results/robosuite and results/metaworld: demonstrations, a teacher, its OneDP-S student, test starts of both.

python scripts/manipulation_rows.py lift can square --workspace ../runs/manipulation

What is there already is not made again, so a call that was stopped goes on with the step it was in. Costs are
processor times of whole commands: these runs take hours, and seldom have a machine to themselves. They stand in
results/manipulation-cost.json, with the ways that demonstrations went in tasks that have several.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import tyro

from onedp.errors import OneDPError, unknown_choice
from onedp.files import write_json, write_text

RESULTS = Path(__file__).resolve().parents[1] / "results"
COSTS = RESULTS / "manipulation-cost.json"
TEST_STARTS_FROM = 100_000


@dataclass(frozen=True)
class Recipe:
    """How much of everything a task gets."""

    demonstrations: int
    teacher_steps: int
    student_steps: int
    noise: str = "0.5"
    """Factor on the demonstrations' recovery noise, whose corrections a chunk predicts too."""
    batch_size: int = 256
    lr: str = "1e-3"
    """Peak learning rate of the teacher."""
    pictures: tuple[str, ...] = ()
    """Further options of the teacher's training where it has cameras."""
    students: tuple[str, ...] = ("onedp-s",)
    """Methods of distillation."""
    edm_students: tuple[str, ...] = ()
    """Methods that distil a second teacher, one with EDM's noise levels."""


BOTH = ("onedp-s", "onedp-d")
CONSISTENCY = ("consistency-policy",)
RECIPES = {
    "lift": Recipe(400, 6000, 450),
    "can": Recipe(300, 8000, 450),
    "square": Recipe(500, 12000, 1000),
    "metaworld-eight": Recipe(640, 10000, 800, noise="1"),
    "lift-image": Recipe(
        250, 3600, 320, batch_size=64, lr="6e-4", pictures=("--encoder", "light", "--noise-draws", "4")
    ),
    "lift-45": Recipe(400, 6000, 450, students=BOTH, edm_students=CONSISTENCY),
    "coffee-lid": Recipe(500, 8000, 800, noise="1", students=BOTH, edm_students=CONSISTENCY),
    "pose-reset": Recipe(500, 6000, 450, students=BOTH, edm_students=CONSISTENCY),
    "pnp-milk": Recipe(300, 8000, 450, students=BOTH, edm_students=CONSISTENCY),
    "pnp-milk-move": Recipe(500, 8000, 450, students=BOTH, edm_students=CONSISTENCY),
    "pnp-anything": Recipe(640, 10000, 800, students=BOTH, edm_students=CONSISTENCY),
}
"""Call lift-image with ``--episodes 200``, and MUJOCO_GL=osmesa where there is no display."""


@dataclass(frozen=True)
class Options:
    """What to make, and where."""

    tasks: tyro.conf.Positional[tuple[str, ...]]
    """Tasks that have a recipe here; a wrong name lists them."""
    workspace: Path
    """Folder for demonstrations and runs."""
    episodes: int = 500
    first_seed: int = TEST_STARTS_FROM
    """Seed of the first start; rows of other starts, such as 200000 for tuning, stay in the workspace."""
    workers: int = 1
    processes: tuple[Literal["ddpm", "edm"], ...] = ("ddpm", "edm")
    """Teachers to make, with their students. Those of EDM alone can be added to a task on another kind of machine."""
    precision: Literal["bf16", "no"] = "bf16"
    """Of the networks' passes in training: bf16 is faster on a processor with bf16 units, and slower on one without."""


def processor_seconds(*arguments: str, workspace: Path) -> float:
    """Run ``onedp`` with ``arguments`` in ``workspace``, with one thread; its processor time [s]."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "onedp.cli.main", *arguments]
    done = subprocess.run(command, cwd=workspace, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        raise OneDPError(f"onedp {' '.join(arguments)} failed, see above.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_once(kind: str, out: str, arguments: list[str], workspace: Path) -> None:
    """Train or distil into ``workspace/out`` unless its policy is there; its cost is kept beside it as ``kind``."""
    if (workspace / out / "policy").exists():
        return
    if (workspace / out).exists():
        raise OneDPError(f"{workspace / out} holds a run that was stopped. Remove it: its time would not be whole.")
    seconds = processor_seconds(*arguments, "--threads", "1", "--cpu", "--out", out, workspace=workspace)
    write_json(workspace / f"{out}.cost.json", {kind: round(seconds, 1)})


def note(kind: str, task: str, facts: dict[str, Any]) -> None:
    """Write ``facts`` about ``task`` into results/manipulation-cost.json beside those that are there."""
    about = json.loads(COSTS.read_text()) if COSTS.exists() else {}
    about.setdefault(kind, {}).setdefault(task, {}).update(facts)
    write_json(COSTS, about)


def ways_of(demonstrations: Path) -> dict[str, int]:
    """How many demonstrations went each of the task's ways; empty where there is one."""
    with h5py.File(demonstrations) as file:
        return json.loads(file["data"].attrs["collected"]).get("ways", {})


def publish(row: Path, result: Path) -> bool:
    """Copy ``row`` to ``result`` and say so, unless that has more starts: a trial replaces no measurement."""
    there = json.loads(result.read_text())["episodes"] if result.exists() else 0
    if json.loads(row.read_text())["episodes"] < there:
        print(f"{result} stays as it is: it has {there} starts.")
        return False
    write_text(result, row.read_text())
    return True


def make_teacher(task: str, process: str, students: tuple[str, ...], options: Options) -> None:
    """The policy TASK-PROCESS and its ``students``, TASK-METHOD."""
    recipe, data, teacher = RECIPES[task], f"{task}.hdf5", f"{task}-{process}"
    workspace, precision = options.workspace, ("--mixed-precision", options.precision)
    training = ["train", "--task", task, "--data", data, "--process", process, "--network", "mlp"]
    training += [*precision, *recipe.pictures]
    training += ["--steps", str(recipe.teacher_steps), "--batch-size", str(recipe.batch_size), "--lr", recipe.lr]
    run_once("training" if process == "ddpm" else f"training {process}", teacher, training, workspace)
    for method in students:
        distillation = ["distill", teacher, "--method", method, "--data", data, "--steps", str(recipe.student_steps)]
        kind = "distillation" if method == "onedp-s" else f"distillation {method}"
        run_once(kind, f"{task}-{method}", [*distillation, *precision], workspace)


def make_rows(task: str, contestants: list[tuple[str, str | None]], options: Options) -> None:
    """Evaluate policies, each with a sampler or its own, and publish their rows with the costs of their training."""
    workspace = options.workspace
    rows = workspace / f"rows-{options.first_seed}-{options.episodes}"
    rows.mkdir(exist_ok=True)
    for policy, sampler in contestants:
        name = f"{policy}{'-' + sampler.replace(':', '') if sampler else ''}.json"
        if not (rows / name).exists():
            starts = ["--episodes", str(options.episodes), "--first-seed", str(options.first_seed)]
            starts += ["--workers", str(options.workers), "--json", f"{rows.name}/{name}"]
            chosen = ["--sampler", sampler] if sampler else []
            processor_seconds("evaluate", policy, *chosen, *starts, workspace=workspace)
        if options.first_seed != TEST_STARTS_FROM:
            continue
        result = RESULTS / ("metaworld" if task.startswith("metaworld") else "robosuite") / name
        if publish(rows / name, result) and (cost := workspace / f"{policy}.cost.json").exists():
            note("processor_seconds", task, json.loads(cost.read_text()))


def make(task: str, options: Options) -> None:
    """All steps of one task."""
    recipe, workspace, data = RECIPES[task], options.workspace, f"{task}.hdf5"
    if not (workspace / data).exists():
        collection = ["collect", task, "--episodes", str(recipe.demonstrations), "--noise", recipe.noise]
        processor_seconds(*collection, "--workers", "1", "--out", data, workspace=workspace)
    if options.first_seed == TEST_STARTS_FROM and (ways := ways_of(workspace / data)):
        note("ways_of_demonstrations", task, ways)
    contestants: list[tuple[str, str | None]] = []
    for process, sampler, students in (
        ("ddpm", "ddim:10", recipe.students),
        ("edm", "heun:10", recipe.edm_students),
    ):
        if process in options.processes and students:
            make_teacher(task, process, students, options)
            contestants += [(f"{task}-{process}", sampler), *((f"{task}-{method}", None) for method in students)]
    make_rows(task, contestants, options)


def main() -> None:
    """Make the rows of the tasks that were named."""
    options = tyro.cli(Options)
    for task in options.tasks:
        if task not in RECIPES:
            raise OneDPError(unknown_choice("task", task, RECIPES))
    options.workspace.mkdir(parents=True, exist_ok=True)
    for task in options.tasks:
        make(task, options)


if __name__ == "__main__":
    try:
        main()
    except OneDPError as error:
        sys.exit(f"manipulation_rows: {error}")
