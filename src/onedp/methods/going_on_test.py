"""A student that goes on from plans: masks as the executor's, and what the teacher's guidance makes, in one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.inpainting import sample_continuing
from onedp.diffusion.samplers import Heun
from onedp.diffusion.schedule import Edm
from onedp.methods.config import OptimizerConfig
from onedp.methods.going_on import PLANNED, WEIGHTS, GoingOn, drawn_weights
from onedp.methods.method import Batch, Setting
from onedp.methods.student_config import GoingOnConfig
from onedp.nets.mlp import Mlp
from onedp.nets.prefix import PrefixBackbone, with_plan
from onedp.runtime.requests import prefix_weights

CHUNK = (8, 1)
PLAN = CHUNK[0] * (CHUNK[1] + 1)


class Newest(nn.Module):
    """The condition is the newest observation."""

    def forward(self, nobs):
        return nobs["o"][:, -1]


class SmoothGaussian(Denoiser):
    """The best estimate for chunks whose steps hang together, as a trajectory's do, about the observation."""

    def __init__(self):
        super().__init__(Newest(), nn.Identity(), Edm(), "edm", CHUNK)
        i = torch.arange(CHUNK[0])
        self.cov = 0.25 * (torch.exp(-((i[:, None] - i[None]) ** 2) / 8.0) + 1e-3 * torch.eye(CHUNK[0]))

    def x0(self, x_t, t, cond):
        sigma = self.schedule.sigma(t)[:, None, None]
        gain = self.cov @ torch.linalg.inv(self.cov + sigma**2 * torch.eye(CHUNK[0]))
        mean = cond[:, None]  # (B, 1, 1)
        return mean + gain @ (x_t - mean)


def untrained(schedule, parameterization):
    torch.manual_seed(0)
    network = PrefixBackbone(Mlp(*CHUNK, cond_dim=1 + PLAN, width=96, blocks=2), 1, PLAN)
    return Denoiser(Newest(), network, schedule, parameterization, CHUNK)


@pytest.mark.parametrize("ticks", [1, 2, 5])
def test_the_student_has_met_every_mask_that_an_executor_may_ask_with(ticks):
    """At control rates above the policy's, too, where the executor's mask is sampled at the policy's steps."""
    length, past = 16, 1
    future = length - past
    drawn = drawn_weights(40_000, length, past, torch.Generator().manual_seed(0)).numpy()
    assert (drawn[:, :past] == 0).all()
    assert ((drawn >= 0) & (drawn <= 1)).all()
    for delay in range(future // 2 * ticks + 1):
        for overlap in range(delay, future * ticks + 1, ticks):
            asked = prefix_weights(future * ticks, overlap, delay)[::ticks]
            assert np.abs(drawn[:, past:] - asked).max(axis=1).min() < 0.1, (delay, overlap)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> GoingOn:
    rate = OptimizerConfig(lr=2e-3, betas=(0.9, 0.999), clip_norm=1.0)
    config = GoingOnConfig(optimizer=rate, pairs=6000, huber=None, acting_noise_scale=1.0, ema=None)
    steps = 700
    method = GoingOn(config, Setting(steps, None, untrained, SmoothGaussian(), Heun(10, clip=None), same_network=False))
    folder: Path = tmp_path_factory.mktemp("run")
    nobs = {"o": torch.linspace(-0.5, 0.5, 500)[:, None, None]}
    generator = torch.Generator().manual_seed(0)
    method.prepare(nobs, folder, "key", generator)
    again = GoingOn(config, Setting(steps, None, untrained, SmoothGaussian(), Heun(10, clip=None), same_network=False))
    again.prepare(nobs, folder, "key", generator)  # kept beside the run
    torch.testing.assert_close(again.pairs.nobs[PLANNED], method.pairs.nobs[PLANNED])
    optimizer = torch.optim.Adam(method.networks["student"].parameters(), lr=2e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        optimizer.zero_grad()
        method.loss("student", Batch({"o": torch.zeros(128, 1, 1)}), step, generator)[0].backward()
        optimizer.step()
    return method


def test_half_of_the_pairs_stand_alone_and_half_go_on(trained):
    pairs = trained.pairs
    assert len(pairs.noise) == 6000
    assert (pairs.nobs[WEIGHTS][:3000] == 0).all()
    torch.testing.assert_close(pairs.nobs["o"][3000:], pairs.nobs["o"][:3000])
    held = pairs.nobs[WEIGHTS][3000:, :, None] == 1
    assert held.any()
    gap = (pairs.target[3000:] - pairs.nobs[PLANNED][3000:]).abs()
    assert gap[held].mean() < 0.1 * gap[~held].mean()  # the teacher kept what it was held to
    torch.testing.assert_close(pairs.nobs[PLANNED][3000:], pairs.target[:3000])


def test_one_pass_makes_what_guidance_makes_of_the_same_noise(trained):
    student = trained.networks["student"]
    generator = torch.Generator().manual_seed(9)
    noise = torch.randn((500, 1, *CHUNK), generator=generator)
    cond = torch.linspace(-0.5, 0.5, 500)[:, None]
    planned = Heun(10, clip=None).sample(trained.teacher, cond, torch.randn((500, 1, *CHUNK), generator=generator))
    weights = torch.tensor(prefix_weights(8, 6, 3))[None].repeat(500, 1)
    guided = sample_continuing(Heun(10, clip=None), trained.teacher, cond, noise, planned, weights)
    free = Heun(10, clip=None).sample(trained.teacher, cond, noise)
    with torch.no_grad():
        going_on = trained.sampler().sample(student, with_plan(cond, planned, weights), noise)
        alone = trained.sampler().sample(student, cond, noise)

    def distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).square().mean().sqrt())

    assert distance(alone, free) < 0.25 * distance(planned, free)
    assert distance(going_on, guided) < 0.25 * distance(free, guided)
    assert distance(going_on[:, :3], planned[:, :3]) < 0.2 * distance(alone[:, :3], planned[:, :3])
