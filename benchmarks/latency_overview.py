"""Every task on one page: what each policy has in a frozen world, with the paper's latency, and how much it can bear.

    python benchmarks/latency_overview.py

Reads the cells below results/realtime*, and writes results/realtime-tasks.md and results/realtime-tasks.png.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from latency_tables import charged_s, how_of, latency_budget, read_cells
from matplotlib.figure import Figure

from onedp.evaluate.results import EvaluationResult
from onedp.files import replaced_file

RESULTS = Path(__file__).resolve().parents[1] / "results"
POLICIES = (  # title, end of the policy's name, sampler, the paper's latency in seconds
    ("DDPM-100", "ddpm", "ddpm:100", 0.669),
    ("DDIM-10", "ddpm", "ddim:10", 0.075),
    ("Consistency Policy, 3 passes", "consistency-policy", "consistency:3", 0.0288),
    ("Consistency Policy, 1 pass", "consistency-policy", "consistency:1", 0.016),
    ("OneDP-S", "onedp-s", "one-step", 0.016),
    ("OneDP-D", "onedp-d", "one-step", 0.016),
)
HEADER = """# Success with each policy's own latency, task by task

Made by `benchmarks/latency_overview.py` from the cells of the grids beside it. Each policy under `sync` (it holds still
while it thinks): success in a frozen world, then with the paper's latency (DDPM-100 669 ms, DDIM-10 75, Consistency
Policy 29 and 16, one step 16), which counts as the whole control ticks that it takes. {starts} starts a cell; the grids
have the intervals. In brackets the latency budget: between which two of the measured latencies, as ticks, less than 95
% of the success in a frozen world is left (">=": no longer one was measured). With 50 starts a policy that loses
nothing may miss the 95 % by chance. `-`: not measured, or less than 0.2 to lose. All cells of the grids took
{hours:.1f} hours of wall clock, most of them with one worker beside other work.
"""


@dataclass(frozen=True)
class Standing:
    """One policy in one task."""

    frozen: EvaluationResult
    charged: EvaluationResult
    rows: tuple[EvaluationResult, ...]
    """All of its cells under sync."""

    @property
    def text(self) -> str:
        """``frozen -> charged (budget)``."""
        success = f"{self.frozen.success_rate:.2f} -> {self.charged.success_rate:.2f}"
        budget = latency_budget(self.rows)
        return f"{success} ({'-' if budget is None else budget.text})"


def standings(cells: Iterable[EvaluationResult]) -> dict[str, dict[str, Standing]]:
    """By task and title of the policy, those whose frozen cell and cell at the paper's latency are both there.

    Cells under sync with fresh noise; of cells with equally many ticks the worst.
    """
    found: dict[tuple[str, str], list[EvaluationResult]] = {}
    for row in cells:
        title = _title(row)
        if title is not None and how_of(row) == "sync":
            found.setdefault((row.task, title), []).append(row)
    latency_of = {title: latency for title, _, _, latency in POLICIES}
    standing: dict[str, dict[str, Standing]] = {}
    for (task, title), rows in found.items():
        frozen = [row for row in rows if charged_s(row) == 0]
        charged = [row for row in rows if _is_charged(row, latency_of[title])]
        if frozen and charged:
            worst = (min(each, key=lambda row: row.success_rate) for each in (frozen, charged))
            standing.setdefault(task, {})[title] = Standing(*worst, tuple(rows))
    return standing


def _title(row: EvaluationResult) -> str | None:
    for title, name, sampler, _ in POLICIES:
        if (row.policy == name or row.policy.endswith("-" + name)) and row.sampler.startswith(sampler):
            return title
    return None


def _is_charged(row: EvaluationResult, latency_s: float) -> bool:
    """Whether the row's ticks are those of this latency at the task's rate."""
    assert row.timing is not None
    ticks = -(-latency_s * row.timing.control_hz // 1)
    return math.isfinite(charged_s(row)) and round(charged_s(row) * row.timing.control_hz, 6) == ticks


def page(standing: Mapping[str, Mapping[str, Standing]], hours: float) -> str:
    """Markdown: a row a task, a column a policy. ``hours``: of wall clock, of all cells of the grids."""
    titles = [title for title, *_ in POLICIES]
    starts = sorted({each.frozen.episodes for row in standing.values() for each in row.values()})
    lines = [
        HEADER.format(starts=" or ".join(map(str, starts)), hours=hours),
        f"| task | {' | '.join(titles)} |",
        "|---|" + "---|" * len(titles),
    ]
    for task, row in sorted(standing.items()):
        cells = (row[title].text if title in row else "-" for title in titles)
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(
        [*lines, "", "![Success in a frozen world and with each policy's own latency](realtime-tasks.png)", ""]
    )


def draw(standing: Mapping[str, Mapping[str, Standing]], path: Path) -> None:
    """A panel a task: an open circle for the frozen world, a full one for the policy's own latency, a line between."""
    columns = 4
    rows = -(-len(standing) // columns)
    figure = Figure(figsize=(3.4 * columns, 1.9 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    titles = [title for title, *_ in POLICIES][::-1]
    for axes, (task, row) in zip(panels[: len(standing)], sorted(standing.items()), strict=True):
        for place, title in enumerate(titles):
            if title in row:
                before, after = row[title].frozen.success_rate, row[title].charged.success_rate
                colour = "#c2571a" if after < 0.95 * before else "#1b6ca8"
                axes.plot([before, after], [place, place], color=colour, linewidth=2)
                axes.plot(before, place, "o", markerfacecolor="white", color=colour)
                axes.plot(after, place, "o", color=colour)
        axes.set_title(task, fontsize=10)
        axes.set_yticks(range(len(titles)), titles, fontsize=8)
        axes.set_xlim(-0.03, 1.03)
        axes.grid(axis="x", alpha=0.3)
    for axes in panels[max(0, len(standing) - columns) : len(standing)]:
        axes.tick_params(labelbottom=True)  # also where no panel stands below
    for axes in panels[len(standing) :]:
        axes.set_visible(False)
    figure.supxlabel(
        "success: open in a frozen world, full with its own latency; red where less than 95 % is kept", fontsize=9
    )
    with replaced_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def main(results: Path) -> None:
    """Write the page and its picture into the folder that holds the grids."""
    cells = [row for folder in sorted(results.glob("realtime*/")) for row in read_cells(folder)]
    standing = standings(cells)
    with replaced_file(results / "realtime-tasks.md") as temporary:
        temporary.write_text(page(standing, sum(row.wall_clock_s for row in cells) / 3600))
    draw(standing, results / "realtime-tasks.png")


if __name__ == "__main__":
    main(RESULTS)
