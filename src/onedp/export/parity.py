"""Does the exported file answer as the policy it was made from?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.backends.manifest import ExportManifest
from onedp.errors import OneDPError
from onedp.machine import cpu_name
from onedp.types import Policy, episode_noise

BATCHES = (1, 2, 7)
CASES = 3
"""Batches of every size and kind of input."""
TOLERANCE_ONE_PASS = 1e-4
TOLERANCE_MANY_PASSES = 1e-3
"""In units of half the action range. A float32 graph rounds otherwise than PyTorch; passes add their rounding up, and a
DDPM teacher's first pass divides by an alpha of 5e-4."""
WIDE = "wide"
WIDE_FACTOR = 10
"""Far outside the training data a network's inner values grow, and their rounding with them: on some processors
OpenVINO's transformer answers there with 1e-4, and inside with 6e-8."""


def tolerance(nfe: int) -> float:
    """Largest accepted difference for a policy of ``nfe`` passes, in units of half the action range."""
    return TOLERANCE_ONE_PASS if nfe == 1 else TOLERANCE_MANY_PASSES


@dataclass(frozen=True)
class ParityRow:
    """Largest difference over the cases of one runtime, kind of input and batch size."""

    runtime: str
    inputs: str
    """random (drawn between the ranges of the training data), wide (far outside them) or recorded."""
    batch: int
    cases: int
    distance: float
    """In units of half the action range."""

    def accepted(self, limit: float) -> float:
        """The largest distance that is rounding, where ``limit`` is it inside the training data's ranges."""
        return limit * WIDE_FACTOR if self.inputs == WIDE else limit


def check_parity(
    exported: Mapping[str, Policy],
    manifest: ExportManifest,
    reference: Policy,
    recorded: Mapping[str, ndarray] | None,
) -> list[ParityRow]:
    """Compare what was exported, by runtime, with ``reference`` on random and ``recorded`` observations.

    ``recorded``: ``{name: (N, To, *shape)}``.
    """
    rows = []
    kinds = ["random", WIDE] + (["recorded"] if recorded is not None else [])
    for kind in kinds:
        for batch in BATCHES:
            cases = [_inputs(manifest, kind, batch, case, recorded) for case in range(CASES)]
            answers = [reference.infer(*case) for case in cases]
            for runtime, policy in exported.items():
                worst = max(
                    manifest.distance(policy.infer(*case), answer) for case, answer in zip(cases, answers, strict=True)
                )
                rows.append(ParityRow(runtime, kind, batch, CASES, worst))
    return rows


def _inputs(
    manifest: ExportManifest, kind: str, batch: int, case: int, recorded: Mapping[str, ndarray] | None
) -> tuple[dict[str, ndarray], ndarray]:
    seed = 1 + case
    obs, noise = manifest.example_inputs(batch, seed)
    if kind == WIDE:
        fields = {field.name: field for field in manifest.spec.observations}
        wide = {name: 2 * values.astype(np.float32) - values.mean(dtype=np.float32) for name, values in obs.items()}
        obs = {name: fields[name].nearest(values) for name, values in wide.items()}
    if kind == "recorded" and recorded is not None:
        available = len(next(iter(recorded.values())))
        rows = np.random.default_rng([seed, batch]).integers(0, available, batch)
        obs = {
            field.name: np.ascontiguousarray(recorded[field.name][rows], dtype=field.dtype)
            for field in manifest.spec.observations
        }
        noise = np.stack([episode_noise(seed, 1000 + row, manifest.noise_shape) for row in range(batch)])
    return obs, noise


def parity_report(
    rows: Sequence[ParityRow],
    manifest: ExportManifest,
    recorded_from: str | None,
    latency_ms: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What ``parity.json`` holds. ``latency_ms``: runtime to median time of one chunk, batch 1, one thread."""
    return {
        "reference": {"policy": manifest.name, "weights_digest": manifest.weights_digest, "sampler": manifest.sampler},
        "unit": "half the range of each action dimension in the training data",
        "tolerance": manifest.tolerance,
        "tolerance_wide": manifest.tolerance * WIDE_FACTOR,
        "recorded_observations": recorded_from,
        "largest_distance": max(row.distance for row in rows if row.inputs != WIDE),
        "largest_distance_wide": max(row.distance for row in rows if row.inputs == WIDE),
        "cpu": cpu_name(),
        "latency_ms_p50": {name: round(value, 3) for name, value in (latency_ms or {}).items()},
        "rows": [asdict(row) for row in rows],
    }


def require_parity(rows: Sequence[ParityRow], limit: float) -> None:
    """Raise ``OneDPError`` when a row is above what it may be."""
    bad = [row for row in rows if not row.distance <= row.accepted(limit)]
    if bad:
        worst = max(bad, key=lambda row: row.distance)
        raise OneDPError(
            f"The exported graph does not answer as the policy: with {worst.runtime}, {worst.inputs} inputs and batch "
            f"{worst.batch} actions differ by {worst.distance:.2g} of half their range, at most "
            f"{worst.accepted(limit):g} is rounding ({len(bad)} of {len(rows)} checks failed). Nothing was written."
        )
