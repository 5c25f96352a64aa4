"""The table of a sampler gives what the sampler gives, on a network that is not linear."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import Ddim, Ddpm, Heun
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.export.linear_sampler import read_off

SAMPLERS = [
    (CosineDdpm(), Ddim(4)),
    (CosineDdpm(), Ddim(3, clip=0.3, spacing="leading")),
    (CosineDdpm(), Ddim(4, recompute_eps=False)),
    (CosineDdpm(), Ddim(4, noise_scale=0.5)),
    (Edm(), Heun(3, noise_scale=0.5)),
    (CosineDdpm(), Ddpm(100)),
    (CosineDdpm(), Ddpm(5, clip=None)),
    (Edm(), Heun(5)),
    (Edm(), Heun(3, clip=0.4)),
]


class Bent(Denoiser):
    """An answer that is not linear in its input and often beyond every clip."""

    def x0(self, x_t, t, cond):
        return 1.6 * torch.sin(x_t.asinh() + 0.01 * t.float().reshape(-1, 1, 1))


@pytest.mark.parametrize(("schedule", "sampler"), SAMPLERS, ids=lambda value: getattr(value, "label", ""))
def test_the_table_is_the_sampler(schedule, sampler):
    denoiser = Bent(nn.Identity(), nn.Identity(), schedule, "x0", (4, 2))
    noise = torch.randn(3, sampler.draws, 4, 2, generator=torch.Generator().manual_seed(0))
    cond = torch.zeros(3, 1)
    expected = sampler.sample(denoiser, cond, noise)
    table = read_off(sampler, denoiser)
    assert len(table.times) == sampler.nfe
    passes, limit = sampler.nfe, sampler.clip or torch.inf
    history = torch.cat([noise.double(), torch.zeros(3, 2 * passes, 4, 2, dtype=torch.float64)], dim=1)
    for number, time in enumerate(table.times):
        x = torch.einsum("h,bhta->bta", table.weights[number], history)
        answer = denoiser.x0(x.float(), time.expand(3), cond).double()
        history[:, sampler.draws + number] = answer.clamp(-limit, limit)
        history[:, sampler.draws + passes + number] = answer
    chunk = torch.einsum("h,bhta->bta", table.weights[-1], history).clamp(-limit, limit)
    torch.testing.assert_close(chunk.float(), expected, atol=2e-4, rtol=1e-4)
    assert expected.std() > 0.1
