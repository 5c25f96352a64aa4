"""What an evaluation is, on disk and in memory. ``docs/results.schema.json`` describes the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onedp.errors import OneDPError
from onedp.evaluate.statistics import bootstrap_mean, wilson_interval
from onedp.evaluate.strict_json import checked, plain
from onedp.evaluate.timing import Timing
from onedp.tasks.ways import way_counts

EVALUATION_FORMAT = "onedp.evaluation/1"
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
    way: str | None = None
    """Which of several equally good ways it went; None in tasks that have one, or when it went none."""


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
    def ways(self) -> dict[str, int]:
        """Episodes that went each of the task's ways; empty in tasks that have one."""
        return way_counts(episode.way for episode in self.per_episode)

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
        data = {"format": EVALUATION_FORMAT, **plain(self)}
        data["per_episode"] = [
            {key: value for key, value in row.items() if key != "way" or value is not None}
            for row in data["per_episode"]
        ]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "the evaluation") -> EvaluationResult:
        """Rebuild from ``to_json``; raises ``OneDPError`` naming missing, unknown or unreadable entries."""
        if isinstance(data, Mapping):
            data = {"timing": None, **data}
        values = checked(cls, data, where, EVALUATION_FORMAT)
        if values["timing"] is not None:
            values["timing"] = Timing(**checked(Timing, values["timing"], f"{where}, timing"))
        values["per_episode"] = tuple(
            EpisodeResult(**checked(EpisodeResult, _with_way(row), f"{where}, per_episode[{i}]"))
            for i, row in enumerate(values["per_episode"])
        )
        return cls(**values)


def _with_way(row: Any) -> Any:
    """An episode as it is written, where the way is left out when there is none."""
    return {"way": None, **row} if isinstance(row, Mapping) else row
