"""Chunks that go on from the one before: exact on Gaussian data, whose best denoiser is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.inpainting import InpaintingDenoiser, sample_continuing
from onedp.diffusion.samplers import Ddim, Heun, OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.errors import OneDPError
from onedp.policy_test import inputs, make_policy
from onedp.types import Continuation, ContinuingPolicy

STEPS = 8


class GaussianDenoiser(Denoiser):
    """The best estimate for chunks of a zero-mean Gaussian with covariance ``cov`` over time."""

    def __init__(self, schedule, cov):
        super().__init__(nn.Identity(), nn.Identity(), schedule, "x0", (STEPS, 1))
        self.cov = cov

    def x0(self, x_t, t, cond):
        alpha, sigma = self.schedule.alpha(t)[:, None, None], self.schedule.sigma(t)[:, None, None]
        gain = alpha * self.cov @ torch.linalg.inv(alpha**2 * self.cov + sigma**2 * torch.eye(STEPS))
        return gain @ x_t


def smooth_covariance(scale: float) -> torch.Tensor:
    """Neighbouring steps hang together, as in a trajectory."""
    i = torch.arange(STEPS)
    return scale**2 * (torch.exp(-((i[:, None] - i[None]) ** 2) / 8.0) + 1e-3 * torch.eye(STEPS))


@pytest.mark.parametrize(
    ("schedule", "sampler", "scale"), [(CosineDdpm(), Ddim(20, clip=None), 1.0), (Edm(), Heun(18, clip=None), 0.5)]
)
def test_inpainting_keeps_the_prefix_and_the_rest_follows_it(schedule, sampler, scale):
    denoiser = GaussianDenoiser(schedule, smooth_covariance(scale))
    noise = torch.randn(400, sampler.draws, STEPS, 1, generator=torch.Generator().manual_seed(0))
    cond = torch.zeros(400, 1)
    target = torch.full((400, STEPS, 1), scale)
    weights = torch.zeros(400, STEPS)
    weights[:, :3] = 1
    free = sampler.sample(denoiser, cond, noise)
    drawn = sample_continuing(sampler, denoiser, cond, noise, target, weights)
    assert (free[:, :3] - scale).abs().mean() > 0.5 * scale
    assert (drawn[:, :3] - scale).abs().max() < 0.1 * scale
    assert drawn[:, 3].mean() > 0.6 * scale  # the conditional mean is 0.84 of it
    assert drawn[:, 7].mean() < 0.35 * scale  # far from the prefix it is free
    again = sample_continuing(sampler, denoiser, cond, noise, target, torch.zeros_like(weights))
    torch.testing.assert_close(again, free)


def test_one_pass_of_guidance_is_the_formula():
    """x0 + s J^T W (Y - x0) with the linear denoiser's own matrix as J."""
    schedule, cov = CosineDdpm(), smooth_covariance(1.0)
    plain = GaussianDenoiser(schedule, cov)
    x, t, target = torch.randn(1, STEPS, 1), torch.tensor([30]), torch.ones(1, STEPS, 1)
    weights = torch.linspace(1, 0, STEPS)[None]

    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    jacobian = alpha * cov @ torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(STEPS))
    x0 = plain.x0(x, t, torch.zeros(1, 1))
    expected = x0 + (1 / alpha) * (jacobian.T @ (weights[0, :, None] * (target - x0)))
    guided = InpaintingDenoiser(plain, target, weights)
    torch.testing.assert_close(guided.x0(x, t, torch.zeros(1, 1)), expected)


def previous_of(policy, rows: int, weight: float) -> Continuation:
    steps, dim = policy.spec.chunk_length, policy.spec.action_dim
    actions = np.full((rows, steps, dim), 0.4, dtype=np.float32)
    weights = np.zeros((rows, steps), dtype=np.float32)
    weights[:, :3] = weight
    return Continuation(actions, weights)


@pytest.mark.parametrize("sampler", [Ddim(5), OneStep(65.0), OneStep(65.0, noise_scale=0.0)])
def test_a_policy_continues_only_where_it_is_told_to(sampler):
    policy = make_policy(sampler)
    assert isinstance(policy, ContinuingPolicy)
    obs, noise = inputs(policy)
    plain = policy.infer(obs, noise)
    previous = previous_of(policy, 3, weight=1.0)
    drawn = policy.infer_continuing(obs, noise, previous)
    error, free_error = np.abs(drawn - 0.4)[:, :3].mean(), np.abs(plain - 0.4)[:, :3].mean()
    assert error < 0.5 * free_error
    np.testing.assert_array_equal(drawn, policy.infer_continuing(obs, noise, previous))  # no hidden state
    if isinstance(sampler, OneStep):
        np.testing.assert_allclose(drawn[:, :3], 0.4, atol=1e-5)
    else:
        unweighted = policy.infer_continuing(obs, noise, previous_of(policy, 3, weight=0.0))
        np.testing.assert_allclose(unweighted, plain, atol=1e-5)


def test_a_one_step_policy_takes_the_candidate_nearest_to_the_chunk_before():
    policy = make_policy(OneStep(65.0))
    obs, noise = inputs(policy)
    wanted = policy.infer(obs, -noise[:, :, ::-1])  # the fourth candidate: the prefix is all that is known of it
    weights = np.zeros(wanted.shape[:2], dtype=np.float32)
    weights[:, :4] = 1e-3
    drawn = policy.infer_continuing(obs, noise, Continuation(wanted, weights))
    np.testing.assert_allclose(drawn, wanted, atol=1e-5)
    assert np.abs(policy.infer(obs, noise) - wanted).max() > 1e-2


def test_warm_noise_is_the_plan_at_the_input_level():
    policy = make_policy(OneStep(65.0, noise_scale=0.5))
    noise = np.random.default_rng(0).standard_normal((2, *policy.noise_shape), dtype=np.float32)
    warm = policy.warm_noise(noise, previous_of(policy, 2, weight=1.0))
    alpha, sigma = (float(part(torch.tensor([65]))) for part in (CosineDdpm().alpha, CosineDdpm().sigma))
    naction = policy.normalizer.normalize("action", np.full((1, 2), 0.4, dtype=np.float32))[0]
    past = policy.spec.n_obs_steps - 1
    kept = warm[:, 0, past : past + 3]
    np.testing.assert_allclose(
        0.5 * kept, alpha * naction + 0.5 * sigma * noise[:, 0, past : past + 3], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(warm[:, 0, past + 3 :], noise[:, 0, past + 3 :])
    np.testing.assert_array_equal(warm[:, 0, :past], noise[:, 0, :past])


@pytest.mark.parametrize("sampler", [Ddim(5), OneStep(65.0, noise_scale=0.0)])
def test_only_stochastic_one_step_policies_start_warm(sampler):
    policy = make_policy(sampler)
    noise = np.zeros((1, *policy.noise_shape), dtype=np.float32)
    with pytest.raises(OneDPError, match="A warm start needs a one-step sampler that reads noise, not"):
        policy.warm_noise(noise, previous_of(policy, 1, weight=1.0))


def test_the_input_scale_of_a_student_does_not_matter_to_its_warm_noise():
    """It says how the network reads the noise, not what the noise is."""
    noise = np.random.default_rng(0).standard_normal((2, 1, 8, 2), dtype=np.float32)
    policies = [make_policy(OneStep(65.0, input_scale=scale)) for scale in (1.0, 0.25)]
    first, second = (policy.warm_noise(noise, previous_of(policy, 2, weight=1.0)) for policy in policies)
    np.testing.assert_array_equal(first, second)
