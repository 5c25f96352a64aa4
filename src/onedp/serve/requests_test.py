"""Requests one mistake at a time, and the noise of a request."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onedp.errors import OneDPError, ServeError
from onedp.serve.fake_policy_test import Continuing, FakePolicy, observation
from onedp.serve.limits import ServerLimits, TokenBucket
from onedp.serve.requests import ConnectionNoise, read_request
from onedp.types import FieldSpec, PolicySpec, episode_noise

POLICIES = {"a": FakePolicy(), "b": FakePolicy(offset=1.0), "continuing": Continuing()}
SHAPE = POLICIES["a"].noise_shape


def read(**changes):
    message = {key: value for key, value in {**observation(), **changes}.items() if value is not None}
    return read_request(message, POLICIES, ConnectionNoise(seed=5), max_rows=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "c"}, "Unknown policy 'c'. Valid: a, b, continuing."),
        ({"policy": 3}, "Unknown policy '3'"),
        ({"policy": ["a"]}, "Unknown policy"),
        ({"pos": None}, "(missing ['pos'], unknown [])"),
        ({"prompt": "pick"}, "(missing [], unknown ['prompt'])"),
        ({"pos": [1.0, 2.0]}, "Observation 'pos' is a list, expected a numpy array of numbers"),
        ({"pos": 3.0}, "Observation 'pos' is a float"),
        ({"pos": np.zeros((2, 3))}, "Observation 'pos' has shape (2, 3), expected (B, 2, 2)"),
        ({"pos": np.zeros(2)}, "Observation 'pos' has shape (2,), expected (B, 2, 2)"),
        ({"pos": np.zeros((1, 2, 2))}, "Add the batch axis"),  # the image still has none
        ({"pos": np.full((2, 2), np.nan)}, "Observation 'pos' has NaN or infinity"),
        ({"pos": np.full((2, 2), 1e300)}, "Observation 'pos' has NaN or infinity"),
        ({"image": np.zeros((2, 4, 4, 3))}, "Observation 'image' has dtype float64, expected uint8"),
        (observation(rows=5), "The request has 5 observations, expected 1 to 4"),
        ({**observation(rows=2), "pos": np.zeros((3, 2, 2))}, "disagree about the batch size"),
        ({"seed": -1}, "The noise of seed -1, chunk 0 does not exist"),
        ({"seed": 1.5}, "seed and chunk must be whole numbers, not 1.5 and 0"),
        ({"seed": True}, "seed and chunk must be whole numbers"),
        ({"chunk": 1}, "a chunk but no seed"),
        ({"seed": 1, "noise": np.zeros(SHAPE)}, "both noise and a seed"),
        ({"noise": np.zeros((2, *SHAPE))}, "Noise has shape (2, 1, 6, 2), expected (1, 1, 6, 2)"),
        ({"noise": 0.0}, "Noise has shape float, expected"),
        ({"noise": np.full(SHAPE, np.inf)}, "Noise has NaN or infinity"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(OneDPError) as error:
        read(**changes)
    assert message in str(error.value)


BEFORE = {"previous_actions": np.ones((5, 2)), "previous_weights": np.linspace(1, 0, 5)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"previous_weights": None}, "has previous_actions alone; send previous_actions and previous_weights"),
        ({"previous_actions": None}, "has previous_weights alone"),
        ({"previous_actions": np.ones((5, 3))}, "previous_actions has shape (5, 3), expected (1, 5, 2)"),
        ({"previous_weights": np.ones((2, 5))}, "previous_weights has shape (2, 5), expected (1, 5)"),
        ({"previous_weights": 1.0}, "previous_weights has shape float, expected (1, 5)"),
        ({"previous_actions": np.full((5, 2), np.nan)}, "previous_actions has NaN or infinity"),
        ({"previous_actions": np.full((5, 2), 1e300)}, "previous_actions has NaN or infinity"),
        ({"previous_actions": np.full((5, 2), 101.0)}, "previous_actions are beyond the policy's limits of actions"),
        ({"previous_weights": np.full(5, 1.1)}, "previous_weights must be between 0 (free) and 1"),
        ({"previous_weights": np.full(5, -0.1)}, "previous_weights must be between 0 (free) and 1"),
        ({"policy": "a"}, "The policy 'a' cannot go on from the chunk before"),
    ],
)
def test_mistakes_in_the_chunk_before_are_named(changes, message):
    with pytest.raises(OneDPError) as error:
        read(**{"policy": "continuing", **BEFORE, **changes})
    assert message in str(error.value)


def test_actions_without_weight_may_be_beyond_the_limits():
    """A tail is filled up with zeros, which an arm may not be able to reach."""
    spec = dataclasses.replace(FakePolicy().spec, action_low=(1.0, 1.0), action_high=(2.0, 2.0))
    policies = {"arm": Continuing(spec=spec)}
    before = {"previous_actions": np.array([[1.5, 1.5]] + [[0, 0]] * 4), "previous_weights": np.array([1, 0, 0, 0, 0])}
    assert read_request({**observation(), **before}, policies, ConnectionNoise(0), 4).previous is not None
    before["previous_weights"][1] = 1
    with pytest.raises(OneDPError, match="beyond the policy's limits"):
        read_request({**observation(), **before}, policies, ConnectionNoise(0), 4)


def test_the_chunk_before_may_have_a_batch_axis_or_none():
    for request in (
        read(policy="continuing", **BEFORE),
        read(policy="continuing", **{name: value[None] for name, value in BEFORE.items()}),
    ):
        assert request.previous is not None
        assert (request.previous.actions.dtype, request.previous.weights.dtype) == (np.float32, np.float32)
        assert request.previous.actions.tolist() == np.ones((1, 5, 2)).tolist()
        assert request.previous.weights[0].tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert read(policy="continuing").previous is None


@pytest.mark.parametrize("message", [None, 3, [], {b"pos": 1}, "text"])
def test_a_request_is_a_map_of_names(message):
    with pytest.raises(ServeError, match="A request is a map of names"):
        read_request(message, POLICIES, ConnectionNoise(0), max_rows=4)


def test_single_observations_get_a_batch_axis_and_their_dtypes():
    request = read(pos=np.array([[1, 2], [3, 4]], dtype=np.int64))
    assert request.single
    assert (request.policy, request.noise_key) == ("a", (5, 0))
    assert request.obs["pos"].dtype == np.float32
    assert request.obs["pos"].tolist() == [[[1, 2], [3, 4]]]
    assert request.obs["image"].shape == (1, 2, 4, 4, 3)
    assert not read(**observation(rows=1)).single


def test_noise_is_the_episodes_and_a_batch_begins_with_it():
    np.testing.assert_array_equal(read(seed=9, chunk=2).noise[0], episode_noise(9, 2, SHAPE))
    np.testing.assert_array_equal(read(**observation(rows=3), seed=9, chunk=2).noise[0], episode_noise(9, 2, SHAPE))
    assert read(**observation(rows=3)).noise.shape == (3, *SHAPE)


def test_a_connection_draws_every_chunk_once():
    noise = ConnectionNoise(seed=5)
    keys = [read_request(observation(), POLICIES, noise, 4).noise_key for _ in range(3)]
    assert keys == [(5, 0), (5, 1), (5, 2)]


def test_token_bucket_allows_a_burst_and_then_the_rate():
    bucket = TokenBucket(rate=2.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(0.25), bucket.take(0.5), bucket.take(0.75)] == [False, True, False]
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]


def test_limits_must_be_positive_and_the_message_fits_the_largest_request():
    with pytest.raises(ServeError, match="must be positive"):
        ServerLimits(rows=0)
    with pytest.raises(ServeError, match="must be positive"):
        ServerLimits(message_bytes=0)
    observation, noise, chunk_before = 2 * 2 * 4 + 2 * 4 * 4 * 3, 6 * 2 * 4, 5 * 3 * 4
    row = observation + noise + chunk_before
    assert ServerLimits(rows=4).largest_message([FakePolicy()]) == 2**16 + 16 * row
    assert ServerLimits(message_bytes=10).largest_message([]) == 10


def test_other_policies_may_have_other_fields():
    other = FakePolicy(
        spec=PolicySpec((FieldSpec("pos", (2,), "m"),), FieldSpec("action", (2,), "m"), (-1, -1), (1, 1), 10.0)
    )
    request = read_request(
        {"pos": np.zeros((2, 2)), "policy": "o"}, {"a": POLICIES["a"], "o": other}, ConnectionNoise(0), 4
    )
    assert request.noise.shape == (1, 1, 16, 2)
