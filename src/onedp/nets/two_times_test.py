"""The second time: nothing at first, exact at the same time, and a constant once the arrival is fixed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow
from onedp.errors import OneDPError
from onedp.nets.mlp import Mlp
from onedp.nets.two_times import JumpDenoiser, clean_time
from onedp.nets.unet1d import Unet1d

CHUNK = (4, 2)


class NoObservation(nn.Module):
    def forward(self, nobs):
        return next(iter(nobs.values())).flatten(1)


def denoiser_of(backbone, schedule, parameterization):
    torch.manual_seed(0)
    net = Mlp(*CHUNK, cond_dim=3, width=16, blocks=1) if backbone == "mlp" else Unet1d(2, 3, (8, 16), 8, n_groups=4)
    for parameter in net.parameters():  # an untrained MLP does not heed its condition
        nn.init.normal_(parameter, std=0.2)
    return Denoiser(NoObservation(), net, schedule, parameterization, CHUNK)


@pytest.mark.parametrize("backbone", ["mlp", "unet"])
@pytest.mark.parametrize(
    ("schedule", "parameterization", "t"),
    [(Edm(), "edm", [0.1, 5.0]), (CosineDdpm(), "v", [10, 80]), (Flow(), "flow", [0.2, 1.0])],
    ids=["edm", "ddpm", "flow"],
)
def test_jumps(backbone, schedule, parameterization, t):
    plain = denoiser_of(backbone, schedule, parameterization)
    jump = JumpDenoiser(copy.deepcopy(plain))
    times, x, cond = torch.tensor(t), torch.randn(2, *CHUNK), torch.randn(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(jump.x0(x, times, cond), plain.x0(x, times, cond))  # starts as it was
        nn.init.normal_(jump.arrival[-1].weight, std=0.1)  # type: ignore[arg-type]
        torch.testing.assert_close(jump.jump(x, times, times, cond), x, atol=1e-5, rtol=1e-4)
        elsewhere = schedule.ode_times(torch.tensor([0.5, 0.6]))
        to_clean, half_way = (jump.raw_to(x, times, s, cond) for s in (clean_time(schedule, times), elsewhere))
        assert (to_clean - half_way).abs().max() > 1e-3  # the arrival matters
        alone = jump.without_arrival()
        torch.testing.assert_close(alone.raw(x, times, cond), to_clean, atol=1e-4, rtol=1e-4)
    assert {k: v.shape for k, v in alone.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    assert not any(a is b for a in alone.parameters() for b in jump.parameters())


def test_other_backbones_are_refused():
    with pytest.raises(OneDPError, match="need a U-Net, MLP or transformer, not Identity"):
        JumpDenoiser(Denoiser(NoObservation(), nn.Identity(), Edm(), "edm", CHUNK))
