"""Properties of the noise processes."""

from __future__ import annotations

import pytest
import torch

from onedp.diffusion.schedule import (
    CosineDdpm,
    Edm,
    diffuse,
    schedule_from_json,
    schedule_to_json,
)
from onedp.errors import ArtifactError

KS = torch.tensor([0, 2, 10, 25, 50, 65, 80, 90, 95])


def test_cosine_levels_are_the_published_ones():
    schedule = CosineDdpm()
    alpha = torch.tensor([0.9997, 0.9983, 0.983, 0.914, 0.692, 0.505, 0.292, 0.140, 0.062])
    sigma = torch.tensor([0.025, 0.058, 0.182, 0.405, 0.722, 0.863, 0.957, 0.990, 0.998])
    torch.testing.assert_close(schedule.alpha(KS), alpha, atol=6e-4, rtol=0)
    torch.testing.assert_close(schedule.sigma(KS), sigma, atol=6e-4, rtol=0)


def test_cosine_preserves_variance_and_noise_increases():
    schedule, t = CosineDdpm(), torch.arange(100)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones(100))
    assert (schedule.sigma(t).diff() > 0).all()


def test_karras_grid_ends_and_decreases():
    grid = Edm().karras_grid(18)
    assert grid[0].item() == pytest.approx(80.0)
    assert grid[-1].item() == pytest.approx(0.002)
    assert (grid.diff() < 0).all()
    assert Edm().karras_grid(1).tolist() == pytest.approx([80.0])


def test_training_times_of_edm_are_log_normal():
    t = Edm().training_times(200_000, torch.Generator().manual_seed(0)).log()
    assert t.mean().item() == pytest.approx(-1.2, abs=0.01)
    assert t.std().item() == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize(("schedule", "low", "high"), [(CosineDdpm(), 2.0, 95.0), (Edm(), 0.05, 3.0)])
def test_times_between_reach_both_bounds_and_never_pass_them(schedule, low, high):
    t = schedule.times_between(20_000, low, high, torch.Generator().manual_seed(0)).double()
    assert t.min().item() == pytest.approx(low, rel=1e-2)
    assert t.min() >= low - 1e-6
    assert t.max().item() == pytest.approx(high, rel=1e-2)
    assert t.max() <= high + 1e-5


def test_diffuse_is_linear_in_data_and_noise():
    schedule, t = CosineDdpm(), torch.tensor([65, 3])
    x0, eps = torch.ones(2, 16, 2), torch.full((2, 16, 2), 2.0)
    expected = schedule.alpha(t) + 2 * schedule.sigma(t)
    torch.testing.assert_close(diffuse(schedule, x0, t, eps)[:, 3, 1], expected)


@pytest.mark.parametrize("schedule", [CosineDdpm(50), Edm(sigma_max=40.0)])
def test_json_round_trip(schedule):
    assert schedule_from_json(schedule_to_json(schedule)) == schedule


def test_unknown_process_is_named():
    with pytest.raises(ArtifactError, match=r"Unknown noise process 'edn'\. Did you mean 'edm'"):
        schedule_from_json({"kind": "edn"})
    with pytest.raises(ArtifactError, match=r"The noise process has the unknown entries \['beta'\]"):
        schedule_from_json({"kind": "edm", "beta": 3})
