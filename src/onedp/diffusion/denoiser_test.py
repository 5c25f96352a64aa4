"""All parameterisations describe the same denoiser."""

from __future__ import annotations

import pytest
import torch

from onedp.diffusion.analytic import GaussianDenoiser
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import CosineDdpm, Edm, diffuse
from onedp.errors import ArtifactError

MEAN = torch.full((16, 2), 0.3)
CASES = [
    (CosineDdpm(), torch.tensor([0, 10, 65, 95]), ("eps", "x0", "v")),
    (Edm(), torch.tensor([0.01, 0.3, 2.5, 20.0]), ("eps", "x0", "edm")),
]


@pytest.mark.parametrize(("schedule", "t", "names"), CASES)
def test_every_parameterisation_gives_the_same_estimate(schedule, t, names):
    x0 = torch.randn(len(t), 16, 2, generator=torch.Generator().manual_seed(0))
    x_t = diffuse(schedule, x0, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)))
    cond = torch.zeros(len(t), 1)
    reference = GaussianDenoiser(schedule, MEAN, 0.2).x0(x_t, t, cond)
    for name in names:
        torch.testing.assert_close(
            GaussianDenoiser(schedule, MEAN, 0.2, name).x0(x_t, t, cond), reference, atol=3e-5, rtol=1e-4
        )


@pytest.mark.parametrize(("schedule", "t", "names"), CASES)
def test_target_of_the_raw_output_inverts_the_estimate(schedule, t, names):
    """x0 -> F -> x0, in float64."""
    x0 = torch.randn(len(t), 16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_t = diffuse(schedule, x0, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)).double())
    for name in names:
        denoiser = GaussianDenoiser(schedule, MEAN, 0.2, name)
        c_skip, c_out, _ = denoiser.coefficients(x_t, t)
        back = c_skip * x_t + c_out * denoiser.raw_target(x0, x_t, t)
        torch.testing.assert_close(back, x0, atol=1e-9, rtol=1e-6)


def test_raw_targets_are_the_textbook_ones():
    schedule, t = CosineDdpm(), torch.tensor([40])
    x0, eps = torch.full((1, 16, 2), 0.7), torch.full((1, 16, 2), -1.1)
    x_t = diffuse(schedule, x0, t, eps)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    expected = {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0}
    for name, target in expected.items():
        torch.testing.assert_close(GaussianDenoiser(schedule, MEAN, 0.2, name).raw_target(x0, x_t, t), target)


def test_edm_network_output_is_not_the_noise():
    """The defect of a public re-implementation: F differs from eps by sign and scale (brief, section 3)."""
    t, x0 = torch.tensor([2.5]), torch.zeros(1, 16, 2)
    eps = torch.ones(1, 16, 2)
    target = GaussianDenoiser(Edm(), MEAN, 0.2, "edm").raw_target(x0, diffuse(Edm(), x0, t, eps), t)
    assert (target * eps < 0).all()


def test_score_and_eps_agree_with_the_gaussian_density():
    schedule, t = CosineDdpm(), torch.tensor([30])
    denoiser = GaussianDenoiser(schedule, MEAN, 0.2)
    x_t = torch.randn(1, 16, 2, generator=torch.Generator().manual_seed(0))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    expected = -(x_t - alpha * MEAN) / (alpha**2 * 0.2**2 + sigma**2)
    torch.testing.assert_close(denoiser.score(x_t, t, torch.zeros(1, 1)), expected, atol=1e-4, rtol=1e-4)


def test_unknown_parameterization_is_named():
    with pytest.raises(ArtifactError, match="Unknown parameterization 'epsilon'"):
        Denoiser(torch.nn.Identity(), torch.nn.Identity(), CosineDdpm(), "epsilon", (16, 2))
