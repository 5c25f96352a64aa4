"""``onedp collect``: demonstrations of a task by its scripted expert."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from onedp.errors import OneDPError


@dataclass(frozen=True)
class Collect:
    """Make demonstrations with a task's scripted expert (a program, no people), in robomimic's HDF5 layout."""

    task: tyro.conf.Positional[str]
    """Task with a scripted expert, e.g. lift, can, square, pusht-keypoints, metaworld-push."""
    episodes: int = 200
    """Successful episodes to keep; starts on which the expert fails are left out."""
    out: Path | None = None
    """File to write, e.g. lift.hdf5."""
    seed: int = 0
    """Seed of the first start, below the test starts (100000 and up)."""
    noise: float = 1.0
    """Factor on the noise that is executed and not recorded, so that the recording shows corrections; 0: none."""
    workers: int | None = None
    """Worker processes; default: one per core. The file does not depend on it."""

    def run(self) -> None:
        """Collect, write and say what came of it."""
        if self.out is None:
            raise OneDPError(f"collect needs --out, for example: onedp collect {self.task} --out {self.task}.hdf5")
        from tqdm import tqdm

        from onedp.collect.experts import get_expert
        from onedp.collect.run import LABEL, CollectRequest, collect
        from onedp.tasks.ways import describe_ways

        request = CollectRequest(
            self.task, self.episodes, self.out, seed=self.seed, noise=self.noise, workers=self.workers
        )
        print(f"{self.task}, {LABEL}\nThe expert {get_expert(self.task).description}.")
        with tqdm(total=self.episodes, unit="episode", disable=None) as bar:

            def progress(kept: int, attempts: int) -> None:
                bar.update(kept - bar.n)
                bar.set_postfix_str(f"{attempts} starts tried")

            summary = collect(request, progress)
        ways = f"Ways: {describe_ways(summary.ways)}\n" if summary.ways else ""
        print(
            f"{summary.kept} successful episodes of {summary.attempts} starts ({summary.success_rate:.0%}), "
            f"{summary.steps:,} steps, in {self.out}\n{ways}Next: onedp train --task {self.task} --data {self.out} "
            "--out runs/teacher"
        )
