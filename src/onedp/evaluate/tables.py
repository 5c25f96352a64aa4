"""A comparison as a table: for Markdown, for the terminal, and as the formatted cells the HTML report uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from onedp.evaluate.comparison import Comparison
from onedp.evaluate.results import EvaluationResult
from onedp.tasks.ways import describe_ways

COLUMNS = {
    "policy": "Policy",
    "sampler": "Sampler",
    "passes": "Passes",
    "score": "Score",
    "success": "Success",
    "score_difference": "Score − ref.",
    "success_difference": "Success − ref.",
    "latency": "Latency p50/p95 [ms]",
    "speed_up": "Speed-up ref./slowest",
    "rate": "Chunks [Hz]",
}


@dataclass(frozen=True)
class Row:
    """One policy of a comparison, every number formatted; an interval is on the second line of its cell."""

    label: str
    name: str
    """Policy and sampler, shortened as far as the rows stay different."""
    is_reference: bool
    policy: str
    sampler: str
    passes: str
    episodes: int
    score: tuple[str, str]
    success: tuple[str, str]
    score_difference: tuple[str, str]
    success_difference: tuple[str, str]
    latency: str
    speed_up: str
    rate: str


def comparison_rows(comparison: Comparison) -> list[Row]:
    """One row per result, in order."""
    names = short_names(comparison)
    reference = comparison.result(comparison.reference)
    slowest = max(result.latency_ms_p50 for result in comparison.results)
    rows = []
    for result in comparison.results:
        pair = comparison.pair(result.label)
        none = ("reference", "")
        rows.append(
            Row(
                label=result.label,
                name=names[result.label],
                is_reference=pair is None,
                policy=short_policy(result),
                sampler=result.how,
                passes=_passes(result),
                episodes=result.episodes,
                score=(f"{result.score_mean:.3f}", interval(result.score_ci95)),
                success=(f"{result.success_rate:.3f}", interval(result.success_ci95)),
                score_difference=(signed(pair.score_difference), signed_interval(pair.score_ci95)) if pair else none,
                success_difference=(signed(pair.success_difference), signed_interval(pair.success_ci95))
                if pair
                else none,
                latency=f"{three_digits(result.latency_ms_p50)} / {three_digits(result.latency_ms_p95)}",
                speed_up=f"{_times(reference, result)} / {three_digits(slowest / result.latency_ms_p50)}×",
                rate=three_digits(result.chunks_per_s),
            )
        )
    return rows


def markdown_table(comparison: Comparison) -> str:
    """The comparison as a Markdown table with the definition of its columns below."""
    rows = comparison_rows(comparison)
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    for row in rows:
        cells = [_one_line(getattr(row, column)) for column in COLUMNS]
        if row.is_reference:
            cells[0] = f"**{cells[0]}**"
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", caption(comparison), ""])


def terminal_table(comparison: Comparison) -> Group:
    """The comparison for ``rich.print``, quality above speed, 80 columns wide.

    The reference is bold; a difference whose interval excludes 0 is green or red.
    """
    quality = _terminal(f"{comparison.task}: quality", "Passes", "Score", "Success", "Δ score", "Δ success")
    speed = _terminal("speed of one chunk", "ms p50", "ms p95", "Chunks/s", "× reference", "× slowest")
    for row in comparison_rows(comparison):
        pair = comparison.pair(row.label)
        name = Text(f"{row.policy}\n{row.sampler}")
        differences = [_two_lines(row.score_difference), _two_lines(row.success_difference)]
        if pair:
            differences[0].stylize(_colour(pair.score_ci95))
            differences[1].stylize(_colour(pair.success_ci95))
        style = "bold" if row.is_reference else ""
        quality.add_row(name, row.passes, _two_lines(row.score), _two_lines(row.success), *differences, style=style)
        timing = [*row.latency.split(" / "), row.rate, *row.speed_up.split(" / ")]
        speed.add_row(Text(f"{row.policy} {row.sampler}"), *timing, style=style)
    return Group(quality, speed, Text(caption(comparison), style="dim"))


def _terminal(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.padding = (0, 1, 0, 0)
    table.add_column("Policy", overflow="fold", min_width=8)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def caption(comparison: Comparison) -> str:
    """What the numbers of the table are, in a few sentences."""
    counts = sorted({result.episodes for result in comparison.results})
    starts = " or ".join(f"{n:,}" for n in counts)
    first = min(result.first_seed for result in comparison.results)
    return (
        f"{starts} starts from seed {first}. Intervals are at 95 %: BCa bootstrap for scores and paired differences, "
        f"Wilson for success. Differences are to the reference, {short_names(comparison)[comparison.reference]}. "
        f"Passes are network passes per chunk; latency is one chunk, batch 1.{_ways(comparison)}"
    )


def _ways(comparison: Comparison) -> str:
    """In tasks with several ways, how often each policy went each of them."""
    names = short_names(comparison)
    parts = [f"{names[each.label]}: {describe_ways(each.ways)}" for each in comparison.results if each.ways]
    return f" Ways: {'; '.join(parts)}." if parts else ""


def short_policy(result: EvaluationResult) -> str:
    """Name of the policy without its folder and without the task in front."""
    name = PurePath(result.policy).name or result.policy
    return name.removeprefix(f"{result.task}-") or name


def short_names(comparison: Comparison) -> dict[str, str]:
    """Label to a short name of policy and sampler; the whole label where two would be the same."""
    short = {result.label: f"{short_policy(result)} {result.how}" for result in comparison.results}
    names = list(short.values())
    return {label: name if names.count(name) == 1 else label for label, name in short.items()}


def interval(ends: tuple[float, float]) -> str:
    """``[0.960, 0.980]``."""
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def signed(value: float) -> str:
    """``+0.004``, ``−0.012``; ``0.000`` without a sign when it rounds to nothing."""
    text = f"{abs(value):.3f}"
    return text if float(text) == 0 else f"{'−' if value < 0 else '+'}{text}"


def signed_interval(ends: tuple[float, float]) -> str:
    """``[−0.012, +0.004]``."""
    return f"[{signed(ends[0])}, {signed(ends[1])}]"


def three_digits(value: float) -> str:
    """Three significant digits, without an exponent: ``1.62``, ``15.1``, ``148``, ``12,346``."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3g}"


def _passes(result: EvaluationResult) -> str:
    """Declared passes, and the counted ones when they contradict."""
    counted = result.passes_counted
    return str(result.nfe) if counted in (None, result.nfe) else f"{result.nfe} (counted {counted})"


def _times(reference: EvaluationResult, result: EvaluationResult) -> str:
    return f"{three_digits(reference.latency_ms_p50 / result.latency_ms_p50)}×"


def _one_line(cell: str | tuple[str, str]) -> str:
    return cell if isinstance(cell, str) else " ".join(part for part in cell if part)


def _two_lines(cell: tuple[str, str]) -> Text:
    """Number above its interval, the interval in its narrowest form: ``0.960…0.980``."""
    return Text("\n".join(part.strip("[]").replace(", ", "…") for part in cell if part))


def _colour(ends: tuple[float, float]) -> str:
    return "red" if ends[1] < 0 else "green" if ends[0] > 0 else ""
