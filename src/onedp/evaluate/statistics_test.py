from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from onedp.errors import OneDPError
from onedp.evaluate.statistics import (
    NORMAL,
    SuccessTable,
    align_starts,
    binary_entropy,
    bootstrap_mean,
    paired_mean_difference,
    success_table,
    wilson_interval,
)

Z = NORMAL.inv_cdf(0.975)


@given(st.integers(1, 5000), st.data())
def test_wilson_ends_solve_the_score_equation(n, data):
    """The ends are the rates p with (rate - p)^2 = z^2 p (1 - p) / n: the definition, not the solved formula."""
    successes = data.draw(st.integers(0, n))
    for p in wilson_interval(successes, n):
        assert (successes / n - p) ** 2 == pytest.approx(Z**2 * p * (1 - p) / n, abs=1e-12)


@given(st.integers(1, 5000), st.data())
def test_wilson_is_mirror_symmetric_and_inside_the_unit_interval(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    assert low < high
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("n", [1, 10, 50, 2000])
def test_wilson_at_none_and_all(n):
    assert wilson_interval(0, n) == pytest.approx((0.0, Z**2 / (n + Z**2)))
    assert wilson_interval(n, n) == pytest.approx((n / (n + Z**2), 1.0))
    assert wilson_interval(0, n)[0] == 0.0
    assert wilson_interval(n, n)[1] == 1.0


def test_entropy_of_none_and_of_half():
    none = binary_entropy(0, 10)
    rate = wilson_interval(0, 10)[1]
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(-rate * np.log2(rate) - (1 - rate) * np.log2(1 - rate))
    half = binary_entropy(5, 10)
    assert (half.value, half.high) == (1.0, 1.0)
    assert half.low < binary_entropy(50, 100).low < 1.0


@pytest.mark.parametrize(("count", "n"), [(1, 4), (3, 8), (45, 100), (90, 100)])
def test_entropy_is_symmetric_and_inside_its_interval(count, n):
    entropy = binary_entropy(count, n)
    mirrored = binary_entropy(n - count, n)
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx((entropy.value, entropy.low, entropy.high))
    assert 0 <= entropy.low <= entropy.value <= entropy.high <= 1
    reached = [entropy_of(p) for p in np.linspace(*wilson_interval(count, n), 1001)]
    assert (entropy.low, entropy.high) == pytest.approx((min(reached), max(reached)), abs=1e-5)


def entropy_of(p: float) -> float:
    return float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.75, 0.97])
@pytest.mark.parametrize("n", [50, 500])
def test_wilson_coverage_is_close_to_nominal(rate, n):
    """Exact, by summing the binomial probabilities of all outcomes whose interval holds the true rate."""
    intervals = np.array([wilson_interval(k, n) for k in range(n + 1)])
    covered = (intervals[:, 0] <= rate) & (rate <= intervals[:, 1])
    assert 0.92 < binom.pmf(np.arange(n + 1), n, rate)[covered].sum() < 0.98


def test_wilson_rejects_impossible_counts():
    with pytest.raises(OneDPError, match="got 6 of 5"):
        wilson_interval(6, 5)
    with pytest.raises(OneDPError, match="n >= 1"):
        wilson_interval(0, 0)
    with pytest.raises(OneDPError, match="between 0 and 1, got 95"):
        wilson_interval(1, 2, confidence=95.0)


def test_bootstrap_of_normal_data_matches_the_closed_form():
    values = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    estimate = bootstrap_mean(values, np.random.default_rng(0))
    half = Z * values.std() / np.sqrt(len(values))
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.04 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.04 * half)


def test_bootstrap_agrees_with_scipys_bca_on_skewed_scores():
    scores = np.minimum(1.0, np.random.default_rng(2).beta(6.0, 0.4, 60))
    ours = bootstrap_mean(scores, np.random.default_rng(0), resamples=40_000)
    theirs = scipy.stats.bootstrap(
        (scores,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_bootstrap_coverage_on_scores_that_pile_up_at_one():
    rng = np.random.default_rng(3)
    draws = np.where(rng.random((400, 200)) < 0.7, 1.0, rng.random((400, 200)))
    estimates = [bootstrap_mean(row, np.random.default_rng(0), resamples=1000) for row in draws]
    covered = np.mean([estimate.low <= 0.85 <= estimate.high for estimate in estimates])
    assert 0.92 < covered < 0.98


def test_paired_bootstrap_coverage_for_success_differences():
    rng = np.random.default_rng(4)
    hard = rng.random((400, 200)) < 0.25  # starts that both fail
    candidate, reference = ~hard & (rng.random(hard.shape) < 0.8), ~hard & (rng.random(hard.shape) < 0.9)
    candidate, reference = candidate.astype(np.float64), reference.astype(np.float64)
    estimates = [
        paired_mean_difference(a, b, np.random.default_rng(0), resamples=1000)
        for a, b in zip(candidate, reference, strict=True)
    ]
    covered = np.mean([estimate.low <= 0.75 * -0.1 <= estimate.high for estimate in estimates])
    assert 0.92 < covered < 0.98


def test_pairing_removes_the_difficulty_of_the_start():
    rng = np.random.default_rng(5)
    difficulty = rng.random(500)
    reference, candidate = difficulty + rng.normal(0, 0.01, 500), difficulty - 0.01 + rng.normal(0, 0.01, 500)
    paired = paired_mean_difference(candidate, reference, np.random.default_rng(0))
    alone = bootstrap_mean(candidate, np.random.default_rng(0))
    assert paired.value == pytest.approx(-0.01, abs=0.002)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(0, 10))
def test_bootstrap_is_deterministic_ordered_and_shifts_with_the_data(values, seed):
    estimate = bootstrap_mean(np.array(values), np.random.default_rng(seed), resamples=200)
    assert estimate == bootstrap_mean(np.array(values), np.random.default_rng(seed), resamples=200)
    assert min(values) - 1e-9 <= estimate.low <= estimate.high <= max(values) + 1e-9
    shifted = bootstrap_mean(np.array(values) + 2.0, np.random.default_rng(seed), resamples=200)
    assert shifted.value == pytest.approx(estimate.value + 2.0)


def test_bootstrap_of_equal_values_has_no_width():
    estimate = bootstrap_mean(np.full(50, 0.1), np.random.default_rng(0))
    assert estimate.low == estimate.value == estimate.high == pytest.approx(0.1)


def test_bootstrap_does_not_depend_on_chunked_memory(monkeypatch):
    values = np.random.default_rng(6).random(100)
    whole = bootstrap_mean(values, np.random.default_rng(0))
    monkeypatch.setattr("onedp.evaluate.statistics._ELEMENTS_AT_ONCE", 12_300)
    assert bootstrap_mean(values, np.random.default_rng(0)) == whole


def test_bootstrap_rejects_too_few_and_not_finite():
    with pytest.raises(OneDPError, match="at least 2 values, got 1"):
        bootstrap_mean(np.array([1.0]), np.random.default_rng(0))
    with pytest.raises(OneDPError, match="number 1 is not"):
        bootstrap_mean(np.array([1.0, np.nan]), np.random.default_rng(0))


def test_success_table_counts_the_four_outcomes():
    table = success_table(np.array([1, 1, 0, 0, 1], dtype=bool), np.array([1, 0, 1, 0, 1], dtype=bool))
    assert (table.both, table.only_candidate, table.only_reference, table.neither) == (2, 1, 1, 1)
    assert table.discordant == 2


@given(st.integers(0, 400), st.integers(0, 400))
def test_exact_p_is_the_binomial_test_of_the_discordant_starts(only_candidate, only_reference):
    table = SuccessTable(5, only_candidate, only_reference, 7)
    n = only_candidate + only_reference
    expected = scipy.stats.binomtest(only_candidate, n).pvalue if n else 1.0
    assert table.exact_p == pytest.approx(expected, rel=1e-9)


def test_align_starts_brings_both_sides_into_one_order():
    left, right = align_starts([7, 5, 6], [5, 6, 7])
    assert [[7, 5, 6][i] for i in left] == [[5, 6, 7][i] for i in right] == [5, 6, 7]


def test_align_starts_names_what_each_side_lacks():
    with pytest.raises(OneDPError, match=r"student lacks seeds 8; teacher lacks seeds 5, 6\. Evaluate both"):
        align_starts([5, 6, 7], [7, 8], names=("student", "teacher"))
    with pytest.raises(OneDPError, match=r"reference lacks seeds 2, 3, 4, 5, 6 and 3 more\."):
        align_starts(range(10), [0, 1])


def test_align_starts_on_common_starts_only_when_asked():
    left, right = align_starts([5, 6, 7], [9, 7, 6], common_only=True)
    assert left.tolist() == [1, 2]
    assert right.tolist() == [2, 1]
    with pytest.raises(OneDPError, match="no start in common"):
        align_starts([1], [2], common_only=True)


def test_align_starts_rejects_a_start_given_twice():
    with pytest.raises(OneDPError, match="reference has more than one episode of the same start: seeds 4"):
        align_starts([4, 5], [4, 4, 5])
