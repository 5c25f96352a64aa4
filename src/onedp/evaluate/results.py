"""What an evaluation and a comparison are, on disk and in memory. ``docs/results.schema.json`` describes the files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onedp.errors import OneDPError, unknown_choice
from onedp.evaluate.statistics import (
    SuccessTable,
    align_starts,
    bootstrap_mean,
    paired_mean_difference,
    success_table,
    wilson_interval,
)
from onedp.evaluate.strict_json import checked, plain
from onedp.evaluate.timing import Timing
from onedp.files import write_json

EVALUATION_FORMAT = "onedp.evaluation/1"
COMPARISON_FORMAT = "onedp.comparison/1"
BOOTSTRAP_SEED = 0
"""Every interval starts from this seed, so no number depends on which other policies were compared."""


@dataclass(frozen=True)
class EpisodeResult:
    """One episode."""

    seed: int
    """Decides the start and the policy's noise."""
    score: float
    """Best reward of the episode."""
    success: bool
    steps: int
    """Control steps taken."""


@dataclass(frozen=True)
class EvaluationResult:
    """One policy with one sampler on a list of starts."""

    policy: str
    task: str
    sampler: str
    nfe: int
    """Network passes per chunk that the sampler declares."""
    episodes: int
    first_seed: int
    score_mean: float
    score_ci95: tuple[float, float]
    """BCa bootstrap over starts."""
    success_rate: float
    success_ci95: tuple[float, float]
    """Wilson."""
    latency_ms_p50: float
    """Median time of one chunk [ms], batch 1, device synchronised, warm-up left out."""
    latency_ms_p95: float
    weights_digest: str
    package_version: str
    hardware: dict[str, Any]
    """At least cpu, cores, threads and device; versions of what ran the network."""
    command: str
    date: str | None
    """ISO 8601 date, if known."""
    environment_steps_per_s: float
    wall_clock_s: float
    passes_counted: int | None
    """Network passes per chunk that a hook counted; None where no hook can count."""
    parameters: int
    """Number of weights."""
    training_seconds: float | None
    """Wall-clock of its training [s], for a student of its distillation; None where provenance does not say."""
    teacher_training_seconds: float | None
    """Wall-clock of its teacher's training [s]; None for a teacher, or where provenance does not say."""
    per_episode: tuple[EpisodeResult, ...]
    timing: Timing | None = None
    """Charged latency, executor and counters; None in results of before time was counted."""

    def __post_init__(self) -> None:
        seeds = self.seeds
        if not seeds or len(seeds) != self.episodes or seeds != sorted(set(seeds)) or seeds[0] != self.first_seed:
            raise OneDPError(
                f"Result of {self.label}: per_episode must hold {self.episodes} different seeds in ascending order "
                f"from {self.first_seed}, it holds {len(seeds)}{f' from {seeds[0]}' if seeds else ''}."
            )
        for name, rows in (("score_mean", self.scores), ("success_rate", self.successes)):
            if abs(getattr(self, name) - rows.mean()) > 1e-9:
                raise OneDPError(
                    f"Result of {self.label}: {name} is {getattr(self, name)}, but its episodes give {rows.mean()}. "
                    "The file was edited or is damaged; evaluate again."
                )
        if not 0 < self.latency_ms_p50 <= self.latency_ms_p95:
            raise OneDPError(
                f"Result of {self.label}: latency must be positive and p50 <= p95, it is {self.latency_ms_p50} and "
                f"{self.latency_ms_p95} ms."
            )

    @property
    def label(self) -> str:
        """Policy and sampler, e.g. ``pusht-keypoints-ddpm@ddim:10``: what tells the rows of a comparison apart."""
        return f"{self.policy}@{self.how}"

    @property
    def how(self) -> str:
        """The sampler, and where latency is charged or another executor runs, that: ``ddim:10 (0.075 s, rtc)``."""
        timed = self.timing is not None and self.timing.label
        return f"{self.sampler} ({timed})" if timed else self.sampler

    @property
    def seeds(self) -> list[int]:
        """Seeds of the episodes, ascending."""
        return [episode.seed for episode in self.per_episode]

    @property
    def scores(self) -> np.ndarray:
        """Scores ``(n,)`` in the order of ``seeds``."""
        return np.array([episode.score for episode in self.per_episode], dtype=np.float64)

    @property
    def successes(self) -> np.ndarray:
        """Successes ``(n,)``, bool, in the order of ``seeds``."""
        return np.array([episode.success for episode in self.per_episode], dtype=bool)

    @property
    def distillation_cost(self) -> float | None:
        """Wall-clock of a student's distillation over that of its teacher's training."""
        if self.training_seconds is None or not self.teacher_training_seconds:
            return None
        return self.training_seconds / self.teacher_training_seconds

    @property
    def chunks_per_s(self) -> float:
        """Chunks the policy can answer one after the other [Hz]."""
        return 1000.0 / self.latency_ms_p50

    @classmethod
    def from_episodes(cls, per_episode: Sequence[EpisodeResult], **about: Any) -> EvaluationResult:
        """Compute the aggregates from the episodes; ``about`` are all other fields."""
        rows = tuple(sorted(per_episode, key=lambda episode: episode.seed))
        scores = bootstrap_mean(np.array([float(row.score) for row in rows]), np.random.default_rng(BOOTSTRAP_SEED))
        successes = sum(row.success for row in rows)
        return cls(
            episodes=len(rows),
            first_seed=rows[0].seed,
            score_mean=scores.value,
            score_ci95=(scores.low, scores.high),
            success_rate=successes / len(rows),
            success_ci95=wilson_interval(successes, len(rows)),
            per_episode=rows,
            **about,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` inverts it."""
        return {"format": EVALUATION_FORMAT, **plain(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "the evaluation") -> EvaluationResult:
        """Rebuild from ``to_json``; raises ``OneDPError`` naming missing, unknown or unreadable entries."""
        if isinstance(data, Mapping):
            data = {"timing": None, **data}
        values = checked(cls, data, where, EVALUATION_FORMAT)
        if values["timing"] is not None:
            values["timing"] = Timing(**checked(Timing, values["timing"], f"{where}, timing"))
        values["per_episode"] = tuple(
            EpisodeResult(**checked(EpisodeResult, row, f"{where}, per_episode[{i}]"))
            for i, row in enumerate(values["per_episode"])
        )
        return cls(**values)


@dataclass(frozen=True)
class PairedDifference:
    """Candidate minus reference on the same starts."""

    candidate: str
    """Label of an evaluation."""
    reference: str
    episodes: int
    """Starts that both were run on."""
    score_difference: float
    score_ci95: tuple[float, float]
    success_difference: float
    success_ci95: tuple[float, float]
    success_both: int
    success_only_candidate: int
    success_only_reference: int
    success_neither: int

    @property
    def successes(self) -> SuccessTable:
        """McNemar's counts."""
        return SuccessTable(
            self.success_both, self.success_only_candidate, self.success_only_reference, self.success_neither
        )

    @classmethod
    def of(
        cls, candidate: EvaluationResult, reference: EvaluationResult, common_only: bool = False
    ) -> PairedDifference:
        """Pair two evaluations by seed; raises ``OneDPError`` as ``align_starts`` does."""
        names = (candidate.label, reference.label)
        rows, reference_rows = align_starts(candidate.seeds, reference.seeds, names=names, common_only=common_only)
        success, reference_success = candidate.successes[rows], reference.successes[reference_rows]
        scores = paired_mean_difference(
            candidate.scores[rows], reference.scores[reference_rows], np.random.default_rng(BOOTSTRAP_SEED)
        )
        rates = paired_mean_difference(
            success.astype(np.float64), reference_success.astype(np.float64), np.random.default_rng(BOOTSTRAP_SEED)
        )
        table = success_table(success, reference_success)
        return cls(
            *names,
            episodes=len(rows),
            score_difference=scores.value,
            score_ci95=(scores.low, scores.high),
            success_difference=rates.value,
            success_ci95=(rates.low, rates.high),
            success_both=table.both,
            success_only_candidate=table.only_candidate,
            success_only_reference=table.only_reference,
            success_neither=table.neither,
        )


@dataclass(frozen=True)
class Comparison:
    """Several evaluations of one task and their paired differences to a reference named beforehand."""

    task: str
    reference: str
    """Label of the reference among ``results``."""
    results: tuple[EvaluationResult, ...]
    paired: tuple[PairedDifference, ...]
    """One per other result, in the order of ``results``."""

    def __post_init__(self) -> None:
        labels = [result.label for result in self.results]
        if len(set(labels)) != len(labels):
            raise OneDPError(f"A comparison needs each policy and sampler once, got {', '.join(labels)}.")
        if self.reference not in labels:
            raise OneDPError(unknown_choice("reference", self.reference, labels))
        tasks = {result.task for result in self.results}
        if tasks != {self.task}:
            raise OneDPError(f"A comparison is about one task, '{self.task}'; its results are of {sorted(tasks)}.")
        expected = [(label, self.reference) for label in labels if label != self.reference]
        if [(pair.candidate, pair.reference) for pair in self.paired] != expected:
            raise OneDPError(f"A comparison pairs every other result with its reference, in order: {expected}.")

    @classmethod
    def build(cls, results: Sequence[EvaluationResult], reference: str, common_only: bool = False) -> Comparison:
        """Pair every result with the one labelled ``reference``; ``common_only`` allows a subset of its starts."""
        by_label = {result.label: result for result in results}
        if reference not in by_label:
            raise OneDPError(unknown_choice("reference", reference, by_label))
        others = [result for result in results if result.label != reference]
        paired = [PairedDifference.of(other, by_label[reference], common_only) for other in others]
        return cls(by_label[reference].task, reference, tuple(results), tuple(paired))

    def result(self, label: str) -> EvaluationResult:
        """The evaluation called ``label``; raises ``OneDPError`` listing the labels."""
        by_label = {result.label: result for result in self.results}
        if label not in by_label:
            raise OneDPError(unknown_choice("result", label, by_label))
        return by_label[label]

    def pair(self, label: str) -> PairedDifference | None:
        """The difference of ``label`` to the reference; None for the reference itself."""
        return next((pair for pair in self.paired if pair.candidate == label), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` inverts it."""
        return {
            "format": COMPARISON_FORMAT,
            "task": self.task,
            "reference": self.reference,
            "results": [result.to_json() for result in self.results],
            "paired": [plain(pair) for pair in self.paired],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "the comparison") -> Comparison:
        """Rebuild from ``to_json``; raises ``OneDPError`` naming missing, unknown or unreadable entries."""
        values = checked(cls, data, where, COMPARISON_FORMAT)
        results = [EvaluationResult.from_json(row, f"{where}, results[{i}]") for i, row in enumerate(values["results"])]
        paired = [
            PairedDifference(**checked(PairedDifference, row, f"{where}, paired[{i}]"))
            for i, row in enumerate(values["paired"])
        ]
        return cls(values["task"], values["reference"], tuple(results), tuple(paired))


def save_results(path: Path, results: EvaluationResult | Comparison) -> None:
    """Write the JSON file whole or not at all."""
    write_json(path, results.to_json())


def load_results(path: Path) -> EvaluationResult | Comparison:
    """Read what ``save_results`` wrote; raises ``OneDPError`` on anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OneDPError(f"{path} does not exist. It is written by: onedp evaluate POLICY --json {path}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OneDPError(f"{path} is no results file: {error}. Expected JSON of onedp evaluate or compare.") from error
    kind = data.get("format") if isinstance(data, dict) else None
    if kind == EVALUATION_FORMAT:
        return EvaluationResult.from_json(data, str(path))
    if kind == COMPARISON_FORMAT:
        return Comparison.from_json(data, str(path))
    raise OneDPError(
        f"{path} has the format {kind!r}, expected '{EVALUATION_FORMAT}' or '{COMPARISON_FORMAT}'. A higher number "
        "comes from a newer onedp: upgrade with pip install -U onedp."
    )
