"""One self-contained HTML file about a comparison."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from onedp.evaluate.comparison import Comparison
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.statistics import RESAMPLES
from onedp.evaluate.tables import (
    COLUMNS,
    caption,
    comparison_rows,
    short_names,
    signed,
    signed_interval,
    three_digits,
)
from onedp.files import write_text
from onedp.report import plots
from onedp.report.plots import Curves
from onedp.report.svg import INK, SERIES, series_colour
from onedp.report.verdict import MARGIN, Outcome, Verdict, limits, subjects, verdicts
from onedp.report.video import RolloutClip

Panels = Mapping[str, Curves]
"""Title of a plot to its series."""


def write_report(
    path: Path,
    comparison: Comparison,
    *,
    videos: Sequence[RolloutClip] = (),
    training_curves: Panels | None = None,
    diagnostics: Panels | None = None,
    provenance: Mapping[str, Any] | None = None,
    title: str = "What one-step distillation kept, and what it cost",
    margin: float = MARGIN,
    control_period_ms: float | None = None,
) -> None:
    """Write the report whole or not at all; it needs no network to be read.

    ``margin``: loss of mean score that still counts as nothing lost. ``control_period_ms``: drawn into the latency
    plot when given. ``provenance``: facts to print as they are; nested ones become ``outer, inner``.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    groups = [
        ("training", "Training curves", "Losses of the distribution-matching methods are no measure of progress; "
         "the numbers of the evaluation are.", training_curves),
        ("diagnostics", "Distillation diagnostics", "Measured during distillation on observations held out from it, "
         "never on test starts.", diagnostics),
    ]  # fmt: skip
    text = environment.get_template("report.html.j2").render(
        title=title,
        comparison=comparison,
        names=short_names(comparison),
        lede=_lede(comparison),
        verdicts=[_verdict(comparison, verdict, margin) for verdict in verdicts(comparison, margin)],
        columns={name: heading for name, heading in COLUMNS.items() if name not in ("policy", "sampler")},
        rows=[vars(row) for row in comparison_rows(comparison)],
        caption=caption(comparison),
        roles=_roles(comparison),
        swatch=_swatches(comparison),
        figures=_figures(comparison, margin, control_period_ms),
        clips=[_clip(clip) for clip in videos],
        starts_total=f"{comparison.result(comparison.reference).episodes:,}",
        curve_groups=[
            {"id": name, "title": heading, "text": words, "figures": _curve_figures(name, panels)}
            for name, heading, words, panels in groups
            if panels
        ],
        limits=limits(comparison, margin),
        method=_method(comparison, margin),
        commands=list(dict.fromkeys(result.command for result in comparison.results)),
        hardwares=_hardwares(comparison),
        provenance=_flat(provenance or {}),
        version=comparison.result(comparison.reference).package_version,
    )
    write_text(path, text)


def _unbroken(text: str) -> str:
    """The same text with intervals that do not break over a line."""
    return re.sub(r"\[([^\]]*)\]", lambda match: "[" + match[1].replace(" ", "\u00a0") + "]", text)


def _lede(comparison: Comparison) -> str:
    count = len(comparison.results)
    same = len({tuple(result.seeds) for result in comparison.results}) == 1
    reference = comparison.result(comparison.reference)
    return (
        f"{count} {'policy' if count == 1 else 'policies'} (weights and sampler) on {'the same ' if same else ''}"
        f"{_starts(reference) if same else 'different numbers of starts'} of {comparison.task}. Each is compared, "
        f"start by start, with {short_names(comparison)[comparison.reference]}."
    )


def _starts(result: EvaluationResult) -> str:
    seeds = result.seeds
    consecutive = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{len(seeds):,} starts (seeds {seeds[0]} to {seeds[-1]}{'' if consecutive else ', with gaps'})"


def _verdict(comparison: Comparison, verdict: Verdict, margin: float) -> dict[str, Any]:
    """The verdict with the four numbers a reader wants first; its badge is the worse of score and success."""
    pair = comparison.pair(verdict.label)
    result, reference = comparison.result(verdict.label), comparison.result(comparison.reference)
    assert pair is not None  # a verdict is never about the reference
    faster = reference.latency_ms_p50 / result.latency_ms_p50
    if verdict.score is Outcome.YES and verdict.success is not Outcome.NO:
        badge = ("yes", "Kept")
    elif verdict.score is Outcome.NO:
        badge = ("no", "Lost")
    elif verdict.success is Outcome.NO:
        badge = ("no" if verdict.score is Outcome.OPEN else "open", "Success lost")
    else:
        badge = ("open", "Undecided")
    return {
        **vars(verdict),
        "badge": badge[0],
        "badge_text": badge[1],
        "sentences": [verdict.score_text, verdict.success_text, verdict.speed_text],
        "numbers": [
            {
                "title": f"Score − reference (margin −{margin:g})",
                "value": signed(pair.score_difference),
                "detail": signed_interval(pair.score_ci95),
            },
            {
                "title": "Success rate − reference",
                "value": signed(pair.success_difference),
                "detail": signed_interval(pair.success_ci95),
            },
            {
                "title": "Network passes per chunk",
                "value": f"{reference.nfe} → {result.nfe}",
                "detail": "not counted" if result.passes_counted is None else f"{result.passes_counted} counted",
            },
            {
                "title": "Time per chunk (p50)",
                "value": f"{three_digits(result.latency_ms_p50)} ms",
                "detail": f"{three_digits(faster)}× as fast as the reference",
            },
        ],
    }


def _roles(comparison: Comparison) -> str:
    judged = set(subjects(comparison))
    names = short_names(comparison)
    controls = [names[r.label] for r in comparison.results if r.label not in judged | {comparison.reference}]
    if not controls:
        return ""
    return f"The reference's own weights behind other samplers, as controls (squares): {', '.join(controls)}."


def _swatches(comparison: Comparison) -> Callable[[str], Markup]:
    """A function from a label to its mark, as in the plots."""
    variables = {series_colour(i): f"series-{i}" for i in range(SERIES)} | {INK: "ink"}
    colours = plots.policy_colours(comparison)
    shapes = {
        "D": '<path d="M5 0 10 5 5 10 0 5z"',
        "o": '<circle cx="5" cy="5" r="4.6"',
        "s": '<rect x=".8" y=".8" width="8.4" height="8.4"',
    }

    def swatch(label: str) -> Markup:
        shape = shapes[plots.marker(comparison, label)]
        fill = variables[colours[label]]
        return Markup(
            f'<svg class="swatch" viewBox="0 0 10 10" aria-hidden="true">{shape} fill="var(--{fill})"/></svg>'
        )

    return swatch


def _figures(comparison: Comparison, margin: float, control_period_ms: float | None) -> list[dict[str, Any]]:
    arrows = " An arrow: further out than the axis."
    figures = [
        ("Mean score", plots.score_plot(comparison), "Best reward of an episode, averaged over starts; line: 95 % "
         "BCa bootstrap interval." + arrows),
        ("Success rate", plots.success_plot(comparison), "Share of starts solved; line: 95 % Wilson interval. It shows "
         "lost precision that the score hides."),
    ]  # fmt: skip
    if comparison.paired:
        figures += [
            ("Score: paired difference", plots.score_difference_plot(comparison, margin),
             f"Same starts, candidate minus reference. Grey band: a loss within the margin of {margin:g}. Nothing is "
             "lost beyond it when the whole line lies right of the dashed one." + arrows),
            ("Success rate: paired difference", plots.success_difference_plot(comparison),
             "Same starts, candidate minus reference; line: 95 % bootstrap interval over starts." + arrows),
        ]  # fmt: skip
    figures += [
        ("Latency", plots.latency_plot(comparison, control_period_ms), "One chunk, batch 1, logarithmic axis."),
        ("Score against latency", plots.trade_off_plot(comparison), "Up and to the left is better."),
        ("Scores of all starts", plots.survival_plot(comparison), "Share of starts that reach at least score x; at the "
         "right end, those with the full score. Dashed: reference and controls."),
    ]  # fmt: skip
    if comparison.paired:
        figures.append(
            ("Where the difference comes from", plots.sorted_difference_plot(comparison),
             "Score minus reference of every start, sorted: many small losses or a few large ones.")
        )  # fmt: skip
    return [{"title": title, "svg": Markup(svg), "caption": words} for title, svg, words in figures]


def _curve_figures(group: str, panels: Panels) -> list[dict[str, Any]]:
    return [
        {"title": title, "svg": Markup(plots.curves_plot(curves, f"{group}-{i}", title))}
        for i, (title, curves) in enumerate(panels.items())
    ]


def _clip(clip: RolloutClip) -> dict[str, Any]:
    rules = " and ".join(clip.rules)
    return {
        "title": rules[:1].upper() + rules[1:],
        "seed": clip.seed,
        "mp4": "data:video/mp4;base64," + base64.b64encode(clip.mp4).decode("ascii"),
        "poster": "data:image/jpeg;base64," + base64.b64encode(clip.poster).decode("ascii"),
        "alt": f"Roll-outs side by side on seed {clip.seed}. {'; '.join(clip.outcomes)}.",
        "outcomes": clip.outcomes,
    }


def _method(comparison: Comparison, margin: float) -> list[tuple[str, str]]:
    names = short_names(comparison)
    starts = dict.fromkeys(_starts(result) for result in comparison.results)
    if len(starts) > 1:
        listed = "; ".join(f"{names[result.label]}: {_starts(result)}" for result in comparison.results)
    else:
        listed = f"{next(iter(starts))}, the same for every policy"
    speeds = [result.environment_steps_per_s for result in comparison.results]
    return [
        ("Starts", f"{listed}. A seed decides the start of an episode and the policy's noise."),
        ("Reference", f"{names[comparison.reference]}, named before the runs."),
        ("Score", "Best reward of an episode, averaged over starts."),
        ("Success", "Share of episodes that reach the goal of the task."),
        ("Margin", f"A loss of mean score up to {margin:g} counts as nothing lost."),
        ("Intervals", f"95 %. Scores and paired differences: BCa bootstrap over starts, {RESAMPLES:,} resamples, fixed "
         "generator. Success rates: Wilson."),
        ("Latency", "Wall-clock of one chunk from observations to actions, batch 1, device synchronised, warm-up left "
         "out; p50 and p95."),
        ("Passes", "Network passes per chunk: declared by the sampler, and counted by a hook on the network."),
        ("Simulation", f"{three_digits(min(speeds))} to {three_digits(max(speeds))} environment steps per second; "
         f"{three_digits(sum(result.wall_clock_s for result in comparison.results))} s in all."),
    ]  # fmt: skip


def _hardwares(comparison: Comparison) -> list[str]:
    names = short_names(comparison)
    groups: dict[str, list[str]] = {}
    for result in comparison.results:
        text = ", ".join(f"{key} {value}" for key, value in result.hardware.items())
        groups.setdefault(text, []).append(names[result.label])
    if len(groups) == 1:
        return list(groups)
    return [f"{', '.join(rows)}: {text}" for text, rows in groups.items()]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}, ")
        else:
            found.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return found
