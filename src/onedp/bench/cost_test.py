"""Passes of every network that can be built are counted, whatever wraps it; what costs nothing is an error."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from onedp.bench import cost
from onedp.bench.cost import count_version, counted_passes, probe_cost, spent_by, steps_within
from onedp.bench.lab import make_data
from onedp.bench.two_modes import SPEC
from onedp.diffusion.samplers import Heun
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.errors import OneDPError
from onedp.methods.config import ActTrainingConfig, DenoisingConfig
from onedp.methods.distillation import gradient_at
from onedp.methods.method import Setting
from onedp.methods.student_config import ProgressiveConfig
from onedp.methods.table import METHODS, build_method
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


def test_a_pass_that_is_followed_back_to_its_input_alone_costs_two():
    network = build_backbone(SMALL["unet"], SPEC, cond_dim=2)
    x, t, cond = torch.zeros(5, 16, 2), torch.zeros(5), torch.zeros(5, 2)
    with counted_passes() as counter:
        gradient_at(lambda chunk: network(chunk, t, cond).sum(), x)
        assert counter.total == 2 * 5 * weights_of(network)
        network(x, t, cond)
    assert counter.total == (2 + 3) * 5 * weights_of(network)


def test_methods_that_hold_weights_say_so_in_what_their_cost_is_found_by():
    held = {name for name, entry in METHODS.items() if count_version(entry.preset.config)}
    assert held == {"consistency-policy", "sid", "onedp-s-adversarial"}


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
    assert counted["step"] == 3 * 32 * weights_of(untrained(CosineDdpm(), "eps"))


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


def test_what_was_spent_by_a_milestone_has_every_stages_own_cost():
    cost = {"step": 9.0, "preparation": 2.0, "stages": {"first": 10.0, "second": 3.0}}
    assert spent_by(cost, 100, {"first": 30, "second": 100}) == {"first": 200.0 + 300.0, "second": 500.0 + 210.0}
    assert spent_by({"step": 9.0}, 100, {"first": 30}) == {"first": None}  # counted before there were stages
    assert spent_by(cost, 100, {"first": None, "second": 100}) == {"first": None, "second": None}


def test_stages_are_counted_apart(monkeypatch):
    """The first halving of a student of a few weights has a teacher of many; the others have the student itself."""
    monkeypatch.setattr(cost, "PROBE_STEPS", 16)
    small, large = MlpConfig(width=4, blocks=1, step_embed_dim=8), SMALL["mlp"]

    def untrained(schedule, parameterization):
        return build_denoiser(small, SPEC, schedule, parameterization)

    def build(steps):
        teacher = build_denoiser(large, SPEC, Edm(), "edm")
        return build_method(
            ProgressiveConfig(first_steps=8, pairs=4),
            Setting(steps, 1.0, untrained, teacher, Heun(2), same_network=False),
        )

    loop = LoopConfig(steps=16, batch_size=32, cpu=True, threads=1)
    counted = probe_cost(build, make_data(100, seed=0).windows, loop)
    student, teacher = (weights_of(build_denoiser(each, SPEC, Edm(), "edm")) for each in (small, large))
    assert counted["preparation"] == 4 * 3 * teacher / 16  # four pairs by three passes
    assert counted["stages"] == {
        "euler-4": 32 * (3 * student + 2 * teacher),
        "euler-2": 32 * 5 * student,
        "euler-1": 32 * 5 * student,
    }
