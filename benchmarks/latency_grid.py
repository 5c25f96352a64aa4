"""What latency costs when the world does not wait: policies x latencies x tasks x executors, one file a cell.

    python benchmarks/latency_grid.py --policies pusht-keypoints-onedp-s pusht-keypoints-ddpm@ddim:10 \
        --tasks pusht-drift@speed=0 pusht-drift@speed=4 --latencies 0 0.075 0.669 --executors sync drop-late rtc

Cells that are there already are kept, so a run that was stopped goes on where it was: delete a file to make it again.
``POLICY@SAMPLER:starts=10`` gives a slow policy fewer starts. ``--latencies paper`` charges each policy what its
sampler took on the paper's V100. ``--plot-only`` draws what is there.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from latency_report import report
from latency_tables import read_cells

from onedp.artifact import read_manifest, resolve_artifact
from onedp.errors import ArtifactError, OneDPError
from onedp.evaluate.comparison import load_results, save_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.runner import EvaluationRequest, evaluate
from onedp.tasks import get_task


@dataclass(frozen=True)
class Options:
    """The grid. Rows are made in the order tasks, latencies, executors, policies: the last one varies first."""

    policies: tuple[str, ...] = ("pusht-keypoints-onedp-s",)
    """POLICY, POLICY@SAMPLER, and :starts=N behind either."""
    tasks: tuple[str, ...] = ("pusht-drift@speed=0", "pusht-drift@speed=4", "pusht-reset")
    latencies: tuple[str, ...] = ("paper",)
    """Seconds, paper, measured, or files of recorded latencies."""
    executors: tuple[str, ...] = ("sync",)
    noises: tuple[str, ...] = ("fresh",)
    replan: int | None = None
    """Policy steps between chunks; default: the policy's own."""
    starts: int = 25
    first_seed: int = 100_000
    workers: int = 1
    folder: Path = Path("results/realtime")
    plot_only: bool = False
    """Only table and plots of the cells that are there."""


@dataclass(frozen=True)
class Cell:
    """One evaluation of the grid."""

    request: EvaluationRequest

    @property
    def file(self) -> str:
        """Policy, task, timing and noise; ``main`` refuses two cells with one name."""
        request = self.request
        parts = [request.task, request.policy.rstrip("/").rsplit("/", 1)[-1], request.sampler or "own"]
        parts += [Path(request.latency).stem if "/" in request.latency else request.latency, request.executor]
        if request.replan_steps is not None:
            parts.append(f"replan{request.replan_steps}")
        if request.noise != "fresh":
            parts.append(request.noise)
        name = "--".join(str(part) for part in parts)
        return "".join(c if c.isalnum() or c in ".-=" else "_" for c in name) + ".json"


def cells_of(options: Options) -> list[Cell]:
    """All cells, in the order in which they are made."""
    grid = itertools.product(options.tasks, options.latencies, options.executors, options.noises, options.policies)
    cells = []
    for task, latency, executor, noise, contestant in grid:
        name, _, starts = contestant.partition(":starts=")
        policy, _, sampler = name.partition("@")
        request = EvaluationRequest(
            policy=policy,
            sampler=sampler or None,
            task=task,
            episodes=int(starts or options.starts),
            first_seed=options.first_seed,
            workers=options.workers,
            latency=latency,
            executor=executor,
            replan_steps=options.replan,
            noise=noise,
        )
        cells.append(Cell(request))
    return cells


def refuse_mixed(cells: Sequence[Cell], folder: Path) -> None:
    """Raises ``OneDPError`` for two cells with one file name, or files that are there of other starts or weights."""
    names = [cell.file for cell in cells]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OneDPError(f"Two cells of the grid would both be {twice[0]}. Give policies and latencies other names.")
    for cell in cells:
        path, request = folder / cell.file, cell.request
        there = load_results(path) if path.exists() else None
        if isinstance(there, EvaluationResult) and (there.episodes, there.first_seed) != (
            request.episodes,
            request.first_seed,
        ):
            raise OneDPError(
                f"{path} has {there.episodes} starts from {there.first_seed}, {request.episodes} from "
                f"{request.first_seed} are wanted. Remove it, or choose another --folder."
            )
        if isinstance(there, EvaluationResult) and digest_of(request.policy) not in (None, there.weights_digest):
            raise OneDPError(
                f"{path} is of other weights than {request.policy} has now. Remove it, or choose another --folder."
            )


def digest_of(policy: str) -> str | None:
    """Digest of the policy's weights; None where there is no policy (any more)."""
    try:
        return str(read_manifest(resolve_artifact(policy)).provenance["weights_digest"])
    except ArtifactError:
        return None


def main(options: Options) -> None:
    """Make what is missing, then table and plots of everything in the folder."""
    options.folder.mkdir(parents=True, exist_ok=True)
    cells = [] if options.plot_only else cells_of(options)
    for cell in cells:
        get_task(str(cell.request.task))  # a misspelt one is known before the first hour
    refuse_mixed(cells, options.folder)
    for number, cell in enumerate(cells, start=1):
        path = options.folder / cell.file
        if not path.exists():
            print(f"[{number}/{len(cells)}] {cell.file}", flush=True)
            save_results(path, evaluate(cell.request))
    results = read_cells(options.folder)
    if not results:
        raise OneDPError(f"There is no finished cell in {options.folder}.")
    report(results, options.folder)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except OneDPError as error:
        sys.exit(f"latency_grid: {error}")
