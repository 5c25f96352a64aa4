"""Latency of many policies in one process, taking turns, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

import numpy as np

from onedp.evaluate.groups import one_thread
from onedp.policy import TorchPolicy
from onedp.types import episode_noise

ROUNDS, WARM_UP = 40, 3


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
