"""Does a policy in reduced precision still act as in float32? Otherwise it is not written.

With an environment, paired evaluation decides; without one, the distance of actions on held-out observations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onedp.backends import load_backend
from onedp.errors import OneDPError
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.statistics import Estimate, bootstrap_mean, paired_mean_difference
from onedp.export.reference import Recorded
from onedp.tasks import Task
from onedp.tasks.recorded import has_environment
from onedp.types import Policy, episode_noise

LARGEST_LOSS = 0.03
"""Of the score, at the lower end of the 95 % interval of the paired difference."""
FEWEST_STARTS = 500
FIRST_SEED = 200_000
"""Starts for choices; the test starts from 100000 on judge what was chosen."""
LARGEST_DISTANCE = 0.02
"""Of actions without an environment: root-mean-square difference for the same observation and noise, in units of half
the action range, at the upper end of its 95 % interval."""
FEWEST_OBSERVATIONS = 100
FEWEST_EPISODES = 5
"""Observations of one episode resemble each other, so episodes are what an interval can be drawn over."""


@dataclass(frozen=True)
class GateReport:
    """What was measured and what follows; stored in the manifest."""

    measure: str
    """What ``value`` is, in words."""
    value: float
    ci95: tuple[float, float]
    limit: float
    passed: bool
    cases: int
    """Starts, or observations."""
    details: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


Gate = Callable[[Path, Path], GateReport]
"""From the folders of the reduced and of the float32 export to a verdict."""


def require_gate(report: GateReport, precision: str) -> None:
    """Raise ``OneDPError`` with the numbers when the gate is shut."""
    if not report.passed:
        raise OneDPError(
            f"{precision} does not act as float32: {report.measure} is {report.value:+.4f} "
            f"[{report.ci95[0]:+.4f}, {report.ci95[1]:+.4f}] over {report.cases}, the limit is {report.limit:+g} "
            f"({_words(report.details)}). Nothing was written; use --precision fp32."
        )


def gate_lines(gate: Mapping[str, Any]) -> list[str]:
    """What a manifest's gate measured, for people; a lost share of successes is said, though the score decides."""
    (low, high), details = gate["ci95"], gate["details"]
    lines = [
        f"{gate['measure']} {gate['value']:+.4f} [{low:+.4f}, {high:+.4f}] over "
        f"{gate['cases']}, limit {gate['limit']:+g}"
    ]
    if interval := details.get("success_difference_ci95"):
        lines.append(f"success rate {details['success_difference']:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]")
        if interval[1] < 0:
            lines.append("it finishes less often than float32: where precise finishes matter, stay with fp32")
    return lines


def _words(details: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in details.items())


Evaluate = Callable[[Path, int, int], EvaluationResult]
"""An export on so many starts from a seed on."""


def paired_gate(evaluate: Evaluate, episodes: int) -> Gate:
    """Judge by the score on the same starts with the same noise; raises ``OneDPError`` below ``FEWEST_STARTS``."""
    if episodes < FEWEST_STARTS:
        raise OneDPError(f"--gate-episodes is {episodes}; the gate asks for at least {FEWEST_STARTS} starts.")

    def gate(reduced: Path, full: Path) -> GateReport:
        candidate, reference = (evaluate(folder, FIRST_SEED, episodes) for folder in (reduced, full))
        return judge_scores(candidate, reference)

    return gate


def judge_scores(candidate: EvaluationResult, reference: EvaluationResult) -> GateReport:
    """The verdict on two evaluations of the same starts."""
    if candidate.seeds != reference.seeds:
        raise OneDPError("The gate's two evaluations were not run on the same starts.")
    score = paired_mean_difference(candidate.scores, reference.scores, np.random.default_rng(0))
    success = paired_mean_difference(
        candidate.successes.astype(float), reference.successes.astype(float), np.random.default_rng(0)
    )
    return GateReport(
        measure="paired difference of the score",
        value=score.value,
        ci95=(score.low, score.high),
        limit=-LARGEST_LOSS,
        passed=bool(score.low >= -LARGEST_LOSS),
        cases=candidate.episodes,
        details={
            "first_seed": candidate.first_seed,
            "score": round(candidate.score_mean, 4),
            "score_float32": round(reference.score_mean, 4),
            "success_difference": round(success.value, 4),
            "success_difference_ci95": [round(success.low, 4), round(success.high, 4)],
        },
    )


def heldout_gate(data: Path, task: Task, made_with: Recorded | None = None, observations: int = 256) -> Gate:
    """Judge by the distance of actions on held-out observations of ``data``.

    Raises ``OneDPError`` where the task has an environment, in which episodes judge better, and where the reduced
    policy is ``made_with`` the very observations that would judge it.
    """
    if has_environment(task):
        raise OneDPError(
            f"The task '{task.name}' can be simulated, so paired evaluation decides. Leave out --gate-data, which is "
            "for policies without an environment."
        )
    if made_with is not None and made_with.path and made_with.of_all_episodes and made_with.path.samefile(data):
        raise OneDPError(
            f"{data} has too few episodes to set some apart, so it cannot give the ranges of int8 (--data) and judge "
            "them (--gate-data). Record 20 or more, or give two data sets."
        )

    def gate(reduced: Path, full: Path) -> GateReport:
        from onedp.evaluate.heldout_data import load_heldout

        candidate, reference = load_backend(reduced), load_backend(full)
        held = load_heldout(data, task, reference.spec, observations, seed=0)
        episodes = len(np.unique(held.episode))
        if len(held.episode) < FEWEST_OBSERVATIONS or episodes < FEWEST_EPISODES:
            raise OneDPError(
                f"{data} gives {held.selection}, from {episodes} episodes in all; the gate asks for at least "
                f"{FEWEST_OBSERVATIONS} observations from {FEWEST_EPISODES}. Nothing was written. Give a larger data "
                "set, or a recording of fewer than 20 episodes that the policy was not trained on: all of it counts."
            )
        width = np.asarray(reference.manifest.action_width)
        report = judge_actions(candidate, reference, dict(held.now), width, held.episode)
        report.details["observations"] = held.selection
        return report

    return gate


def judge_actions(
    candidate: Policy,
    reference: Policy,
    obs: dict[str, np.ndarray],
    width: np.ndarray,
    episode: np.ndarray,
    batch: int = 16,
) -> GateReport:
    """The verdict on observations ``{name: (N, To, *shape)}``; both policies get the same noise.

    ``episode`` (N,): where each is from; the interval is that of the mean over episodes.
    """
    count = len(next(iter(obs.values())))
    squares, largest = [], 0.0
    for start in range(0, count, batch):
        rows = range(start, min(start + batch, count))
        part = {name: values[start : start + batch] for name, values in obs.items()}
        noise = np.stack([episode_noise(FIRST_SEED, row, reference.noise_shape) for row in rows])
        difference = (candidate.infer(part, noise) - reference.infer(part, noise)) / width  # (B, Tc, Da)
        squares.append((difference**2).mean(axis=(1, 2)))
        largest = max(largest, float(np.abs(difference).max()))
    distances = np.sqrt(np.concatenate(squares)).astype(np.float64)
    finite = bool(np.isfinite(distances).all())
    infinite = float(np.finfo(np.float32).max)
    means = np.array([distances[episode == each].mean() for each in np.unique(episode)])
    mean = bootstrap_mean(means, np.random.default_rng(0)) if finite else Estimate(infinite, infinite, infinite)
    return GateReport(
        measure="root-mean-square difference of actions, in units of half their range,",
        value=mean.value,
        ci95=(mean.low, mean.high),
        limit=LARGEST_DISTANCE,
        passed=bool(mean.high <= LARGEST_DISTANCE),
        cases=count,
        details={"largest_difference": round(largest, 4) if finite else "not finite", "episodes": len(means)},
    )
