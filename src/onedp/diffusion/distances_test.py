"""Distances between sample sets against distributions whose distance is known."""

from __future__ import annotations

import math

import pytest
import torch

from onedp.diffusion.distances import energy_distances, sliced_wasserstein_distances


def test_energy_distance_of_two_points_is_twice_their_distance():
    a, b = torch.zeros(1, 3, 2), torch.full((1, 5, 2), 3.0)
    assert energy_distances(a, b).tolist() == pytest.approx([2 * math.sqrt(18)])


def test_distances_vanish_between_draws_of_one_distribution_and_not_between_two():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(200, 32, 4, generator=generator) for _ in range(2))
    assert abs(float(energy_distances(a, b).mean())) < 0.02  # unbiased: no floor from the sample size
    assert float(energy_distances(a, b + 1).mean()) > 0.5
    assert float(sliced_wasserstein_distances(a, a, generator).mean()) == 0


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 16, 2, generator=generator)
    shift = torch.tensor([2.0, 0.0])
    found = sliced_wasserstein_distances(a, a + shift, generator, directions=4000)
    assert found.tolist() == pytest.approx([2 * 2 / math.pi] * 3, abs=0.03)  # mean |cos| is 2 / pi
