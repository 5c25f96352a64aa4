"""Made-up but realistic evaluations for the tests of results and report, and a check that they are what they claim."""

from __future__ import annotations

from typing import Any

import numpy as np

from onedp.evaluate.comparison import Comparison
from onedp.evaluate.results import EpisodeResult, EvaluationResult

TASK = "pusht-keypoints"
TEACHER_DIGEST = "sha256:" + "1f" * 32
REFERENCE = "pusht-keypoints-ddpm@ddim:10"
STUDENT = "pusht-keypoints-onedp-s@one-step"


def fake_evaluation(
    policy: str = "pusht-keypoints-ddpm",
    sampler: str = "ddim:10",
    *,
    nfe: int = 10,
    skill: float = 0.7,
    floor: float = 0.5,
    latency_ms: float = 15.0,
    episodes: int = 50,
    first_seed: int = 100_000,
    digest: str = TEACHER_DIGEST,
    **changed: Any,
) -> EvaluationResult:
    """``skill``: success rate; ``floor``: lowest score of a failure. Hard starts are hard for every policy."""
    rows = []
    for seed in range(first_seed, first_seed + episodes):
        difficulty = np.random.default_rng(seed).random()
        noise = np.random.default_rng([seed, nfe, len(policy)]).normal(0.0, 0.12, 2)
        success = bool(difficulty + noise[0] < skill)
        miss = float(np.clip(0.999 - (1 - floor) * abs(difficulty + noise[1] - skill) ** 2 * 2.0, 0.0, 0.999))
        steps = int(90 + 120 * difficulty) if success else 300
        rows.append(EpisodeResult(seed, 1.0 if success else miss, success, steps))
    about: dict[str, Any] = {
        "policy": policy,
        "task": TASK,
        "sampler": sampler,
        "nfe": nfe,
        "latency_ms_p50": latency_ms,
        "latency_ms_p95": 1.18 * latency_ms,
        "weights_digest": digest,
        "package_version": "0.1.0",
        "hardware": {"cpu": "AMD EPYC 7B13", "cores": 2, "threads": 1, "device": "cpu", "torch": "2.13.0"},
        "command": f"onedp compare {policy} --task {TASK} --episodes {episodes} --first-seed {first_seed}",
        "date": "2026-01-31",
        "environment_steps_per_s": 812.5,
        "wall_clock_s": 16.4,
        "passes_counted": nfe,
        "parameters": 4_103_426,
        "training_seconds": 600.0,
        "teacher_training_seconds": 6000.0,
    }
    return EvaluationResult.from_episodes(rows, **{**about, **changed})


def fake_comparison(episodes: int = 50, student_skill: float = 0.66) -> Comparison:
    """A teacher with two samplers, two students and two negative controls."""
    teacher = "pusht-keypoints-ddpm"
    results = [
        fake_evaluation(teacher, "ddpm:100", nfe=100, skill=0.67, latency_ms=148.0, episodes=episodes),
        fake_evaluation(teacher, "ddim:10", nfe=10, skill=0.74, latency_ms=15.1, episodes=episodes),
        fake_evaluation(
            "pusht-keypoints-onedp-s",
            "one-step",
            nfe=1,
            skill=student_skill,
            latency_ms=1.62,
            episodes=episodes,
            digest="sha256:" + "2a" * 32,
        ),
        fake_evaluation(
            "pusht-keypoints-onedp-d",
            "one-step",
            nfe=1,
            skill=0.45,
            floor=0.2,
            latency_ms=1.61,
            episodes=episodes,
            digest="sha256:" + "3b" * 32,
        ),
        fake_evaluation(teacher, "one-step", nfe=1, skill=0.33, floor=-0.1, latency_ms=1.6, episodes=episodes),
        fake_evaluation(teacher, "ddim:1", nfe=1, skill=-0.1, floor=-0.9, latency_ms=1.63, episodes=episodes),
    ]
    return Comparison.build(results, REFERENCE)


def test_fake_results_are_realistic():
    comparison = fake_comparison(episodes=300)
    assert comparison.result(REFERENCE).score_mean > 0.95
    assert abs(comparison.result(STUDENT).success_rate - 0.66) < 0.08
    assert comparison.result("pusht-keypoints-ddpm@ddim:1").score_mean < 0.5
