"""Passes of every network that can be built are counted, whatever wraps it; what costs nothing is an error."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from onedp.bench import cost
from onedp.bench.cost import counted_passes, probe_cost, steps_within
from onedp.bench.lab import make_data
from onedp.bench.two_modes import SPEC
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import OneDPError
from onedp.methods.config import ActTrainingConfig, DenoisingConfig
from onedp.methods.method import Setting
from onedp.methods.table import build_method
from onedp.nets.build import build_backbone, build_denoiser
from onedp.nets.config import NETWORKS, ActConfig, DitConfig, MlpConfig, NetworkConfig, UnetConfig
from onedp.train.config import LoopConfig

SMALL: dict[str, NetworkConfig] = {
    "unet": UnetConfig(channels=(8, 16), step_embed_dim=8, n_groups=4),
    "mlp": MlpConfig(width=16, blocks=1, step_embed_dim=8),
    "dit": DitConfig(width=16, blocks=1, heads=2, step_embed_dim=8),
    "act": ActConfig(width=16, heads=2, encoder_blocks=1, decoder_blocks=1, latent_dim=2),
}
WRAPPED = [
    dataclasses.replace(config, **{change: True})  # type: ignore[arg-type]
    for config in SMALL.values()
    if not isinstance(config, ActConfig)
    for change in ("gaussian", "prefix")
]


def weights_of(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_every_kind_of_network_is_here():
    assert set(SMALL) == set(NETWORKS)


@pytest.mark.parametrize("config", [*SMALL.values(), *WRAPPED], ids=str)
def test_a_pass_is_all_weights_once_for_each_chunk_and_thrice_with_gradients(config):
    network = build_backbone(config, SPEC, cond_dim=2)
    inputs = torch.zeros(5, 16, 2), torch.zeros(5), torch.zeros(5, 2)
    with counted_passes() as counter:
        with torch.no_grad():
            network(*inputs)
        assert counter.total == 5 * weights_of(network)
        network(*inputs)
        assert counter.total == (1 + 3) * 5 * weights_of(network)


@pytest.mark.parametrize("kind", SMALL)
def test_a_step_of_training_costs_its_batch_forwards_and_backwards(kind, monkeypatch):
    monkeypatch.setattr(cost, "PROBE_STEPS", 4)
    config = ActTrainingConfig() if kind == "act" else DenoisingConfig()

    def untrained(schedule, parameterization):
        return build_denoiser(SMALL[kind], SPEC, schedule, parameterization)

    def build(steps):
        return build_method(config, Setting(steps, 1.0, untrained))

    loop = LoopConfig(steps=4, batch_size=32, cpu=True, threads=1)
    counted = probe_cost(build, make_data(100, seed=0).windows, loop)
    assert counted == 3 * 32 * weights_of(untrained(CosineDdpm(), "eps"))


def test_what_costs_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(cost, "Backbone", ActConfig)  # no network is one
    monkeypatch.setattr(cost, "PROBE_STEPS", 2)

    def untrained(schedule, parameterization):
        return build_denoiser(SMALL["mlp"], SPEC, schedule, parameterization)

    def build(steps):
        return build_method(DenoisingConfig(), Setting(steps, 1.0, untrained))

    with pytest.raises(OneDPError, match=r"No pass through a network was counted .* derive from"):
        probe_cost(build, make_data(100, seed=0).windows, LoopConfig(steps=2, batch_size=8, cpu=True))
    for teacher, step in ((100.0, 0.0), (0.0, 1.0)):
        with pytest.raises(OneDPError, match=r"both must be above 0\. Remove the cells"):
            steps_within(0.1, teacher, step)
