"""Draw which way demonstrations, teachers and students go in the tasks that have two: docs/ways.png.

python scripts/ways_picture.py --out docs/ways.png
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results_table import MANIPULATION, RESULTS

from onedp.evaluate.comparison import load_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.statistics import wilson_interval
from onedp.files import replaced_file

POLICIES = {
    "ddpm-ddim10": "DDPM teacher, 10 passes",
    "onedp-s": "OneDP-S of it, 1 pass",
    "onedp-d": "OneDP-D of it, 1 pass",
    "edm-heun10": "EDM teacher, 19 passes",
    "consistency-policy": "Consistency Policy of it, 1 pass",
}
TEACHERS = ("ddpm-ddim10", "edm-heun10")
DATA, TEACHER, STUDENT = "#444444", "#1d4ed8", "#c2410c"


@dataclass(frozen=True)
class Options:
    """Where to write."""

    out: Path = Path("docs/ways.png")


def draw_share(axes: Axes, row: int, ways: Mapping[str, int], colour: str, success: float | None) -> None:
    """Share of the episodes with a way that went left, with its interval, and how many succeeded."""
    left, total = ways.get("left", 0), sum(ways.values())
    low, high = wilson_interval(left, total)
    axes.plot([low, high], [row, row], color=colour, linewidth=2)
    axes.plot(left / total, row, "o", color=colour, markersize=7)
    if success is not None:
        axes.text(1.02, row, f"{success:.3f}", va="center", fontsize=9, transform=axes.get_yaxis_transform())


def draw_task(axes: Axes, task: str, demonstrations: Mapping[str, int]) -> None:
    """One row for the demonstrations and one for each policy, from the top."""
    draw_share(axes, 0, demonstrations, DATA, None)
    for row, name in enumerate(POLICIES, start=1):
        result = load_results(RESULTS / "robosuite" / f"{task}-{name}.json")
        assert isinstance(result, EvaluationResult)
        draw_share(axes, row, result.ways, TEACHER if name in TEACHERS else STUDENT, result.success_rate)
    share = demonstrations["left"] / sum(demonstrations.values())
    axes.axvline(share, color="#bbbbbb", linewidth=1, zorder=0)
    axes.set_title(task, loc="left", fontsize=11)
    axes.text(1.02, -0.75, "success", fontsize=9, transform=axes.get_yaxis_transform())
    axes.set_xlim(-0.03, 0.8)
    axes.set_ylim(len(POLICIES) + 0.6, -0.6)
    axes.set_xlabel("share of the episodes with a way that went left")
    axes.set_yticks(range(len(POLICIES) + 1), ["demonstrations", *POLICIES.values()])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def main(options: Options) -> None:
    """Draw and write."""
    tasks = MANIPULATION["ways_of_demonstrations"]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, len(tasks), sharey=True, gridspec_kw={"wspace": 0.12})
    for axes, (task, counts) in zip(panels, tasks.items(), strict=True):
        draw_task(axes, task, counts)
    with replaced_file(options.out) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
