"""``onedp bench``: every method at the same table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from onedp.bench.contestants import Contestant
from onedp.bench.frame import Lab
from onedp.errors import OneDPError

SIMULATED = (
    *("teacher_ddpm", "teacher_edm", "teacher_flow", "data", "lost", "demonstrations"),
    *("episodes", "first_seed", "workers", "ray"),
)
"""Options that the synthetic task has no use for."""


@dataclass(frozen=True)
class Bench:
    """Train and examine methods on one task, and write table.md, results.json, plots/ and report.html.

    What is finished is found again: the same command continues where it was stopped.
    """

    task: tyro.conf.Positional[Literal["two-modes", "pusht-keypoints"]]
    """two-modes: a synthetic distribution that is known exactly, no simulator, minutes; pusht-keypoints: the shipped
    teachers, students distilled here, all on the same starts."""
    methods: tuple[str, ...] = ()
    """Methods (onedp, onedp-s:paper, edm/onedp, flow/onedp, METHOD+NETWORK with a network of its own, METHOD@SAMPLER)
    and samplers of the teacher (ddim:10, heun:18, euler:10), separated by commas or spaces."""
    budget: tuple[float, ...] = (0.1,)
    """Shares of the teacher's training that a distillation may cost, in counted network passes; a row for each. Methods
    without a teacher always get the whole of its training."""
    seeds: int = 3
    """Training seeds of every student."""
    out: Path = Path("bench")
    """Folder of results, policies and finished cells."""
    only_finished: bool = False
    """Train and examine nothing: write the table of what is there, of fewer seeds where some are missing."""

    teacher_ddpm: str = "pusht-keypoints-ddpm"
    """pusht-keypoints: the DDPM teacher, a folder or the name of a shipped one."""
    teacher_edm: str = "pusht-keypoints-edm"
    """pusht-keypoints: the EDM teacher."""
    teacher_flow: str | None = None
    """pusht-keypoints: a flow policy as the teacher of flow/METHOD and of euler:10; the package ships none."""
    data: Path | None = None
    """pusht-keypoints: observations to distil on; default: the ones the package ships."""
    lost: bool = True
    """pusht-keypoints: beside the shipped observations those of the episodes that a first student of the DDPM teacher
    lost, as onedp distill has them. --no-lost: without."""
    demonstrations: Path | None = None
    """pusht-keypoints: what methods without a teacher are trained on."""
    episodes: int = 100
    """pusht-keypoints: starts, the same for every policy."""
    first_seed: int = 200_000
    """pusht-keypoints: first start. The default are tuning starts; report numbers on others."""
    workers: int | None = None
    """pusht-keypoints: processes that run episodes, at most one for every 25 of them; default: one per core. The scores
    do not depend on it."""
    ray: str | None = None
    """pusht-keypoints: address of a Ray cluster that runs the episodes, as of onedp evaluate."""

    def run(self) -> None:
        """Run what is missing, write, print."""
        from onedp.bench.contestants import parse_contestants

        contestants = parse_contestants(self.methods)
        if self.seeds < 1 or not self.budget or any(not 0 < share <= 10 for share in self.budget):
            raise OneDPError(
                f"seeds ({self.seeds}) must be at least 1 and every budget above 0 and at most 10, not {self.budget}."
            )
        if self.task == "pusht-keypoints":
            self._check_simulation(contestants)
        elif ignored := [name for name in SIMULATED if getattr(self, name) != getattr(Bench, name)]:
            options = ", ".join(f"--{name.replace('_', '-')}".replace("--lost", "--no-lost") for name in ignored)
            raise OneDPError(
                f"{options}: only of pusht-keypoints; {self.task} trains its own teachers and has no starts."
            )
        from onedp.bench.checks import check_samplers, check_teachers
        from onedp.bench.plan import plan
        from onedp.bench.run import run_bench
        from onedp.files import require_writable

        require_writable(self.out / "results.json")
        lab = self._lab()
        if self.task == "pusht-keypoints" and not self.only_finished:
            check_teachers(contestants, self._teachers(), lab.reference_sampler)
        check_samplers(contestants, lab)
        if not self.only_finished and (text := plan(lab, contestants, self.budget, range(self.seeds))):
            print(text, flush=True)
        rows = run_bench(lab, contestants, self.budget, range(self.seeds), self.out)
        print((self.out / "table.md").read_text())
        print(f"Report: {self.out / 'report.html'}")
        if rows and not any(row.numbers for row in rows):  # a table in which some rows failed is a result
            raise OneDPError(f"No row could be made; the first of them: {rows[0].failure}")

    def _check_simulation(self, contestants: Sequence[Contestant]) -> None:
        """What would only be missed after hours."""
        from onedp.data.hub import PREFIX

        if self.episodes < 1 or (self.workers is not None and self.workers < 1):
            raise OneDPError(f"episodes ({self.episodes}) and workers ({self.workers}) must be at least 1.")
        for option, path in (("data", self.data), ("demonstrations", self.demonstrations)):
            if path is not None and not str(path).startswith(PREFIX) and not path.exists():
                raise OneDPError(f"--{option} {path} does not exist. Give the folder or file of a data set.")
        alone = [each.text for each in contestants if not each.needs_teacher]
        if alone and self.demonstrations is None and not self.only_finished:
            raise OneDPError(f"{', '.join(alone)} must be trained on demonstrations. Give them with --demonstrations.")

    def _teachers(self) -> dict[str, str]:
        named = {"ddpm": self.teacher_ddpm, "edm": self.teacher_edm, "flow": self.teacher_flow}
        return {process: teacher for process, teacher in named.items() if teacher is not None}

    def _lab(self) -> Lab:
        if self.task == "two-modes":
            from onedp.bench.two_modes_lab import TwoModesLab

            return TwoModesLab(self.out, make_missing=not self.only_finished)
        from onedp.bench.pusht_lab import PushTLab
        from onedp.bench.pusht_options import PushTOptions
        from onedp.cli.console import tell_of_idle_workers

        tell_of_idle_workers(self.episodes, self.workers)
        options = PushTOptions(
            teachers=self._teachers(),
            observations=self.data,
            lost=self.lost,
            demonstrations=self.demonstrations,
            episodes=self.episodes,
            first_seed=self.first_seed,
            workers=self.workers,
            ray=self.ray,
        )
        return PushTLab(self.task, self.out, options, make_missing=not self.only_finished)
