"""Several noise draws for one encoded observation."""

from __future__ import annotations

import pytest
import torch

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal
from onedp.diffusion.schedule import CosineDdpm, diffuse
from onedp.errors import OneDPError
from onedp.methods.config import DenoisingConfig
from onedp.methods.denoising import denoising_loss
from onedp.methods.method import Batch
from onedp.nets.mlp import Mlp

CHUNK = (4, 2)
OBS = torch.linspace(-1, 1, 6)[:, None, None].expand(6, 2, 1)


class CountingEncoder(torch.nn.Module):
    """The last observation, and how many were asked for."""

    def __init__(self):
        super().__init__()
        self.encoded = 0

    def forward(self, nobs):
        self.encoded += len(nobs["o"])
        return nobs["o"][:, -1]


def denoiser():
    torch.manual_seed(0)
    made = Denoiser(CountingEncoder(), Mlp(*CHUNK, cond_dim=1, width=32, blocks=1), CosineDdpm(), "eps", CHUNK)
    for weights in made.parameters():  # a fresh network may answer zero whatever it is asked
        torch.nn.init.normal_(weights, std=0.2)
    return made


def test_draws_share_one_encoding_and_each_chunk_keeps_its_own_observation():
    network, chunks, draws = denoiser(), torch.randn(6, *CHUNK, generator=torch.Generator().manual_seed(1)), 3
    loss = denoising_loss(network, chunks, Batch({"o": OBS}), torch.Generator().manual_seed(2), draws)
    assert network.encoder.encoded == 6
    generator = torch.Generator().manual_seed(2)
    t = network.schedule.training_times(18, generator)
    eps = normal((18, *CHUNK), generator)
    by_hand = []
    for i in range(18):
        window, level = i // draws, t[i : i + 1]
        x_t = diffuse(network.schedule, chunks[window][None], level, eps[i][None])
        by_hand.append((network.raw(x_t, level, OBS[window, -1][None]) - eps[i]).square().mean())
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())


def test_no_draw_is_refused():
    with pytest.raises(OneDPError, match="noise_draws must be at least 1, it is 0"):
        DenoisingConfig(noise_draws=0)
