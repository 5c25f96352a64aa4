"""Several policies on the same starts: evaluate, pair, write table, JSON and report."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from onedp.errors import OneDPError
from onedp.evaluate.comparison import Comparison, load_results, save_results
from onedp.evaluate.opening import JudgedPolicy, open_policy
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.rollout import record_episode
from onedp.evaluate.runner import EvaluationRequest, evaluate
from onedp.evaluate.tables import markdown_table, short_names
from onedp.files import write_text
from onedp.report.report import write_report
from onedp.report.video import RecordedEpisode, RolloutClip, choose_starts, make_clip
from onedp.tasks import get_task
from onedp.threads import one_thread
from onedp.train.metrics import read_metrics

VIDEO_SIZE = 256
VIDEO_PASSES = 40


@dataclass(frozen=True)
class Contestant:
    """One column of a comparison: a policy with a sampler, or a result already on disk."""

    policy: str
    sampler: str | None

    @classmethod
    def parse(cls, text: str) -> Contestant:
        """``POLICY`` or ``POLICY@SAMPLER``, e.g. ``pusht-keypoints-ddpm@ddim:10``; ``RESULT.json`` of evaluate."""
        policy, _, sampler = text.partition("@")
        return cls(policy, sampler or None)

    @property
    def is_result(self) -> bool:
        """True for a file written by ``onedp evaluate --json``."""
        return self.policy.endswith(".json")


@dataclass(frozen=True)
class ComparisonRequest:
    """What to compare, on which starts."""

    contestants: tuple[Contestant, ...]
    reference: int
    """Position of the reference among the contestants."""
    task: str | None
    episodes: int
    first_seed: int
    workers: int | None = None
    device: str = "cpu"
    ray: str | None = None


def compare(request: ComparisonRequest) -> Comparison:
    """Evaluate every contestant on the same starts and pair it with the reference; raises ``OneDPError``."""
    if not 0 <= request.reference < len(request.contestants):
        raise OneDPError(f"The reference is number {request.reference} of {len(request.contestants)} policies.")
    _check_labels(request)
    results = [_result(request, contestant) for contestant in request.contestants]
    uneven = len({tuple(result.seeds) for result in results}) > 1
    return Comparison.build(results, results[request.reference].label, common_only=uneven)


def _check_labels(request: ComparisonRequest) -> None:
    """Load everything before the first episode runs, so a mistake costs seconds."""
    labels = []
    for contestant in request.contestants:
        if contestant.is_result:
            labels.append(_result(request, contestant).label)
        else:
            labels.append(label_of(open_policy(contestant.policy, contestant.sampler, request.device)))
    require_distinct(labels)


def require_distinct(labels: Sequence[str]) -> None:
    """Raise ``OneDPError`` when two policies could not be told apart."""
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise OneDPError(
            f"{', '.join(twice)} appears twice. Policies are told apart by their folder's name and sampler, exports by "
            "policy, runtime and precision; rename one, or leave it out."
        )


def _result(request: ComparisonRequest, contestant: Contestant) -> EvaluationResult:
    if contestant.is_result:
        result = load_results(Path(contestant.policy))
        if not isinstance(result, EvaluationResult):
            raise OneDPError(f"{contestant.policy} is a comparison; expected the result of one policy (evaluate).")
        return result
    return evaluate(
        EvaluationRequest(
            policy=contestant.policy,
            sampler=contestant.sampler,
            task=request.task,
            episodes=request.episodes,
            first_seed=request.first_seed,
            workers=request.workers,
            device=request.device,
            ray=request.ray,
        )
    )


def write_comparison(
    out: Path,
    comparison: Comparison,
    request: ComparisonRequest,
    subject: str,
    metrics: Path | None = None,
    title: str | None = None,
) -> None:
    """Write ``comparison.json``, ``table.md`` and ``report.html`` under ``out``.

    ``subject``: label of the policy that the report is about; its starts are the ones shown. ``metrics``: the
    ``metrics.jsonl`` of its distillation, for the diagnostics plots.
    """
    save_results(out / "comparison.json", comparison)
    write_text(out / "table.md", markdown_table(comparison))
    task = get_task(comparison.task)
    options: dict[str, Any] = {} if title is None else {"title": title}
    write_report(
        out / "report.html",
        comparison,
        videos=record_clips(comparison, request, subject),
        diagnostics=diagnostic_panels(metrics) if metrics is not None else None,
        provenance=_provenance(request),
        control_period_ms=1000.0 / task.spec.rate_hz,
        **options,
    )


def _provenance(request: ComparisonRequest) -> dict[str, Any]:
    """What each policy says of its own making, without the long lists."""
    facts: dict[str, Any] = {}
    for contestant in request.contestants:
        if not contestant.is_result:
            policy = open_policy(contestant.policy, contestant.sampler, request.device)
            keep = ("command", "training_seconds", "data_episodes", "data_steps", "data_digest", "teacher")
            facts[policy.name] = {key: policy.provenance[key] for key in keep if key in policy.provenance}
    return facts


def record_clips(comparison: Comparison, request: ComparisonRequest, subject: str) -> list[RolloutClip]:
    """Roll-outs side by side on starts chosen by fixed rules; none when a contestant is only a result file.

    A policy of more than ``VIDEO_PASSES`` network passes a chunk is left out for its cost, unless it is the reference.
    """
    if any(contestant.is_result for contestant in request.contestants):
        return []
    names = short_names(comparison)
    policies = [open_policy(c.policy, c.sampler, request.device) for c in request.contestants]
    shown = [p for p in policies if p.nfe <= VIDEO_PASSES or label_of(p) == comparison.reference]
    starts = choose_starts(comparison.result(subject), comparison.result(comparison.reference), names[subject])
    clips = []
    for start in tqdm(starts, desc="videos", unit="start", disable=None):
        episodes = [_recorded(policy, comparison, start.seed, names) for policy in shown]
        complete = [episode for episode in episodes if episode is not None]
        if len(complete) == len(episodes):
            clips.append(make_clip(start, complete))
    return clips


def label_of(policy: JudgedPolicy) -> str:
    """Policy and sampler: what a comparison tells its policies apart by."""
    return f"{policy.name}@{policy.sampler.label}"


def _recorded(
    policy: JudgedPolicy, comparison: Comparison, seed: int, names: Mapping[str, str]
) -> RecordedEpisode | None:
    """The evaluation's episode again, with pictures; None if it differs: a video may not contradict the numbers."""
    label = label_of(policy)
    result = comparison.result(label)
    with one_thread():
        recording = record_episode(policy, get_task(comparison.task), seed, result.per_episode, VIDEO_SIZE)
    row = next(row for row in result.per_episode if row.seed == seed)
    if (max(recording.scores), recording.success) != (row.score, row.success):
        warnings.warn(
            f"The roll-out of {label} on seed {seed} did not repeat exactly (score {row.score}, now "
            f"{max(recording.scores)}), so this start is not shown. On a CPU please report it.",
            stacklevel=2,
        )
        return None
    return RecordedEpisode(names[label], policy.nfe, recording.frames, recording.scores, recording.success)


PANELS: dict[str, Sequence[str]] = {
    "Distance of student and teacher": ("energy_distance", "sliced_wasserstein"),
    "Spread over noise": ("student_spread", "teacher_spread"),
    "Gap between tracker and teacher": ("gap_band0", "gap_band1", "gap_band2", "gap_band3"),
    "Gradient at the action": ("gradient_band0", "gradient_band1", "gradient_band2", "gradient_band3"),
    "Actions out of range; change since the start": ("out_of_range", "moved"),
}
"""Title of a plot to the diagnostics it shows."""


def diagnostic_panels(metrics: Path) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Series over steps from a run's ``metrics.jsonl``: title -> name -> (steps, values)."""
    lines = read_metrics(metrics)
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for title, names in PANELS.items():
        for name in names:
            key = f"diagnostics/{name}"
            points = [(float(line["step"]), float(line[key])) for line in lines if key in line]
            if points:
                panels.setdefault(title, {})[name] = ([x for x, _ in points], [y for _, y in points])
    return panels
