"""Latency of policies on the same network, in one process, taking turns: the machine should be idle.

python scripts/measure_latency.py pusht-keypoints-ddpm@ddpm:100 pusht-keypoints-ddpm@ddim:10 pusht-keypoints-onedp-s \
    --out results/pusht-keypoints-latency.json

The ratios are to the first policy. Taking turns, a slow minute of the machine hits all policies alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from onedp.evaluate.compare import Contestant
from onedp.evaluate.runner import hardware
from onedp.files import write_json
from onedp.machine import command_line
from onedp.policy import load_policy
from onedp.threads import one_thread
from onedp.types import episode_noise


@dataclass(frozen=True)
class Options:
    """What to time."""

    policies: tyro.conf.Positional[tuple[str, ...]]
    """POLICY or POLICY@SAMPLER."""
    out: Path
    rounds: int = 30
    """Rounds; in each every policy answers once, after two rounds of warm-up."""


def main(options: Options) -> None:
    """Time, print, write."""
    contestants = [Contestant.parse(text) for text in options.policies]
    policies = [load_policy(each.policy, each.sampler) for each in contestants]
    times_ms: list[list[float]] = [[] for _ in policies]
    with one_thread():
        for turn in range(-2, options.rounds):
            for policy, times in zip(policies, times_ms, strict=True):
                obs = policy.spec.fake_observation(1, np.random.default_rng(0))
                noise = episode_noise(0, 0, policy.noise_shape)[None]
                start = time.perf_counter()
                policy.infer(obs, noise)
                if turn >= 0:
                    times.append(1000 * (time.perf_counter() - start))
    first = float(np.median(times_ms[0]))
    rows = [
        {
            "policy": policy.name,
            "sampler": policy.sampler.label,
            "passes": policy.nfe,
            "parameters": sum(p.numel() for p in policy.denoiser.parameters()),
            "latency_ms_p50": round(float(np.median(times)), 3),
            "latency_ms_p95": round(float(np.percentile(times, 95)), 3),
            "times_faster_than_first": round(first / float(np.median(times)), 2),
        }
        for policy, times in zip(policies, times_ms, strict=True)
    ]
    for row in rows:
        print(row)
    write_json(
        options.out,
        {"command": command_line(), "hardware": hardware("cpu"), "batch": 1, "rounds": options.rounds, "rows": rows},
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
