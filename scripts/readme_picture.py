"""Draw the README's picture from measured results: success against latency, and one start as each policy solved it.

python scripts/readme_picture.py --out docs/pusht.png
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onedp.evaluate.comparison import load_results
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.rollout import record_episode
from onedp.files import replaced_file
from onedp.policy import load_policy
from onedp.tasks import get_task

RESULTS = Path(__file__).resolve().parents[1] / "results/pusht-keypoints"
LATENCY = RESULTS.with_name("pusht-keypoints-latency.json")
ROWS = {  # file: (name in the picture, colour, height of the name over the dot in points, its side)
    "pusht-keypoints-ddpm-ddpm100": ("teacher, DDPM, 100 passes", "#444444", 26, "right"),
    "pusht-keypoints-ddpm-ddim10": ("teacher, DDIM, 10 passes", "#444444", -22, "center"),
    "pusht-keypoints-onedp-s-own": ("OneDP-S, 1 pass", "#c2410c", 22, "center"),
    "pusht-keypoints-ddpm-one-step": ("teacher asked once, undistilled", "#8a8a8a", -26, "left"),
}
FILM = {
    "teacher, 10 passes a chunk": "pusht-keypoints-ddpm-ddim10",
    "student, 1 pass a chunk": "pusht-keypoints-onedp-s-own",
}
FRAMES = 6


@dataclass(frozen=True)
class Options:
    """Where to write, and which start to show."""

    out: Path = Path("docs/pusht.png")
    seed: int = 100003


def latencies_ms() -> dict[str, float]:
    """Median of each policy and sampler, all taken in one process (scripts/measure_latency.py)."""
    rows = json.loads(LATENCY.read_text())["rows"]
    return {f"{row['policy']}@{row['sampler']}": row["latency_ms_p50"] for row in rows}


def draw_trade_off(axes: Axes, results: dict[str, EvaluationResult]) -> None:
    """Success rate with its interval over the median latency."""
    latency = latencies_ms()
    for file, (name, colour, height, side) in ROWS.items():
        result = results[file]
        low, high = result.success_ci95
        milliseconds = latency[result.label]
        error = [[result.success_rate - low], [high - result.success_rate]]
        axes.errorbar(milliseconds, result.success_rate, yerr=error, fmt="o", color=colour, markersize=7)
        text = f"{name}\n{result.success_rate:.2f}, {milliseconds:,.0f} ms"
        axes.annotate(
            text, (milliseconds, result.success_rate), (0, height), textcoords="offset points", ha=side, va="center",
            color=colour, fontsize=9,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(3, 2000)
    axes.set_ylim(0, 1)
    axes.set_xlabel("milliseconds for one action chunk (median, one CPU thread)")
    axes.set_ylabel("Push-T success rate")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd")


def draw_film(axes: Axes, title: str, frames: Sequence[np.ndarray], score: float) -> None:
    """Evenly spaced frames of an episode beside each other."""
    picks = np.linspace(0, len(frames) - 1, FRAMES).astype(int)
    axes.imshow(np.concatenate([frames[i] for i in picks], axis=1))
    axes.set_title(f"{title}: score {score:.2f} after {len(frames) / 10:.0f} s", fontsize=10, loc="left")
    axes.set_axis_off()


def main(options: Options) -> None:
    """Load, replay, draw."""
    results: dict[str, EvaluationResult] = {}
    for file in ROWS:
        loaded = load_results(RESULTS / f"{file}.json")
        assert isinstance(loaded, EvaluationResult)
        results[file] = loaded
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    ((left, right),) = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.15))
    draw_trade_off(left.subplots(), results)
    for axes, (title, file) in zip(right.subplots(2, 1), FILM.items(), strict=True):
        result = results[file]
        sampler = None if file.endswith("-own") else result.sampler
        policy = load_policy(result.policy, sampler)
        film = record_episode(policy, get_task(result.task), options.seed, result.per_episode, size=192)
        row = next(episode for episode in result.per_episode if episode.seed == options.seed)
        if film.scores[-1] != row.score:
            raise SystemExit(f"{file}: seed {options.seed} replayed with {film.scores[-1]}, recorded {row.score}.")
        draw_film(axes, title, film.frames, row.score)
    with replaced_file(options.out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Options))
