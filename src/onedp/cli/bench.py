"""``onedp bench``: every method at the same table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from onedp.errors import OneDPError


@dataclass(frozen=True)
class Bench:
    """Train and examine methods on one task, and write table.md, results.json and report.html.

    What is finished is found again: the same command continues where it was stopped.
    """

    task: tyro.conf.Positional[Literal["two-modes"]]
    """two-modes: a synthetic distribution that is known exactly; no simulator, minutes."""
    methods: tuple[str, ...] = ()
    """Methods (onedp-s, onedp-s:paper, edm/onedp-s, METHOD@SAMPLER) and samplers of the teacher (ddim:10, heun:18),
    separated by commas or spaces."""
    budget: tuple[float, ...] = (0.1,)
    """Shares of the teacher's training that a distillation may cost, in counted network passes; a row for each."""
    seeds: int = 3
    """Training seeds of every student."""
    out: Path = Path("bench")
    """Folder of results, policies and finished cells."""

    def run(self) -> None:
        """Run what is missing, write, print."""
        from onedp.bench.contestants import parse_contestants

        contestants = parse_contestants(self.methods)
        if self.seeds < 1 or not self.budget or any(not 0 < share <= 10 for share in self.budget):
            raise OneDPError(
                f"seeds ({self.seeds}) must be at least 1 and budgets ({self.budget}) lie between 0 and 10."
            )
        from onedp.bench.run import run_bench
        from onedp.bench.two_modes_lab import TwoModesLab
        from onedp.files import require_writable

        require_writable(self.out / "results.json")
        run_bench(TwoModesLab(self.out), contestants, self.budget, range(self.seeds), self.out)
        print((self.out / "table.md").read_text())
        print(f"Report: {self.out / 'report.html'}")
