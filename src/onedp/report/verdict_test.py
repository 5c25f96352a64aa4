from __future__ import annotations

import dataclasses

import pytest

from onedp.evaluate.comparison import Comparison, PairedDifference
from onedp.evaluate.fake_results_test import REFERENCE, STUDENT, fake_comparison, fake_evaluation
from onedp.report.verdict import Outcome, limits, score_outcome, subjects, success_outcome, verdicts


def pair(
    score: tuple[float, float, float] = (0.0, -0.01, 0.01),
    success: tuple[float, float, float] = (0.0, -0.1, 0.1),
    only: tuple[int, int] = (20, 20),
    n: int = 500,
) -> PairedDifference:
    return PairedDifference(
        STUDENT, REFERENCE, n, score[0], score[1:], success[0], success[1:], 300, *only, n - 300 - sum(only)
    )


def judged(found: PairedDifference) -> Comparison:
    """A comparison of student and reference that says what ``found`` says."""
    full = fake_comparison()
    return Comparison(full.task, REFERENCE, (full.result(REFERENCE), full.result(STUDENT)), (found,))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return fake_comparison()


@pytest.mark.parametrize(
    ("score", "outcome", "headline", "text"),
    [
        ((-0.004, -0.012, 0.004), Outcome.YES, "Keeps the score within 0.02;", "+0.004]: within the margin of 0.02."),
        ((-0.008, -0.012, -0.004), Outcome.YES, "Keeps", "margin of 0.02; a loss smaller than the margin is there."),
        ((0.02, 0.01, 0.03), Outcome.YES, "Keeps", "and the whole interval is above zero."),
        ((-0.02, -0.02, -0.02), Outcome.YES, "Keeps", "within the margin"),
        ((-0.05, -0.07, -0.03), Outcome.NO, "Loses more than 0.02 of score;", "worse by more than the margin of 0.02."),
        ((-0.01, -0.03, 0.01), Outcome.OPEN, "Not shown to keep the score", "a larger loss is not ruled out. If the"),
        ((-0.03, -0.05, -0.01), Outcome.OPEN, "Not shown", "The score is lower; whether by more"),
    ],
)  # fmt: skip
def test_score_verdict_follows_the_interval(score, outcome, headline, text):
    verdict = verdicts(judged(pair(score=score)))[0]
    assert verdict.score is outcome is score_outcome(pair(score=score), 0.02)
    assert verdict.headline.startswith(headline)
    assert text in verdict.score_text


def test_starts_needed_scale_with_the_square_of_the_width():
    text = verdicts(judged(pair(score=(-0.01, -0.03, 0.01), n=500)))[0].score_text
    assert "about 2,000 starts would bring the interval inside" in text  # twice the reach: four times the starts
    hopeless = verdicts(judged(pair(score=(-0.0199, -0.04, 0.01))))[0].score_text
    assert "would bring" not in hopeless


@pytest.mark.parametrize(
    ("success", "only", "outcome", "text"),
    [
        ((-0.1, -0.15, -0.05), (10, 60), Outcome.NO, "it solves fewer."),
        ((0.1, 0.05, 0.15), (60, 10), Outcome.YES, "it solves more."),
        ((-0.01, -0.05, 0.03), (20, 25), Outcome.OPEN, "neither loss nor gain is shown."),
        ((-0.08, -0.16, -0.02), (0, 4), Outcome.OPEN, "Only 4 starts tell the two apart, too few"),
        ((-0.16, -0.26, -0.06), (0, 8), Outcome.NO, "p\u00a0=\u00a00.0078"),
    ],
)
def test_success_verdict_needs_interval_and_exact_test(success, only, outcome, text):
    verdict = verdicts(judged(pair(success=success, only=only)))[0]
    assert verdict.success is outcome is success_outcome(pair(success=success, only=only))
    assert text in verdict.success_text


def test_kept_score_with_lost_success_is_said_in_the_headline():
    verdict = verdicts(judged(pair(success=(-0.1, -0.15, -0.05), only=(10, 60))))[0]
    assert verdict.headline == "Keeps the score within 0.02, but the success rate is lower."
    assert "It solves 310 of 500 starts, the reference 360" in verdict.success_text


def test_speed_is_against_reference_and_slowest(comparison):
    text = verdicts(comparison)[0].speed_text
    assert text == (
        "1 network pass (counted) per chunk where the reference needs 10: 1.62 ms instead of 15.1 ms, 9.32 times "
        "faster; 91.4 times faster than ddpm ddpm:100 (148 ms)."
    )


def test_other_weights_are_judged_and_the_references_own_are_controls(comparison):
    assert subjects(comparison) == [STUDENT, "pusht-keypoints-onedp-d@one-step"]
    teachers = [r for r in comparison.results if r.policy == "pusht-keypoints-ddpm"]
    assert len(subjects(Comparison.build(teachers, REFERENCE))) == 3


def test_limits_always_say_what_is_not_shown():
    alone = Comparison.build([fake_evaluation()], REFERENCE)
    assert any("in simulation only" in limit for limit in limits(alone))
    assert any("another training seed" in limit for limit in limits(alone))
    assert verdicts(alone) == []


def test_limits_name_what_to_distrust():
    reference = fake_evaluation(episodes=60)
    odd = fake_evaluation(
        "odd", "one-step", nfe=1, episodes=50, digest="x", passes_counted=3, package_version="0.0.9",
        hardware={"cpu": "other", "cores": 64, "threads": 8, "device": "cpu"},
    )  # fmt: skip
    comparison = Comparison.build([reference, odd], REFERENCE, common_only=True)
    text = "\n".join(limits(comparison))
    assert "declares 1, a hook counted 3" in text
    assert "not all measured on the same hardware" in text
    assert "the rows come from 0.0.9, 0.1.0" in text
    assert "ddpm ddim:10 60, odd one-step 50" in text
    assert "a contradiction" in verdicts(comparison)[0].speed_text


def test_uncounted_passes_are_not_called_counted():
    student = fake_evaluation("student", "one-step", nfe=1, digest="x", passes_counted=None)
    text = verdicts(Comparison.build([fake_evaluation(), student], REFERENCE))[0].speed_text
    assert text.startswith("1 network pass (not counted) per chunk")


def test_a_slower_candidate_is_called_slower(comparison):
    slow = dataclasses.replace(comparison.result(STUDENT), latency_ms_p50=30.2, latency_ms_p95=31.0)
    text = verdicts(Comparison.build([comparison.result(REFERENCE), slow], REFERENCE))[0].speed_text
    assert "30.2 ms instead of 15.1 ms, 2.00 times slower." in text
