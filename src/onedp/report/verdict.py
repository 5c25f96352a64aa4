"""What a comparison shows and what it does not, in plain words computed from the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from onedp.evaluate.comparison import Comparison, PairedDifference
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.tables import short_names, signed, signed_interval, three_digits

MARGIN = 0.02
"""Loss of mean score that still counts as nothing lost; fixed before any test start was run."""
FEW_DISCORDANT = 10
"""Below this many starts that only one of the two solves, the bootstrap interval of success is too narrow."""
SIGNIFICANCE = 0.05


class Outcome(Enum):
    """What an interval says about a claim."""

    YES = "yes"
    NO = "no"
    OPEN = "open"


@dataclass(frozen=True)
class Verdict:
    """One policy against the reference."""

    label: str
    name: str
    score: Outcome
    """Is the loss of score within the margin?"""
    success: Outcome
    """NO: lower, YES: higher, OPEN: neither is shown."""
    headline: str
    score_text: str
    success_text: str
    speed_text: str


def subjects(comparison: Comparison) -> list[str]:
    """Labels of what is judged: policies with other weights than the reference.

    The rest are the reference's own weights behind other samplers: controls. When there is nothing else, all are
    judged.
    """
    digest = comparison.result(comparison.reference).weights_digest
    others = [result for result in comparison.results if result.label != comparison.reference]
    return [result.label for result in others if result.weights_digest != digest] or [r.label for r in others]


def verdicts(comparison: Comparison, margin: float = MARGIN) -> list[Verdict]:
    """One verdict for each of ``subjects``; loss of score is judged against ``margin``."""
    names = short_names(comparison)
    found = []
    for label in subjects(comparison):
        pair = comparison.pair(label)
        if pair is None:
            continue
        score = score_outcome(pair, margin)
        success = success_outcome(pair)
        found.append(
            Verdict(
                label=label,
                name=names[label],
                score=score,
                success=success,
                headline=_headline(score, success, margin),
                score_text=_score_text(comparison, pair, score, margin),
                success_text=_success_text(pair, success),
                speed_text=_speed_text(comparison, label),
            )
        )
    return found


def score_outcome(pair: PairedDifference, margin: float) -> Outcome:
    """YES when the whole interval is above ``-margin``, NO when it is all below, else OPEN."""
    low, high = pair.score_ci95
    return Outcome.YES if low >= -margin else Outcome.NO if high < -margin else Outcome.OPEN


def success_outcome(pair: PairedDifference) -> Outcome:
    """NO (lower) or YES (higher) when the interval excludes zero and the exact McNemar test agrees, else OPEN."""
    low, high = pair.success_ci95
    if low <= 0 <= high or pair.successes.exact_p >= SIGNIFICANCE:
        return Outcome.OPEN
    return Outcome.NO if high < 0 else Outcome.YES


def _headline(score: Outcome, success: Outcome, margin: float) -> str:
    first = {
        Outcome.YES: f"Keeps the score within {margin:g}",
        Outcome.NO: f"Loses more than {margin:g} of score",
        Outcome.OPEN: f"Not shown to keep the score within {margin:g}",
    }[score]
    second = {
        Outcome.YES: "the success rate is higher",
        Outcome.NO: "the success rate is lower",
        Outcome.OPEN: "no difference in success rate is shown",
    }[success]
    joint = ", but " if (score, success) == (Outcome.YES, Outcome.NO) else "; "
    return f"{first}{joint}{second}."


def _score_text(comparison: Comparison, pair: PairedDifference, outcome: Outcome, margin: float) -> str:
    names = short_names(comparison)
    text = (
        f"On the same {pair.episodes:,} starts the score of {names[pair.candidate]} differs from that of "
        f"{names[pair.reference]} by {signed(pair.score_difference)} {signed_interval(pair.score_ci95)}"
    )
    low, high = pair.score_ci95
    if outcome is Outcome.YES:
        more = " and the whole interval is above zero" if low > 0 else ""
        less = "; a loss smaller than the margin is there" if high < 0 else ""
        return f"{text}: within the margin of {margin:g}{more}{less}."
    if outcome is Outcome.NO:
        return f"{text}: worse by more than the margin of {margin:g}."
    loss = " The score is lower; whether by more than the margin is open." if high < 0 else ""
    open_end = f"the interval reaches past −{margin:g}, so a larger loss is not ruled out."
    return f"{text}: {open_end}{loss}{_needed(pair, margin)}"


def _needed(pair: PairedDifference, margin: float) -> str:
    """Starts at which the interval would clear the margin if the difference stayed what it is."""
    room = pair.score_difference + margin
    reach = pair.score_difference - pair.score_ci95[0]
    if room <= 0.05 * reach:
        return ""
    starts = pair.episodes * (reach / room) ** 2
    digits = 10 ** max(0, math.floor(math.log10(starts)) - 1)
    rounded = math.ceil(starts / digits) * digits
    return f" If the difference stays the same, about {rounded:,} starts would bring the interval inside."


def _success_text(pair: PairedDifference, outcome: Outcome) -> str:
    meaning = {
        Outcome.YES: "it solves more",
        Outcome.NO: "it solves fewer",
        Outcome.OPEN: "neither loss nor gain is shown",
    }[outcome]
    table = pair.successes
    text = (
        f"It solves {table.both + table.only_candidate:,} of {pair.episodes:,} starts, the reference "
        f"{table.both + table.only_reference:,}; the success rates differ by {signed(pair.success_difference)} "
        f"{signed_interval(pair.success_ci95)}: {meaning}. Both solve {table.both:,} starts, only this one "
        f"{table.only_candidate:,}, only the reference {table.only_reference:,}, neither {table.neither:,}."
    )
    if table.discordant < FEW_DISCORDANT:
        text += (
            f" Only {table.discordant} starts tell the two apart, too few for the interval to be trusted; the exact "
            f"McNemar test on them gives p\u00a0=\u00a0{table.exact_p:.2g}."
        )
    return text


def _speed_text(comparison: Comparison, label: str) -> str:
    names = short_names(comparison)
    result, reference = comparison.result(label), comparison.result(comparison.reference)
    slowest = max(comparison.results, key=lambda other: other.latency_ms_p50)
    text = (
        f"{_passes(result)} per chunk where the reference needs {reference.nfe}: "
        f"{three_digits(result.latency_ms_p50)} ms instead of {three_digits(reference.latency_ms_p50)} ms, "
        f"{_factor(reference.latency_ms_p50 / result.latency_ms_p50)}"
    )
    if slowest.label not in (reference.label, label):
        factor = slowest.latency_ms_p50 / result.latency_ms_p50
        text += f"; {_factor(factor)} than {names[slowest.label]} ({three_digits(slowest.latency_ms_p50)} ms)"
    return text + "."


def _factor(factor: float) -> str:
    return f"{three_digits(factor)} times faster" if factor >= 1 else f"{three_digits(1 / factor)} times slower"


def _passes(result: EvaluationResult) -> str:
    word = "pass" if result.nfe == 1 else "passes"
    if result.passes_counted is None:
        return f"{result.nfe} network {word} (not counted)"
    if result.passes_counted == result.nfe:
        return f"{result.nfe} network {word} (counted)"
    return f"{result.nfe} network {word} declared, {result.passes_counted} counted: a contradiction,"


def limits(comparison: Comparison, margin: float = MARGIN) -> list[str]:
    """What the comparison does not show, and what in it to distrust; always says something."""
    results = comparison.results
    names = short_names(comparison)
    found = [
        f"Other tasks, a real robot, or other kinds of starts: this is {comparison.task} in simulation only.",
        "The spread over training runs: each row is one set of weights. Its intervals are over starts; another "
        "training seed can move a row by more.",
        "That actions are distributed as the teacher's: score and success do not see lost variety of behaviour.",
    ]
    if len(comparison.paired) > 1:
        found.append(
            f"All {len(comparison.paired)} differences at once: each interval is at 95 % by itself; none is widened "
            "for the number of comparisons."
        )
    few = [pair for pair in comparison.paired if pair.successes.discordant < FEW_DISCORDANT]
    if few:
        listed = ", ".join(f"{names[pair.candidate]} ({pair.successes.discordant})" for pair in few)
        found.append(
            f"Success differences that rest on fewer than {FEW_DISCORDANT} starts which only one of the two solves: "
            f"{listed}. Their bootstrap intervals are too narrow."
        )
    found += _distrust(results, names)
    open_ones = [pair for pair in comparison.paired if score_outcome(pair, margin) is Outcome.OPEN]
    if open_ones:
        listed = ", ".join(names[pair.candidate] for pair in open_ones)
        found.append(f"Whether the loss of score exceeds the margin of {margin:g}: still open for {listed}.")
    return found


def _distrust(results: tuple[EvaluationResult, ...], names: dict[str, str]) -> list[str]:
    found = []
    if len({str(result.hardware) for result in results}) > 1:
        found.append("Speed-ups across machines: the rows were not all measured on the same hardware and versions.")
    if len({result.package_version for result in results}) > 1:
        versions = ", ".join(sorted({result.package_version for result in results}))
        found.append(f"One version of onedp: the rows come from {versions}.")
    if len({tuple(result.seeds) for result in results}) > 1:
        counts = ", ".join(f"{names[result.label]} {result.episodes:,}" for result in results)
        found.append(
            f"The same starts for every row: {counts}. A paired difference uses the starts both have; rates and "
            "scores of rows with fewer starts are not comparable start by start."
        )
    for result in results:
        if result.passes_counted not in (None, result.nfe):
            found.append(
                f"The pass count of {names[result.label]}: its sampler declares {result.nfe}, a hook counted "
                f"{result.passes_counted}."
            )
    return found
