"""The plots of a report. Each function draws one figure and says it again in words as its text alternative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy import ndarray

from onedp.evaluate.comparison import Comparison
from onedp.evaluate.statistics import align_starts
from onedp.evaluate.tables import interval, short_names, signed, signed_interval, three_digits
from onedp.report.axes import label_ends, label_points, make_axes, plain_log
from onedp.report.interval_plot import Mark, interval_plot, padded
from onedp.report.svg import INK, MUTED, PAPER, figure_style, series_colour, to_svg
from onedp.report.verdict import subjects

Curves = Mapping[str, tuple[Sequence[int | float], Sequence[int | float]]]
"""Series name to (steps, values)."""
CONTROL = "s"


def policy_colours(comparison: Comparison) -> dict[str, str]:
    """Label to colour: the reference is ink, the judged policies come first in the series."""
    judged = subjects(comparison)
    others = [r.label for r in comparison.results if r.label not in judged and r.label != comparison.reference]
    return {comparison.reference: INK, **{label: series_colour(i) for i, label in enumerate([*judged, *others])}}


def score_plot(comparison: Comparison) -> str:
    """Mean score of each policy with its interval."""
    marks = [
        _mark(comparison, r.label, r.score_mean, r.score_ci95, f"{r.score_mean:.3f} {interval(r.score_ci95)}")
        for r in comparison.results
    ]
    return interval_plot(
        marks, "score", "Mean score and its 95 % interval", "mean of the best reward of an episode",
        window=_window(comparison, marks),
    )  # fmt: skip


def success_plot(comparison: Comparison) -> str:
    """Success rate of each policy with its interval."""
    marks = [
        _mark(comparison, r.label, r.success_rate, r.success_ci95, f"{r.success_rate:.3f} {interval(r.success_ci95)}")
        for r in comparison.results
    ]
    return interval_plot(
        marks, "success", "Success rate and its 95 % interval", "share of starts solved", window=(0.0, 1.0)
    )


def score_difference_plot(comparison: Comparison, margin: float) -> str:
    """Paired differences of the score with the zero line and the margin."""
    marks = [
        _mark(comparison, pair.candidate, pair.score_difference, pair.score_ci95,
              f"{signed(pair.score_difference)} {signed_interval(pair.score_ci95)}")
        for pair in comparison.paired
    ]  # fmt: skip
    return interval_plot(
        marks, "score-difference", "Paired difference of the score to the reference", "score minus reference",
        zero=True, margin=margin, window=_window(comparison, marks, (-2 * margin, margin), reach=1.25),
    )  # fmt: skip


def success_difference_plot(comparison: Comparison) -> str:
    """Paired differences of the success rate with the zero line."""
    marks = [
        _mark(comparison, pair.candidate, pair.success_difference, pair.success_ci95,
              f"{signed(pair.success_difference)} {signed_interval(pair.success_ci95)}")
        for pair in comparison.paired
    ]  # fmt: skip
    return interval_plot(
        marks, "success-difference", "Paired difference of the success rate to the reference",
        "success rate minus reference", zero=True, window=_window(comparison, marks, (0.0,), reach=1.25),
    )  # fmt: skip


def latency_plot(comparison: Comparison, control_period_ms: float | None = None) -> str:
    """Median and 95th percentile of the time of one chunk, logarithmic."""
    marks = [
        _mark(comparison, r.label, r.latency_ms_p50, (r.latency_ms_p50, r.latency_ms_p95),
              f"{three_digits(r.latency_ms_p50)} / {three_digits(r.latency_ms_p95)} ms")
        for r in comparison.results
    ]  # fmt: skip
    return interval_plot(
        marks, "latency", "Time of one chunk, median and 95th percentile, logarithmic axis",
        "ms for one chunk: dot p50, line to p95", log=True, tick_ms=control_period_ms,
    )  # fmt: skip


def trade_off_plot(comparison: Comparison) -> str:
    """Score over latency: up and to the left is better."""
    names, colours = short_names(comparison), policy_colours(comparison)
    with figure_style():
        figure, axes = make_axes(3.0, left=0.5)
        axes.set_xscale("log")
        for r in comparison.results:
            error = [[r.score_mean - r.score_ci95[0]], [r.score_ci95[1] - r.score_mean]]
            axes.errorbar(
                r.latency_ms_p50, r.score_mean, yerr=error, fmt=marker(comparison, r.label), markersize=7,
                color=colours[r.label], markeredgecolor=PAPER, elinewidth=1.6,
            )  # fmt: skip
        times = np.array([r.latency_ms_p50 for r in comparison.results])
        axes.set_xlim(times.min() / 1.6, times.max() * 1.6)
        axes.margins(y=0.12)
        label_points(
            axes,
            [(r.latency_ms_p50, r.score_mean, names[r.label], colours[r.label]) for r in comparison.results],
        )
        plain_log(axes)
        axes.grid(axis="y")
        axes.set_xlabel("ms for one chunk (p50), log scale")
        axes.set_ylabel("mean score")
        listed = "; ".join(
            f"{names[r.label]} {three_digits(r.latency_ms_p50)} ms, score {r.score_mean:.3f}"
            for r in comparison.results
        )
        return to_svg(figure, "trade-off", f"Score over latency. {listed}.")


def survival_plot(comparison: Comparison) -> str:
    """Share of starts that score at least x: the whole distribution, not its mean."""
    names, colours = short_names(comparison), policy_colours(comparison)
    with figure_style():
        figure, axes = make_axes(3.0, left=0.5, right=1.35)
        best = max(float(r.scores.max()) for r in comparison.results)
        worst = min(0.0, *(float(r.scores.min()) for r in comparison.results))
        ends = []
        for r in comparison.results:
            x = np.array([worst, *np.unique(r.scores[r.scores < best]), best])
            share = np.array([np.mean(r.scores >= value) for value in x])
            dashes = "-" if r.label in subjects(comparison) else (0, (4, 1.5))
            axes.step(x, share, where="pre", color=colours[r.label], linewidth=1.6, linestyle=dashes)
            ends.append((float(share[-1]), names[r.label], colours[r.label]))
        axes.set_xlim(worst, best)
        axes.set_ylim(0.0, 1.02)
        axes.grid(axis="y")
        axes.set_xlabel("score x")
        axes.set_ylabel("share of starts with score ≥ x")
        label_ends(axes, ends)
        quarter = "; ".join(f"{names[r.label]} {np.mean(r.scores >= 0.9):.2f}" for r in comparison.results)
        return to_svg(figure, "survival", f"Share of starts that score at least x. At 0.9: {quarter}.")


def sorted_difference_plot(comparison: Comparison) -> str:
    """Paired score differences of the judged policies, start by start, sorted: many small losses or a few large."""
    names, colours = short_names(comparison), policy_colours(comparison)
    reference = comparison.result(comparison.reference)
    with figure_style():
        figure, axes = make_axes(3.0, left=0.55, right=1.35)
        axes.axhline(0.0, color=MUTED, linewidth=0.9)
        ends, words = [], []
        for label in subjects(comparison):
            result = comparison.result(label)
            rows, reference_rows = align_starts(result.seeds, reference.seeds, common_only=True)
            differences = np.sort(result.scores[rows] - reference.scores[reference_rows])
            axes.step(100 * (np.arange(len(differences)) + 1) / len(differences), differences, where="mid",
                      color=colours[label], linewidth=1.8)  # fmt: skip
            ends.append((float(differences[-1]), names[label], colours[label]))
            words.append(f"{names[label]}: {_shares(differences)}")
        axes.set_xlim(0, 100)
        axes.grid(axis="y")
        axes.set_xlabel("% of starts, from worst to best")
        axes.set_ylabel("score minus reference")
        label_ends(axes, ends)
        return to_svg(figure, "sorted", f"Score differences start by start, sorted. {'; '.join(words)}.")


def curves_plot(curves: Curves, name: str, title: str) -> str:
    """Numbers over training steps; logarithmic when all are positive and span more than a factor of 50."""
    with figure_style():
        figure, axes = make_axes(2.5, left=0.6, right=1.2 if len(curves) > 1 else 0.15)
        ends, words = [], []
        for i, (series, (steps, values)) in enumerate(curves.items()):
            kept = np.isfinite(np.asarray(values, dtype=np.float64))
            x, y = np.asarray(steps)[kept], np.asarray(values, dtype=np.float64)[kept]
            if not len(y):
                words.append(f"{series} has no finite value")
                continue
            axes.plot(x, y, color=series_colour(i), linewidth=1.6)
            ends.append((float(y[-1]), series, series_colour(i)))
            words.append(f"{series} from {y[0]:.3g} to {y[-1]:.3g}")
        everything = np.concatenate([line.get_ydata() for line in axes.lines]) if axes.lines else np.zeros(1)
        if everything.min() > 0 and everything.max() > 50 * everything.min():
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.grid(axis="y")
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.locator_params(axis="x", nbins=4)
        if len(curves) > 1:
            label_ends(axes, ends)
        return to_svg(figure, name, f"{title} over training steps. {'; '.join(words)}.")


def _mark(comparison: Comparison, label: str, value: float, ends: tuple[float, float], text: str) -> Mark:
    name = short_names(comparison)[label] + (" (reference)" if label == comparison.reference else "")
    return Mark(name, value, *ends, text, policy_colours(comparison)[label], marker(comparison, label))


def marker(comparison: Comparison, label: str) -> str:
    """Diamond for the reference, disc for the judged, square for its weights behind other samplers."""
    return "D" if label == comparison.reference else "o" if label in subjects(comparison) else CONTROL


def _window(
    comparison: Comparison, marks: Sequence[Mark], also: Sequence[float] = (), reach: float = 2.0
) -> tuple[float, float]:
    """Axis limits that show reference and judged policies and ``also``.

    A control is shown whole when that widens the axis to at most ``reach`` times, else it ends in an arrow.
    """
    shown = [mark for mark in marks if mark.marker != CONTROL]
    low = min([*also, *(mark.low for mark in shown)])
    high = max([*also, *(mark.high for mark in shown)])
    widest = reach * (high - low)
    for mark in marks:
        wider = (min(low, mark.low), max(high, mark.high))
        if wider[1] - wider[0] <= widest:
            low, high = wider
    return padded(low, high)


def _shares(differences: ndarray) -> str:
    worse, better = np.mean(differences < -0.01), np.mean(differences > 0.01)
    return f"{100 * worse:.0f} % of starts worse by more than 0.01, {100 * better:.0f} % better, the rest equal"
