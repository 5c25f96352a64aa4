"""Our samplers against the formulas of diffusers' schedulers, written down here once more and independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import Ddim, Ddpm
from onedp.diffusion.schedule import BETA_SCHEDULES, CosineDdpm, schedule_from_json, schedule_to_json
from onedp.errors import ArtifactError

OURS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SCHEDULES = [CosineDdpm(20, beta_schedule=name, beta_start=0.001, beta_end=0.2) for name in BETA_SCHEDULES]


class Wave(nn.Module):
    """A network whose estimates leave [-1, 1], so that clipping matters."""

    def forward(self, x, t, cond):
        return 1.5 * torch.sin(2 * x + 0.1 * t[:, None, None]) + cond[:, :1, None]


def reference_alpha_bars(schedule: CosineDdpm) -> np.ndarray:
    steps, first, last = schedule.steps, schedule.beta_start, schedule.beta_end
    if schedule.beta_schedule == "linear":
        betas = np.linspace(first, last, steps)
    elif schedule.beta_schedule == "scaled_linear":
        betas = np.linspace(first**0.5, last**0.5, steps) ** 2
    else:
        cosine = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - cosine[1:] / cosine[:-1], 0.999)
    return np.cumprod(1 - betas)


def reference_chunk(network, kind, schedule, prediction, n, clip, noise, cond):
    """``scheduler.step`` for each of ``set_timesteps(n)``; the eta of DDIM is 0, the variance of DDPM fixed_small."""
    bars, total = reference_alpha_bars(schedule), schedule.steps
    stride, x = total // n, noise[:, 0].double().numpy()
    for i, t in enumerate(range(stride * (n - 1), -1, -stride)):
        a, a_before = bars[t], bars[t - stride] if t >= stride else 1.0
        times = torch.full((len(x),), t)
        out = network(torch.from_numpy(x).float(), times, cond).double().numpy()
        if prediction == "epsilon":
            x0, eps = (x - (1 - a) ** 0.5 * out) / a**0.5, out
        elif prediction == "sample":
            x0, eps = out, (x - a**0.5 * out) / (1 - a) ** 0.5
        else:
            x0, eps = a**0.5 * x - (1 - a) ** 0.5 * out, a**0.5 * out + (1 - a) ** 0.5 * x
        x0 = x0 if clip is None else x0.clip(-clip, clip)
        if kind == "ddim":
            x = a_before**0.5 * x0 + (1 - a_before) ** 0.5 * eps
            continue
        ratio = a / a_before
        x = a_before**0.5 * (1 - ratio) / (1 - a) * x0 + ratio**0.5 * (1 - a_before) / (1 - a) * x
        if t > 0:
            variance = (1 - a_before) / (1 - a) * (1 - ratio)
            x = x + variance**0.5 * noise[:, i + 1].double().numpy()
    return x


@pytest.mark.parametrize("schedule", SCHEDULES, ids=BETA_SCHEDULES)
@pytest.mark.parametrize("prediction", OURS)
@pytest.mark.parametrize(
    "sampler", [Ddim(5, 1.0, "leading", False), Ddim(6, None, "leading", False), Ddpm(20), Ddpm(5, 0.8, "leading")]
)
def test_actions_are_those_of_diffusers(schedule, prediction, sampler):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, sampler.draws, 8, 2, generator=generator)
    cond = torch.randn(3, 4, generator=generator)
    denoiser = Denoiser(nn.Identity(), Wave(), schedule, OURS[prediction], (8, 2))
    ours = sampler.sample(denoiser, cond, noise).double().numpy()
    theirs = reference_chunk(Wave(), sampler.kind, schedule, prediction, sampler.steps, sampler.clip, noise, cond)
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_whose_noise_is_kept_matters_where_estimates_are_clipped():
    noise, cond = torch.randn(3, 1, 8, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(3, 4)
    denoiser = Denoiser(nn.Identity(), Wave(), SCHEDULES[0], "eps", (8, 2))
    clipped, own = (Ddim(5, 1.0, "leading", again).sample(denoiser, cond, noise) for again in (True, False))
    assert not torch.allclose(clipped, own, atol=1e-2)


def test_schedules_of_before_still_load_and_new_ones_round_trip():
    assert schedule_from_json({"kind": "ddpm", "steps": 100, "max_beta": 0.999}) == CosineDdpm()
    assert schedule_from_json(schedule_to_json(SCHEDULES[1])) == SCHEDULES[1]
    with pytest.raises(ArtifactError, match=r"Unknown beta schedule 'linnear'\. Did you mean 'linear'\?"):
        CosineDdpm(beta_schedule="linnear")
    with pytest.raises(ArtifactError, match=r"beta_start \(0.5\) and beta_end \(0.1\) must rise"):
        CosineDdpm(beta_schedule="linear", beta_start=0.5, beta_end=0.1)
