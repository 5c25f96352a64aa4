"""ACT: its loss, what it learns, and that it acts in one pass without noise."""

from __future__ import annotations

import pytest
import torch

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import OneDPError, TrainingError
from onedp.methods.act import ActTraining
from onedp.methods.config import ActTrainingConfig, OptimizerConfig
from onedp.methods.method import Batch
from onedp.nets.act import Act
from onedp.nets.mlp import Mlp
from onedp.nets.state_encoder import StateEncoder
from onedp.types import FieldSpec, PolicySpec

SPEC = PolicySpec(
    observations=(FieldSpec("o", (1,), "1"),),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    rate_hz=10.0,
    horizon=4,
    n_action_steps=2,
)


def method_of(kl_weight: float = 1.0) -> ActTraining:
    torch.manual_seed(0)
    backbone = Act(
        4, 2, 2, n_obs_steps=2, width=16, heads=2, expansion=2, encoder_blocks=1, decoder_blocks=1, latent_dim=2
    )
    policy = Denoiser(StateEncoder(SPEC), backbone, CosineDdpm(), "x0", (4, 2))
    return ActTraining(ActTrainingConfig(kl_weight, OptimizerConfig(lr=3e-3)), policy, steps=100)


def batch_of(n: int) -> Batch:
    """The chunk follows from the observation, or is its opposite: two ways to do the same."""
    generator = torch.Generator().manual_seed(0)
    o = torch.rand(n, 1, 1, generator=generator).expand(n, 2, 1)
    side = torch.randint(0, 2, (n, 1, 1), generator=generator) * 2.0 - 1
    return Batch({"o": o}, (side * o[:, :1]).expand(n, 4, 2))


def test_the_loss_is_the_error_plus_the_weighted_divergence():
    batch = batch_of(8)
    parts = [method_of(weight).loss("act", batch, 0, torch.Generator().manual_seed(1)) for weight in (0.0, 2.0)]
    (free, numbers), (bound, _) = parts
    torch.testing.assert_close(free.detach(), numbers["l1"])
    torch.testing.assert_close((bound - free).detach(), 2 * numbers["kl"])
    method = method_of()
    cond = method.networks["policy"].encode(batch.nobs)
    assert batch.nactions is not None
    mean, log_variance = method.backbone.posterior(batch.nactions, cond)
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(numbers["kl"], exact.sum(dim=1).mean().detach())


def test_every_weight_gets_a_gradient():
    method = method_of()
    method.loss("act", batch_of(8), 0, torch.Generator().manual_seed(1))[0].backward()
    flat = [name for name, p in method.backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert flat == []


def test_the_latent_learns_which_way_it_was_done():
    method = method_of(kl_weight=0.01)
    optimizer = torch.optim.Adam(method.backbone.parameters(), lr=3e-3)
    generator, batch = torch.Generator().manual_seed(1), batch_of(64)
    for step in range(150):
        optimizer.zero_grad()
        loss, numbers = method.loss("act", batch, step, generator)
        loss.backward()
        optimizer.step()
    assert batch.nactions is not None
    assert numbers["l1"] < 0.4 * batch.nactions.abs().mean()  # without the latent nothing beats answering 0
    assert numbers["kl"] > 0.1


def test_it_acts_in_one_pass_whatever_the_chunk_and_the_noise_level():
    method = method_of()
    policy, sampler = method.networks["policy"], method.sampler()
    cond = torch.randn(3, 2)
    with torch.no_grad():
        chunk = sampler.sample(policy, cond, torch.zeros(3, 0, 4, 2))
        assert (sampler.nfe, sampler.draws, tuple(chunk.shape)) == (1, 0, (3, 4, 2))
        other = policy.x0(torch.randn(3, 4, 2), torch.tensor([3, 50, 99]), cond)
        torch.testing.assert_close(chunk, other.clamp(-1, 1))
        torch.testing.assert_close(other, method.backbone.decode(cond, torch.zeros(3, 2)))
    assert method.diagnose(policy, batch_of(8), torch.Generator())["heldout_l1"] > 0


def test_what_it_cannot_train_is_refused():
    denoiser = Denoiser(StateEncoder(SPEC), Mlp(4, 2, 2, 8, 1), CosineDdpm(), "x0", (4, 2))
    with pytest.raises(OneDPError, match=r"trains a network of its own\. Use --network act"):
        ActTraining(ActTrainingConfig(), denoiser, 10)
    with pytest.raises(TrainingError, match="ACT is trained on actions; this data set has observations only"):
        method_of().loss("act", Batch({"o": torch.zeros(2, 2, 1)}), 0, torch.Generator())
    with pytest.raises(OneDPError, match="kl_weight must not be negative, it is -1"):
        ActTrainingConfig(kl_weight=-1)
