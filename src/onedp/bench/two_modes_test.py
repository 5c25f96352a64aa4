"""The truth scores as the truth; every way of being wrong shows in the metric that is meant to show it."""

from __future__ import annotations

import numpy as np
import pytest

from onedp.bench.two_modes import (
    SPREAD,
    left_shares,
    paths,
    sample_observations,
    sample_truth,
    score_chunks,
    sliced_wasserstein_to_truth,
)


@pytest.fixture(scope="module")
def obs():
    return sample_observations(48, np.random.default_rng(0))


@pytest.fixture(scope="module")
def truth(obs):
    return sample_truth(obs, 400, np.random.default_rng(1))


def test_paths_go_round_the_obstacle_and_meet_at_both_ends(obs):
    left, right = paths(obs)[:, 0], paths(obs)[:, 1]
    np.testing.assert_allclose(left[:, [0, -1]], right[:, [0, -1]], atol=1e-12)
    middle = (left - right)[:, 7:9, 1].mean(axis=1) / 2
    np.testing.assert_allclose(middle, (0.5 + 0.2 * obs[:, 1]) * np.sin(np.pi * 7 / 15), rtol=1e-12)
    np.testing.assert_allclose(left[:, -1, 1], 0.3 * obs[:, 0])


def test_the_truth_is_valid_in_the_right_shares_and_almost_no_distance_from_itself(obs, truth):
    score = score_chunks(truth, obs)
    assert score.valid == 1.0
    assert score.left_positive == pytest.approx(0.7, abs=0.02)
    assert score.left_negative == pytest.approx(0.3, abs=0.02)
    assert score.precision == pytest.approx(SPREAD, rel=0.01)
    assert score.spread == pytest.approx(SPREAD, rel=0.01)
    assert score.sliced_wasserstein < 0.01


def test_distance_to_the_truth_falls_with_the_number_of_draws(obs):
    few, many = (
        sliced_wasserstein_to_truth(sample_truth(obs, n, np.random.default_rng(2)), obs, np.random.default_rng(0))
        for n in (50, 800)
    )
    assert few / many == pytest.approx(4.0, rel=0.35)  # 1 / sqrt(draws)


def test_a_shift_is_seen_in_validity_and_in_the_distance(obs, truth):
    score = score_chunks(truth + 0.1, obs)
    assert score.valid == 0.0
    assert score.precision is None
    # a shift along (1, ..., 1) moves the projection on a random direction by 0.1 E|N(0, 1)| on average
    assert score.sliced_wasserstein == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.15)


def test_the_mean_of_both_paths_is_not_valid(obs):
    middle = np.repeat(paths(obs).mean(axis=1, keepdims=True), 4, axis=1)
    assert score_chunks(middle, obs).valid == 0.0


def test_one_mode_alone_is_valid_with_wrong_shares(obs):
    left = np.repeat(paths(obs)[:, :1], 20, axis=1)
    score = score_chunks(left, obs)
    assert (score.valid, score.left_positive, score.left_negative) == (1.0, 1.0, 1.0)
    assert (score.precision, score.spread) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert score.sliced_wasserstein > 0.05


def test_shares_follow_the_sign_of_the_first_coordinate():
    np.testing.assert_array_equal(left_shares(np.array([[0.1, -1.0], [-0.1, 1.0]])), [0.7, 0.3])


def test_truth_is_drawn_from_the_generator_alone(obs):
    first, again, other = (sample_truth(obs, 3, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
