"""Euler and chained consistency sampling against what is known of Gaussian data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from onedp.diffusion.analytic import GaussianDenoiser
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.few_step_samplers import Consistency, Euler
from onedp.diffusion.sampler_table import check_sampler, parse_sampler, sampler_from_json, sampler_to_json
from onedp.diffusion.samplers import Heun
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow, expand_like, schedule_from_json, schedule_to_json
from onedp.errors import OneDPError

CHUNK = (4, 2)
MEAN = torch.linspace(-0.5, 0.5, 8).reshape(CHUNK)
STD = 0.2
SCHEDULES = [Edm(), CosineDdpm(), Flow()]


class ExactConsistency(Denoiser):
    """The end of the ODE trajectory through x_t for Gaussian data."""

    def __init__(self, schedule):
        super().__init__(torch.nn.Identity(), torch.nn.Identity(), schedule, "x0", CHUNK)

    def raw(self, x_t, t, cond):
        alpha, sigma = (expand_like(f(t), x_t) for f in (self.schedule.alpha, self.schedule.sigma))
        return MEAN + STD / (alpha**2 * STD**2 + sigma**2).sqrt() * (x_t - alpha * MEAN)


def draw(sampler, n=2000):
    return torch.randn((n, sampler.draws, *CHUNK), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["edm", "ddpm", "flow"])
def test_euler_comes_nearer_to_the_gaussian_with_every_doubling(schedule):
    teacher, errors = GaussianDenoiser(schedule, MEAN, STD), []
    for steps in (4, 8, 16, 32):
        sampler = Euler(steps, clip=None)
        with torch.no_grad():
            found = sampler.sample(teacher, torch.zeros(2000, 1), draw(sampler))
        errors.append(abs(found.std(dim=0).mean().item() - STD))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.15 * STD


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["edm", "ddpm", "flow"])
def test_halving_keeps_every_other_time(schedule):
    for steps in (2, 8, 32):
        assert torch.equal(Euler(2 * steps).times(schedule)[::2], Euler(steps).times(schedule))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["edm", "ddpm", "flow"])
@pytest.mark.parametrize("text", ["consistency", "consistency:3"])
def test_chained_consistency_keeps_the_distribution(schedule, text):
    sampler = parse_sampler(text, schedule)
    assert isinstance(sampler, Consistency)
    assert sampler.draws == sampler.nfe == (3 if text.endswith("3") else 1)
    found = sampler.sample(ExactConsistency(schedule), torch.zeros(2000, 1), draw(sampler))
    torch.testing.assert_close(found.mean(dim=0), MEAN, atol=0.03, rtol=0)
    assert found.std(dim=0).mean().item() == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("text", ["euler:10", "consistency:3"])
def test_a_factor_on_the_noise_scales_every_draw(text):
    whole, less = (parse_sampler(each, Edm()) for each in (text, f"{text}:0.5"))
    assert (whole.label, less.label) == (text, f"{text}:0.5")
    assert less == replace(whole, noise_scale=0.5)
    noise, exact, cond = draw(whole), ExactConsistency(Edm()), torch.zeros(2000, 1)
    torch.testing.assert_close(less.sample(exact, cond, noise), whole.sample(exact, cond, 0.5 * noise))
    none = replace(whole, noise_scale=0.0)
    assert none.draws == 0
    torch.testing.assert_close(none.sample(exact, cond, noise[:, :0]), whole.sample(exact, cond, 0 * noise))


def test_the_levels_of_consistency_policy():
    """Three levels: the start, and the ends of bins 27 and 54 of their 80."""
    levels = parse_sampler("consistency:3", Edm()).levels  # type: ignore[union-attr]
    ramp = [(80 ** (1 / 7) + u * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for u in (0, 1 / 3, 2 / 3)]
    assert levels == pytest.approx(ramp, rel=1e-4)


def test_without_noise_it_iterates_from_zeros():
    """MIP: the second pass reads the first's answer, scaled and nothing added."""
    sampler = Consistency((1.0, 0.1), noise_scale=0.0, clip=None)
    teacher, zeros = GaussianDenoiser(Flow(), MEAN, STD), torch.zeros(3, *CHUNK)
    with torch.no_grad():
        first = teacher.x0(zeros, torch.ones(3), torch.zeros(3, 1))
        second = teacher.x0(0.9 * first, torch.full((3,), 0.1), torch.zeros(3, 1))
        found = sampler.sample(teacher, torch.zeros(3, 1), torch.zeros(3, 0, *CHUNK))
    torch.testing.assert_close(found, second)


@pytest.mark.parametrize(
    "sampler",
    [Euler(3, clip=None), Euler(4, noise_scale=0.5), Consistency((80.0, 2.5), 0.5), Consistency((1.0,), 0.0, 2.0)],
)
def test_samplers_are_stored_and_read(sampler):
    data = sampler_to_json(sampler)
    data = {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}  # as JSON does
    assert sampler_from_json(data) == sampler


def test_the_flow_process_is_stored_and_read():
    assert schedule_from_json(schedule_to_json(Flow(time_scale=10.0))) == Flow(time_scale=10.0)


@pytest.mark.parametrize(
    ("sampler", "schedule", "message"),
    [
        (Euler(97), CosineDdpm(), "euler:97 has more steps than the process"),
        (Consistency((100.0,)), CosineDdpm(), "consistency:1 starts at the level 100; the process ends at 99"),
        (Consistency((2.0,)), Flow(), "starts at the level 2; the process ends at 1"),
        (Heun(10), Flow(), "does not fit a policy of the process 'flow'. Valid: euler:N"),
    ],
)
def test_samplers_that_do_not_fit_are_refused(sampler, schedule, message):
    with pytest.raises(OneDPError, match=message):
        check_sampler(sampler, schedule)


def test_impossible_samplers_are_refused():
    for levels in ((), (1.0, 2.0), (1.0, 1.0)):
        with pytest.raises(OneDPError, match="needs descending levels"):
            Consistency(levels)
    with pytest.raises(OneDPError, match="noise scale must be a number of at least 0"):
        Consistency((1.0,), noise_scale=-1.0)
    with pytest.raises(OneDPError, match="the number of steps must be 1 or more"):
        Euler(0)
    with pytest.raises(OneDPError, match="the number of levels must be 1 or more"):
        parse_sampler("consistency:0", Edm())
    with pytest.raises(OneDPError, match="too many parts"):
        parse_sampler("consistency:3:1:1", Edm())


@pytest.mark.parametrize("t", [0.001, 0.3, 1.0])
def test_flow_is_the_linear_interpolant(t):
    time = torch.tensor([t])
    schedule = Flow()
    assert schedule.alpha(time) + schedule.sigma(time) == 1
    denoiser = Denoiser(torch.nn.Identity(), torch.nn.Identity(), schedule, "flow", CHUNK)
    x0, eps = torch.randn(1, *CHUNK), torch.randn(1, *CHUNK)
    x_t = (1 - t) * x0 + t * eps
    torch.testing.assert_close(denoiser.raw_target(x0, x_t, time), eps - x0, atol=1e-3, rtol=1e-3)


def test_flow_times_stay_in_their_bounds():
    generator = torch.Generator().manual_seed(0)
    times = Flow().times_between(1000, 0.2, 0.4, generator)
    assert 0.2 <= times.min() < 0.21
    assert 0.39 < times.max() <= 0.4
    assert Flow().training_times(1000, generator).min() >= 1e-3
