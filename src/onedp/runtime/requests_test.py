"""What a policy is asked, chunk by chunk, and policies between control rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from onedp.errors import OneDPError, SpecError
from onedp.runtime.executor import DropLateExecutor, RealTimeChunkingExecutor
from onedp.runtime.requests import ChunkRequests, WarmStartPolicy, infer_chunks, prefix_weights, stacked
from onedp.runtime.resampled import at_control_rate
from onedp.serve.fake_policy_test import SPEC, Continuing, FakePolicy, observation
from onedp.types import Continuation, ContinuingPolicy, Policy, episode_noise


class WarmStarting(Continuing):
    """Its warm noise is the first action that it was given."""

    def warm_noise(self, noise, previous):
        self.previous.append(previous)
        return np.full_like(noise, previous.actions[0, 0, 0])


def chunk() -> np.ndarray:
    return np.repeat(np.arange(10, 15, dtype=np.float32)[:, None], 2, axis=1)


def test_noise_is_fresh_for_each_chunk_or_held():
    policy, executor = FakePolicy(), DropLateExecutor(SPEC)
    fresh, held = ChunkRequests(policy, executor, seed=5), ChunkRequests(policy, executor, seed=5, noise="held")
    for number in range(3):
        request, other = fresh.make(number), held.make(number)
        assert request.chunk == other.chunk == number
        assert request.previous is other.previous is None
        np.testing.assert_array_equal(request.noise, episode_noise(5, number, policy.noise_shape))
        np.testing.assert_array_equal(other.noise, episode_noise(5, 0, policy.noise_shape))


@dataclass
class Noiseless(FakePolicy):
    """As OneDP-D: its sampler draws nothing."""

    @property
    def noise_shape(self):
        return (0, *super().noise_shape[1:])


@pytest.mark.parametrize("noise", ["held", "warm"])
def test_a_policy_that_reads_no_noise_holds_and_warms_none(noise):
    executor = DropLateExecutor(SPEC)
    assert ChunkRequests(Noiseless(), executor, seed=5).make(0).noise.shape == (0, 6, 2)
    message = rf"{noise.capitalize()} noise needs a sampler that reads noise.*Use fresh noise"
    for policy in (Noiseless(), at_control_rate(Noiseless(), 50.0)):
        with pytest.raises(OneDPError, match=message):
            ChunkRequests(policy, executor, seed=5, noise=noise)


def test_warm_noise_is_made_of_the_unexecuted_tail():
    policy, executor = WarmStarting(), DropLateExecutor(SPEC)
    requests = ChunkRequests(policy, executor, seed=5, noise="warm")
    assert requests.make(0).noise.max() == 0  # nothing to start from: the fake's weights are 0
    assert policy.previous[0].weights.max() == 0
    executor.deliver(chunk(), observed=0, usable=0)
    assert requests.make(3).noise.min() == 13
    assert policy.previous[1].actions[0, :, 0].tolist() == [13, 14, 0, 0, 0]
    assert policy.previous[1].weights[0].tolist() == [1, 1, 0, 0, 0]


def test_real_time_chunking_goes_on_from_the_tail():
    executor = RealTimeChunkingExecutor(SPEC)
    requests = ChunkRequests(Continuing(), executor, seed=5)
    first = requests.make(0)
    executor.deliver(chunk(), observed=0, usable=1)
    second = requests.make(2)
    both = stacked([first, second])
    assert both is not None
    assert both.weights[0].max() == 0
    assert both.actions[1, :, 0].tolist() == [12, 13, 14, 0, 0]
    assert both.weights[1, 0] == 1  # one tick of delay
    assert both.weights[1, 1] > both.weights[1, 2] > 0
    assert both.weights[1, 3:].tolist() == [0, 0]
    answer = infer_chunks(Continuing(), observation(2.0, rows=2), np.zeros((2, 1, 6, 2), np.float32), both)
    assert answer[:, 0, 0].tolist() == [2, 1002]


@pytest.mark.parametrize(("delay", "weights"), [(0, [0, 0, 0]), (1, [1, 1 / 2, 0]), (2, [1, 1, 2 / 3])])
def test_deltas_are_kept_for_the_delay_and_fade_over_as_many_again(delay, weights):
    """Kept to the end of the old chunk they would add up to a path that no observation corrects."""
    executor = RealTimeChunkingExecutor(SPEC, hold=np.zeros_like)
    requests = ChunkRequests(Continuing(), executor, seed=5)
    for tick in range(delay):
        executor.action(tick)
    executor.deliver(chunk(), observed=0, usable=delay)
    previous = requests.make(delay).previous
    assert previous is not None
    left = np.array(weights)
    expected = np.where(left == 1, 1.0, left * np.expm1(left) / np.expm1(1.0))
    np.testing.assert_allclose(previous.weights[0, :3], expected, rtol=1e-6)
    assert previous.weights[0, 4:].max() == 0


def test_the_soft_mask_is_rtcs():
    c = np.array([3, 2, 1]) / 4  # (H - s - i) / (H - s - d + 1) for H - s = 5, d = 2, i = 2, 3, 4
    expected = [1, 1, *(c * np.expm1(c) / np.expm1(1)), 0, 0]
    np.testing.assert_allclose(prefix_weights(7, overlap=5, delay=2), expected, rtol=1e-6)
    assert prefix_weights(4, overlap=0, delay=3).tolist() == [0, 0, 0, 0]
    assert prefix_weights(4, overlap=2, delay=9).tolist() == [1, 1, 0, 0]


def test_policies_that_stand_alone_cannot_go_on():
    with pytest.raises(OneDPError, match="FakePolicy cannot go on from the chunk before, which the executor rtc"):
        ChunkRequests(FakePolicy(), RealTimeChunkingExecutor(SPEC), seed=0)
    with pytest.raises(OneDPError, match="FakePolicy cannot start from the chunk before, which warm noise needs"):
        ChunkRequests(FakePolicy(), DropLateExecutor(SPEC), seed=0, noise="warm")
    with pytest.raises(OneDPError, match="Continuing cannot start from the chunk before"):
        ChunkRequests(Continuing(), DropLateExecutor(SPEC), seed=0, noise="warm")
    with pytest.raises(OneDPError, match="Unknown noise 'hot'"):
        ChunkRequests(FakePolicy(), DropLateExecutor(SPEC), seed=0, noise="hot")


# --- policies between control rates


def test_a_policy_of_10_hz_acts_at_50_hz():
    policy = at_control_rate(FakePolicy(), 50.0)
    assert isinstance(policy, Policy)
    assert not isinstance(policy, ContinuingPolicy)
    spec = policy.spec
    assert (spec.rate_hz, spec.n_obs_steps, spec.n_action_steps, spec.chunk_length) == (50.0, 6, 15, 25)
    obs = spec.fake_observation(1, np.random.default_rng(0))
    obs["pos"][0, :, :] = np.arange(6)[:, None]
    actions = policy.infer(obs, np.zeros((1, *policy.noise_shape), np.float32))
    assert actions.shape == (1, 25, 2)
    assert actions[0, :, 0].tolist() == np.repeat([5, 6, 7, 8, 9], 5).tolist()  # the newest observation is 5


def test_it_sees_observations_one_of_its_steps_apart():
    class Sees(FakePolicy):
        def infer(self, obs, noise):
            assert obs["pos"][0, :, 0].tolist() == [0, 5]
            return super().infer(obs, noise)

    policy = at_control_rate(Sees(), 50.0)
    obs = policy.spec.fake_observation(1, np.random.default_rng(0))
    obs["pos"][0] = np.arange(6)[:, None]
    policy.infer(obs, np.zeros((1, 1, 6, 2), np.float32))


def test_going_on_between_rates_keeps_every_nth_action():
    own = WarmStarting()
    policy = at_control_rate(own, 20.0)
    assert isinstance(policy, WarmStartPolicy)
    previous = Continuation(
        np.repeat(np.arange(10, dtype=np.float32)[None, :, None], 2, axis=2),
        np.arange(10, dtype=np.float32)[None] / 10,
    )
    noise = np.zeros((1, 1, 6, 2), np.float32)
    obs = policy.spec.fake_observation(1, np.random.default_rng(0))
    plain, drawn = policy.infer(obs, noise), policy.infer_continuing(obs, noise, previous)
    assert own.previous[0].actions[0, :, 0].tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose((drawn - plain)[0, :, 0], np.repeat([0, 200, 400, 600, 800], 2), atol=1e-3)
    assert policy.warm_noise(noise, previous).shape == noise.shape


def test_what_can_only_go_on_goes_on_between_rates_too():
    policy = at_control_rate(Continuing(), 20.0)
    assert isinstance(policy, ContinuingPolicy)
    assert not isinstance(policy, WarmStartPolicy)
    ChunkRequests(policy, RealTimeChunkingExecutor(policy.spec), seed=0)


def test_its_own_rate_changes_nothing_and_others_are_refused():
    policy = FakePolicy()
    assert at_control_rate(policy, 10.0) is policy
    for rate in (5.0, 25.0):
        with pytest.raises(SpecError, match=rf"10 Hz cannot act at {rate:g} Hz, expected a whole multiple"):
            at_control_rate(policy, rate)
