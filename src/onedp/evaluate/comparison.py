"""What a comparison is: evaluations of one task, paired by start with a reference; and the files of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onedp.errors import OneDPError, unknown_choice
from onedp.evaluate.results import BOOTSTRAP_SEED, EVALUATION_FORMAT, EvaluationResult
from onedp.evaluate.statistics import SuccessTable, align_starts, paired_mean_difference, success_table
from onedp.evaluate.strict_json import checked, plain
from onedp.files import write_json

COMPARISON_FORMAT = "onedp.comparison/1"


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
