"""Samplers on Gaussian data, where the exact answer is known."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest
import torch

from onedp.diffusion.analytic import GaussianDenoiser
from onedp.diffusion.sampler_table import check_sampler, parse_sampler, sampler_from_json, sampler_to_json
from onedp.diffusion.samplers import SPACINGS, Ddim, Ddpm, Heun, OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.errors import ArtifactError, OneDPError

MEAN, STD = torch.full((16, 2), 0.3), 0.2


def draw(n: int, draws: int) -> torch.Tensor:
    return torch.randn(n, draws, 16, 2, generator=torch.Generator().manual_seed(0))


def sample(sampler, schedule, noise):
    denoiser = GaussianDenoiser(schedule, MEAN, STD).double()
    with torch.no_grad():
        return sampler.sample(denoiser, torch.zeros(len(noise), 1), noise).double()


def exact_ode(schedule, noise, t):
    """Solution of the probability-flow ODE: standardised values do not change along it."""
    alpha, sigma = schedule.alpha(t).double(), schedule.sigma(t).double()
    start = schedule.prior_scale(t).double() * noise[:, 0].double()
    return MEAN + STD * (start - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2).sqrt()


def test_heun_converges_with_second_order():
    schedule, noise = Edm(), draw(4, 1)
    exact = exact_ode(schedule, noise, torch.tensor([80.0]))
    errors = [(sample(Heun(n, clip=None), schedule, noise) - exact).abs().max().item() for n in (20, 40, 80)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert min(orders) > 1.7, (errors, orders)


def test_ddim_converges_with_first_order():
    schedule, noise = CosineDdpm(1600), draw(4, 1)
    exact = exact_ode(schedule, noise, torch.tensor([1599]))
    errors = [(sample(Ddim(n, clip=None), schedule, noise) - exact).abs().max().item() for n in (50, 100, 200)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert min(orders) > 0.8, (errors, orders)


@pytest.mark.parametrize(("steps", "tolerance"), [(100, 0.08), (800, 0.015)])
def test_ddpm_draws_from_the_data_distribution(steps, tolerance):
    """The small posterior variance loses 7 % of the spread at 100 steps, as DDPM does; it vanishes with more."""
    chunks = sample(Ddpm(steps, clip=None), CosineDdpm(steps), draw(500, steps))
    assert chunks.mean().item() == pytest.approx(0.3, abs=0.005)
    assert chunks.std().item() == pytest.approx(0.2, rel=tolerance)


def test_ddpm_steps_follow_the_posterior_of_the_ddpm_paper():
    """The whole chain against their algorithm 2 written out with the mean and variance of their eq. 7."""
    schedule, noise, clip = CosineDdpm(), draw(3, 100), 0.6
    denoiser, cond = GaussianDenoiser(schedule, MEAN, STD).double(), torch.zeros(3, 1)
    bar = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar])  # bar[k] for k = 1..100
    x = noise[:, 0].double()
    with torch.no_grad():
        for i, k in enumerate(range(100, 0, -1)):
            x0 = denoiser.x0(x.float(), torch.full((3,), k - 1), cond).double().clamp(-clip, clip)
            beta = 1 - bar[k] / bar[k - 1]
            mean = bar[k - 1].sqrt() * beta / (1 - bar[k]) * x0
            mean = mean + (bar[k] / bar[k - 1]).sqrt() * (1 - bar[k - 1]) / (1 - bar[k]) * x
            tilde = (1 - bar[k - 1]) / (1 - bar[k]) * beta
            x = mean + tilde.sqrt() * noise[:, i + 1].double() if k > 1 else x0
    torch.testing.assert_close(sample(Ddpm(100, clip=clip), schedule, noise), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [
        (Ddpm(100), CosineDdpm()),
        (Ddim(10), CosineDdpm()),
        (Ddim(1), CosineDdpm()),
        (Heun(18), Edm()),
        (Heun(10), Edm()),
        (Heun(1), Edm()),
        (OneStep(), CosineDdpm()),
        (OneStep(2.5), Edm()),
        (Ddpm(100, noise_scale=0.0), CosineDdpm()),
        (Ddim(10, noise_scale=0.0), CosineDdpm()),
        (Heun(10, noise_scale=0.0), Edm()),
    ],
)
def test_declared_passes_and_draws_are_the_real_ones(sampler, schedule):
    calls = 0

    class Counting(GaussianDenoiser):
        def raw(self, x_t, t, cond):
            nonlocal calls
            calls += 1
            return super().raw(x_t, t, cond)

    noise = draw(3, sampler.draws)
    with torch.no_grad():
        chunk = sampler.sample(Counting(schedule, MEAN, STD), torch.zeros(3, 1), noise)
    assert calls == sampler.nfe
    assert chunk.shape == (3, 16, 2)
    assert chunk.dtype == torch.float32


def test_passes_of_the_named_samplers():
    assert [Ddpm(100).nfe, Ddim(10).nfe, Heun(18).nfe, Heun(10).nfe, Heun(1).nfe, OneStep().nfe] == [
        100,
        10,
        35,
        19,
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [(OneStep(), CosineDdpm()), (Ddim(5), CosineDdpm()), (Ddpm(5), CosineDdpm()), (Heun(5), Edm())],
)
def test_without_noise_nothing_is_drawn_and_chunks_are_those_of_zeros(sampler, schedule):
    alone = replace(sampler, noise_scale=0.0)
    assert alone.draws == 0
    chunks = sample(alone, schedule, torch.zeros(3, 0, 16, 2))
    assert torch.equal(chunks, sample(sampler, schedule, torch.zeros(3, sampler.draws, 16, 2)))


@pytest.mark.parametrize(("sampler", "schedule"), [(Ddim(100, clip=None), CosineDdpm()), (Heun(18, clip=None), Edm())])
def test_less_noise_gives_as_much_less_spread_about_the_same_mean(sampler, schedule):
    """The ODE of Gaussian data maps noise to chunks linearly."""
    noise = draw(500, 1)
    whole, half, alone = (sample(replace(sampler, noise_scale=scale), schedule, noise) for scale in (1.0, 0.5, 0.0))
    torch.testing.assert_close(half - alone, 0.5 * (whole - alone), atol=1e-4, rtol=1e-3)
    assert (alone - 0.3).abs().max() < 0.02
    if isinstance(schedule, CosineDdpm):
        chunks = sample(Ddpm(100, clip=None, noise_scale=0.0), schedule, draw(5, 0))
        assert (chunks - chunks[0]).abs().max() == 0


def test_one_step_scales_its_input_to_the_level():
    """DDPM: z itself; EDM: 2.5 z. For zero data variance the answer is the mean whatever z."""
    noise = draw(2, 1)
    seen = []

    class Spy(GaussianDenoiser):
        def raw(self, x_t, t, cond):
            seen.append(x_t)
            return super().raw(x_t, t, cond)

    for schedule, level, scale in ((CosineDdpm(), 65.0, 1.0), (Edm(), 2.5, 2.5)):
        OneStep(level).sample(Spy(schedule, MEAN, STD), torch.zeros(2, 1), noise)
        torch.testing.assert_close(seen[-1], scale * noise[:, 0])


@pytest.mark.parametrize("clip", [0.0, float("nan"), -1.0])
def test_impossible_clips_are_refused(clip):
    for sampler in (Ddim, Heun, OneStep):
        with pytest.raises(OneDPError, match="A sampler's clip must be a positive number or null, not"):
            sampler(clip=clip)


def test_levels_without_end_are_refused():
    with pytest.raises(OneDPError, match="all finite"):
        OneStep(level=float("inf"))


def test_clipping_is_for_acting_only():
    sampler, z = OneStep(), 10 * draw(2, 1)
    denoiser = GaussianDenoiser(CosineDdpm(), MEAN, 5.0)
    with torch.no_grad():
        assert sampler.generate(denoiser, torch.zeros(2, 1), z[:, 0]).abs().max() > 1
        assert sampler.sample(denoiser, torch.zeros(2, 1), z).abs().max() <= 1


def test_spacings_visit_the_steps_they_promise():
    process = CosineDdpm()
    assert Ddim(10).grid(process) == [99, 88, 77, 66, 55, 44, 33, 22, 11, 0]
    assert Ddim(10, spacing="leading").grid(process) == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    assert Ddim(10, spacing="trailing").grid(process) == [99, 89, 79, 69, 59, 49, 39, 29, 19, 9]
    for spacing in SPACINGS:
        assert Ddpm(100, spacing=spacing).grid(process) == list(range(99, -1, -1))
        for steps in range(2, 101):
            grid = Ddim(steps, spacing=spacing).grid(process)
            assert len(set(grid)) == steps
            assert grid == sorted(grid, reverse=True)
    assert Ddim(1).grid(process) == [99]
    with pytest.raises(OneDPError, match=r"Unknown spacing 'trailling'\. Did you mean 'trailing'"):
        parse_sampler("ddim:10:trailling", process)


@pytest.mark.parametrize(
    "sampler", [Ddpm(50), Ddim(7, clip=None, spacing="leading"), Heun(9), OneStep(2.5, noise_scale=0.5)]
)
def test_json_round_trip(sampler):
    assert sampler_from_json(sampler_to_json(sampler)) == sampler


def test_parsing():
    assert parse_sampler("ddim:10", CosineDdpm()) == Ddim(10)
    assert parse_sampler("ddim:10:trailing", CosineDdpm()) == Ddim(10, spacing="trailing")
    assert parse_sampler(Ddim(10, spacing="leading").label, CosineDdpm()) == Ddim(10, spacing="leading")
    assert parse_sampler("ddim:10:0.75", CosineDdpm()) == Ddim(10, noise_scale=0.75)
    assert parse_sampler("ddim:10:.75", CosineDdpm()) == Ddim(10, noise_scale=0.75)
    assert parse_sampler("ddpm:100:0", CosineDdpm()) == Ddpm(100, noise_scale=0)
    for sampler, schedule in (
        (Ddim(10, spacing="leading", noise_scale=0.5), CosineDdpm()),
        (Heun(9, noise_scale=0.75), Edm()),
    ):
        assert parse_sampler(sampler.label, schedule) == sampler
    assert parse_sampler("one-step", Edm()) == OneStep(2.5)
    assert parse_sampler("one-step:50", CosineDdpm()) == OneStep(50.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dddim:10", "Unknown sampler 'dddim'. Did you mean 'ddim'"),
        ("ddim:ten", "no valid number after the colon: 'ten'"),
        ("heun:10:leading", "no valid number after the colon: 'leading'"),
        ("heun:10:0.5:1", "too many parts"),
        ("ddim:10:leading:0.5:1", "too many parts"),
        ("ddim:10:0.5:leading", "too many parts"),
        ("ddim:10:leading:-1", "noise scale must be a number of at least 0, not -1"),
    ],
)
def test_bad_sampler_names_are_explained(text, message):
    with pytest.raises(OneDPError, match=message):
        parse_sampler(text, CosineDdpm())


def test_samplers_refuse_the_other_process_and_impossible_steps():
    for sampler, schedule, message in (
        (Ddim(10), Edm(), "does not fit a policy of the process 'edm'. Valid: heun:N"),
        (Heun(10), CosineDdpm(), "does not fit a policy of the process 'ddpm'. Valid: ddpm:N"),
        (Ddim(101), CosineDdpm(), "N must be 1..100"),
        (OneStep(200.0), CosineDdpm(), "one-step:200 is no step of a DDPM process with 100 steps"),
        (OneStep(50.7), CosineDdpm(), "is no step"),
    ):
        with pytest.raises(OneDPError, match=re.escape(message)):
            check_sampler(sampler, schedule)
    for text in ("heun:0", "ddpm:-3", "ddim:0", "one-step:-5", "one-step:0"):
        with pytest.raises(OneDPError, match=r"not possible|above 0"):
            parse_sampler(text, CosineDdpm())
    with pytest.raises(ArtifactError, match="Unknown sampler 'eular'"):
        sampler_from_json({"kind": "eular"})
