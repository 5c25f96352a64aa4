"""``onedp demo``: the main job on what the package ships, offline."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

TEACHER = "pusht-keypoints-ddpm"
SHIPPED_STUDENT = "pusht-keypoints-onedp-s"


@dataclass(frozen=True)
class Demo:
    """Distil the shipped teacher to one step, evaluate before and after on the same starts, write a report."""

    out: Path = Path("demo-out")
    """Folder for the student, table, JSON and report."""
    episodes: int = 50
    """Starts, from seed 100000."""
    steps: int = 200
    """Distillation steps of the student made here; the shipped one had more."""

    def run(self) -> None:
        """Distil, evaluate, report."""
        student = self.out / "student-of-this-demo"
        if student.exists():  # the demo's own, from an earlier or interrupted one
            shutil.rmtree(student)
        from onedp.cli.console import make_console
        from onedp.cli.distill import Distill
        from onedp.evaluate.compare import ComparisonRequest, Contestant, compare, write_comparison
        from onedp.evaluate.tables import terminal_table

        print(f"1/3 distilling {TEACHER} to one network pass, {self.steps} steps")
        Distill(teacher=TEACHER, method="onedp-s", steps=self.steps, out=student).run()
        print(f"2/3 evaluating teacher and students on the same {self.episodes} starts")
        request = ComparisonRequest(
            contestants=(
                Contestant(TEACHER, "ddpm:100"),
                Contestant(TEACHER, "ddim:10"),
                Contestant(str(student), None),
                Contestant(SHIPPED_STUDENT, None),
            ),
            reference=1,
            task=None,
            episodes=self.episodes,
            first_seed=100_000,
        )
        comparison = compare(request)
        print("3/3 recording roll-outs and writing the report")
        subject = comparison.results[2].label  # the student made here, whose diagnostics are shown
        write_comparison(self.out, comparison, request, subject, metrics=student / "metrics.jsonl")
        make_console().print(terminal_table(comparison))
        print(f"Report: {self.out / 'report.html'}")
