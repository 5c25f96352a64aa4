"""Judge policies without an environment: their chunks on held-out observations, against a reference policy's.

What it can show: whether the student answers with the teacher's distribution of actions, how precise and how jumpy it
is, and how fast. What it cannot: success. All distances are in normalised action units (the reference's normalisation;
with min-max the data spans 2), so they mean the same in every dimension.
"""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from tqdm import tqdm

from onedp.data.config import ReadingConfig
from onedp.diffusion.distances import energy_distances, sliced_wasserstein_distances
from onedp.errors import OneDPError
from onedp.evaluate.heldout_data import HeldoutObservations, load_heldout
from onedp.evaluate.opening import JudgedPolicy, action_centre_width
from onedp.evaluate.runner import hardware, latency_ms
from onedp.evaluate.statistics import bootstrap_mean
from onedp.machine import command_line
from onedp.tasks import Task
from onedp.types import episode_noise

HELDOUT_FORMAT = "onedp.heldout/1"
BATCH = 64

METRICS: dict[str, str] = {
    "energy_distance": "Energy distance of its chunks to the reference's, for one observation over noise",
    "sliced_wasserstein": "Sliced Wasserstein distance to the reference's chunks",
    "spread": "Standard deviation of its chunks over noise",
    "demonstration_error": "Root-mean-square error of its executed actions to the demonstrated ones",
    "seam_jump": "Root-mean-square jump where a chunk ends and the next begins, each with its own noise",
    "at_limits": "Share of executed actions at the action limits",
}
"""Name to what it means; all in normalised action units but the last, a share."""


@dataclass(frozen=True)
class Metric:
    """Mean over observations with its bootstrap interval."""

    mean: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class HeldoutRow:
    """One policy; a metric that the data cannot give (no demonstrated actions, no seams) is None."""

    policy: str
    sampler: str
    nfe: int
    weights_digest: str
    latency_ms_p50: float
    latency_ms_p95: float
    metrics: Mapping[str, Metric | None]

    @property
    def label(self) -> str:
        """Policy and sampler."""
        return f"{self.policy}@{self.sampler}"


@dataclass(frozen=True)
class HeldoutComparison:
    """All policies on the same held-out observations; ``to_json`` is the file's content."""

    task: str
    data: str
    data_digest: str
    reference: str
    """Label of the policy whose action distribution is the yardstick; its own distances are to fresh draws of itself,
    so they show what is left of a distance when there is no difference."""
    observations: int
    draws: int
    seed: int
    selection: str
    """Which observations were judged, in words."""
    rows: tuple[HeldoutRow, ...]
    hardware: Mapping[str, Any]
    """Threads: those that chunks were sampled with; latencies are of one."""
    command: str
    package_version: str
    date: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"format": HELDOUT_FORMAT, **asdict(self)}


def sample_chunks(
    policy: JudgedPolicy,
    obs: Mapping[str, ndarray],
    draws: int,
    seed: int,
    passed: Callable[[int], object] = lambda passes: None,
) -> Float[ndarray, "n d t a"]:
    """``draws`` chunks for each observation, physical units; noise is keyed by (seed + draw, observation).

    ``passed`` is told how many network passes were made since it was last told.
    """
    count = len(next(iter(obs.values())))
    chunks = []
    for start in range(0, count, BATCH):
        part = {name: values[start : start + BATCH] for name, values in obs.items()}
        rows = range(start, min(start + BATCH, count))
        chunks.append(
            np.stack(
                [
                    policy.infer(part, np.stack([episode_noise(seed + draw, row, policy.noise_shape) for row in rows]))
                    for draw in range(draws)
                ],
                axis=1,
            )
        )
        passed(len(rows) * draws * policy.nfe)
    return np.concatenate(chunks)


def compare_heldout(
    policies: Sequence[JudgedPolicy],
    reference: int,
    data: Path,
    task: Task,
    count: int,
    draws: int,
    seed: int,
    reading: ReadingConfig | None = None,
) -> HeldoutComparison:
    """Every policy on the same observations; raises ``OneDPError`` when they do not fit the task or each other."""
    if draws < 2 or count < 2:
        raise OneDPError(f"observations ({count}) and draws ({draws}) must be at least 2, or there is no spread.")
    yardstick = policies[reference]
    for policy in policies:
        if policy.spec != yardstick.spec:
            raise OneDPError(
                f"{policy.name} and {yardstick.name} have different specs (fields, horizon, timing or limits), so "
                "their chunks cannot be compared."
            )
    observations = load_heldout(data, task, yardstick.spec, count, seed, reading)
    passes = yardstick.nfe + sum(policy.nfe * (1 + _has_seams(policy, observations)) for policy in policies)
    total = len(observations.has_next) * draws * passes
    with tqdm(total=total, desc="chunks", unit="pass", unit_scale=True, disable=None) as bar:
        truth = sample_chunks(yardstick, observations.now, draws, seed, bar.update)
        rows = [
            _row(policy, yardstick, truth, observations, draws, seed + (1 + number) * draws, bar.update)
            for number, policy in enumerate(policies)
        ]
    return HeldoutComparison(
        task=task.name,
        data=data.name,
        data_digest=observations.digest,
        reference=rows[reference].label,
        observations=len(observations.has_next),
        draws=draws,
        seed=seed,
        selection=observations.selection,
        rows=tuple(rows),
        hardware={**hardware(str(yardstick.device)), "threads": torch.get_num_threads()},
        command=command_line(),
        package_version=importlib.metadata.version("onedp"),
        date=datetime.date.today().isoformat(),
    )


def _row(
    policy: JudgedPolicy,
    yardstick: JudgedPolicy,
    truth: ndarray,
    observations: HeldoutObservations,
    draws: int,
    seed: int,
    passed: Callable[[int], object],
) -> HeldoutRow:
    chunks = sample_chunks(policy, observations.now, draws, seed, passed)
    values = chunk_metrics(chunks, truth, yardstick, observations.actions)
    if _has_seams(policy, observations):
        following = sample_chunks(policy, observations.next, draws, seed + 1_000_003, passed)
        values["seam_jump"] = seam_jumps(chunks, following, yardstick)[observations.has_next]
    latencies = latency_ms(policy)
    return HeldoutRow(
        policy=policy.name,
        sampler=policy.sampler.label,
        nfe=policy.nfe,
        weights_digest=str(policy.provenance["weights_digest"]),
        latency_ms_p50=float(np.percentile(latencies, 50)),
        latency_ms_p95=float(np.percentile(latencies, 95)),
        metrics={name: _metric(values.get(name)) for name in METRICS},
    )


def _has_seams(policy: JudgedPolicy, observations: HeldoutObservations) -> bool:
    return bool(observations.has_next.any()) and policy.spec.chunk_length > policy.spec.n_action_steps


def _normalised(policy: JudgedPolicy, actions: ndarray) -> ndarray:
    centre, width = action_centre_width(policy)
    return ((actions - centre) / width).astype(np.float32)


def chunk_metrics(
    chunks: Float[ndarray, "n d t a"], truth: Float[ndarray, "n d t a"], policy: JudgedPolicy, actions: ndarray | None
) -> dict[str, ndarray]:
    """Per-observation values (N,) of all metrics that need one chunk; only ``policy``'s normalisation is used."""
    spec = policy.spec
    mine, theirs = (torch.from_numpy(_normalised(policy, each)).flatten(2) for each in (chunks, truth))
    values = {
        "energy_distance": energy_distances(mine, theirs).numpy(),
        "sliced_wasserstein": sliced_wasserstein_distances(mine, theirs, torch.Generator().manual_seed(0)).numpy(),
        "spread": mine.std(dim=1).mean(dim=1).numpy(),
    }
    executed = chunks[:, :, : spec.n_action_steps]
    low, high = (np.asarray(limit, dtype=np.float32) for limit in (spec.action_low, spec.action_high))
    values["at_limits"] = ((executed <= low) | (executed >= high)).mean(axis=(1, 2, 3))
    if actions is not None:
        error = _normalised(policy, executed) - _normalised(policy, actions[:, None, : spec.n_action_steps])
        values["demonstration_error"] = np.sqrt((error**2).mean(axis=(1, 2, 3)))
    return values


def seam_jumps(
    chunks: Float[ndarray, "n d t a"], following: Float[ndarray, "n d t a"], policy: JudgedPolicy
) -> Float[ndarray, " n"]:
    """Where the old chunk would have gone next against where the new one begins, per observation."""
    planned, begun = chunks[:, :, policy.spec.n_action_steps], following[:, :, 0]
    jump = _normalised(policy, planned) - _normalised(policy, begun)
    return np.sqrt((jump**2).mean(axis=(1, 2)))


def _metric(values: ndarray | None) -> Metric | None:
    if values is None:
        return None
    estimate = bootstrap_mean(np.asarray(values, dtype=np.float64), np.random.default_rng(0))
    return Metric(estimate.value, (estimate.low, estimate.high))
