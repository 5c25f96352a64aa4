"""Latency of many policies in one process, taking turns, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onedp.bench.cells import Cell, CellStore
from onedp.bench.frame import Trained
from onedp.policy import TorchPolicy, load_policy
from onedp.threads import one_thread
from onedp.types import episode_noise

ROUNDS, WARM_UP = 40, 3


def latencies_once(folder: Path, policies: Sequence[tuple[Trained, str | None]]) -> list[float]:
    """``median_latencies`` of policies and their samplers (None: the stored one), kept as a cell of ``folder``.

    Measured whatever a bench may make, since a table of what is finished has latencies too.
    """
    identity = {"latency": 1, "policies": [[trained.digest, sampler] for trained, sampler in policies]}

    def make() -> dict[str, Any]:
        return {"medians_ms": median_latencies([load_policy(trained.folder, sampler) for trained, sampler in policies])}

    return list(CellStore(folder).done(Cell("latency", identity), make)["medians_ms"])


def median_latencies(policies: Sequence[TorchPolicy], rounds: int = ROUNDS) -> list[float]:
    """Median milliseconds of a chunk for each policy: batch 1, one thread."""
    asked = [
        (
            policy,
            policy.spec.fake_observation(1, np.random.default_rng(0)),
            episode_noise(0, 0, policy.noise_shape)[None],
        )
        for policy in policies
    ]
    times: list[list[float]] = [[] for _ in policies]
    gc.collect()
    with one_thread():
        for turn in range(-WARM_UP, rounds):
            for (policy, obs, noise), own in zip(asked, times, strict=True):
                start = time.perf_counter()
                policy.infer(obs, noise)
                if turn >= 0:
                    own.append(1000 * (time.perf_counter() - start))
    return [float(np.median(own)) for own in times]
