"""How much noise a student reads while it is matched, and what it acts with then."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from onedp.diffusion.analytic import GaussianDenoiser
from onedp.diffusion.samplers import Ddim, Heun
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.methods import onedp as onedp_module
from onedp.methods.config import OptimizerConfig
from onedp.methods.input_noise import LOG_GAIN, annealed_noise, gain_of, without_gain
from onedp.methods.method import Batch, OptimizerRole
from onedp.methods.onedp import OneDp
from onedp.methods.onedp_config import OneDpConfig

CHUNK = (4, 2)
MEAN = torch.linspace(-0.5, 0.5, 8).reshape(CHUNK)
BATCH = Batch({"o": torch.zeros(256, 2, 1)})
STEPS = 400
STILL = OptimizerConfig(lr=1e-9, betas=(0.0, 0.999), decay="cosine")


def method_of(schedule=None, **changes):
    """A Gaussian teacher with deviation 0.2, and a student that stays what it is but for its noise."""
    schedule = schedule or Edm()
    tracker = OptimizerConfig(lr=2e-2, betas=(0.0, 0.999))
    config = OneDpConfig(**{"generator": STILL, "tracker": tracker, "tracker_warmup": 20, **changes})
    sampler = Ddim(10, clip=None) if isinstance(schedule, CosineDdpm) else Heun(10, clip=None)
    return OneDp(config, GaussianDenoiser(schedule, MEAN, 0.2), sampler, STEPS)


def set_log_gain(method, value):
    with torch.no_grad():
        method.networks["generator"].get_parameter(LOG_GAIN).fill_(value)


def spread(method, noise_scale=1.0):
    """Of the student's actions at the given factor on its noise."""
    z = noise_scale * torch.randn(4000, *CHUNK, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        return method.one_step.generate(method.networks["generator"], torch.zeros(4000, 1), z).std(dim=0).mean().item()


def train(method, steps=STEPS):
    optimizers = {
        name: torch.optim.Adam(role.parameter_groups(method.networks[role.network]), betas=role.config.betas)
        for name, role in method.optimizers.items()
    }
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for name in method.updates(step):
            for group in optimizers[name].param_groups:
                group["lr"] = group["factor"] * method.optimizers[name].config.lr * (1 - step / steps)
            optimizers[name].zero_grad()
            method.loss(name, BATCH, step, generator)[0].backward()
            optimizers[name].step()


@pytest.mark.parametrize("schedule", [CosineDdpm(), Edm()], ids=["ddpm", "edm"])
def test_the_gains_gradient_is_that_of_finite_differences(schedule, monkeypatch):
    """Of the inner product of the student's actions with what is held fixed in the loss."""
    method = method_of(schedule, matching_noise="learned")
    direction = torch.randn(256, *CHUNK, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(onedp_module, "onedp_gradient", lambda *_: direction)
    student = method.networks["generator"].double()
    student.log_std.data.zero_()  # a student whose noise is seen in its actions
    h = 1e-3
    for at in (0.0, -0.7):

        def loss_at(log_gain):
            set_log_gain(method, log_gain)
            return method.loss("generator", BATCH, 100, torch.Generator().manual_seed(2))[0]

        (found,) = torch.autograd.grad(loss_at(at), student.get_parameter(LOG_GAIN))
        expected = (loss_at(at + h) - loss_at(at - h)).item() / (2 * h)
        assert abs(expected) > 1e-2
        assert found.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("schedule", [CosineDdpm(), Edm()], ids=["ddpm", "edm"])
@pytest.mark.parametrize("wider", [2.0, 0.6])
def test_the_gain_learns_the_spread_that_the_weights_do_not(schedule, wider):
    """A student that scatters ``wider`` times as much as its teacher needs 1 / ``wider`` of the noise."""
    method = method_of(schedule, matching_noise="learned", noise_gain_lr=0.02)
    student = method.networks["generator"]
    with torch.no_grad():
        low, high = -4.0, 4.0  # of the student's own log deviation, by bisection
        for _ in range(40):
            student.log_std.fill_((low + high) / 2)
            low, high = (low, (low + high) / 2) if spread(method) > wider * 0.2 else ((low + high) / 2, high)
    assert spread(method) == pytest.approx(wider * 0.2, rel=1e-3)
    train(method)
    finished = method.finished(student)
    assert method.sampler().noise_scale == pytest.approx(1 / wider, rel=0.07)
    assert spread(method, method.sampler().noise_scale) == pytest.approx(0.2, rel=0.07)
    assert finished.state_dict().keys() == method.teacher.state_dict().keys()


def test_the_gain_is_no_part_of_the_warm_ups(tmp_path):
    """It begins to move with matching: pairs and tracker see all of the noise until then."""
    method = method_of(matching_noise="learned", regression_steps=3, regression_pairs=40)
    method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    losses = [method.loss("regression", BATCH, 0, torch.Generator().manual_seed(0))[0]]
    losses[0].backward()
    assert method.networks["generator"].get_parameter(LOG_GAIN).grad is None
    set_log_gain(method, -1.0)
    losses.append(method.loss("regression", BATCH, 0, torch.Generator().manual_seed(0))[0])
    assert losses[0].item() == losses[1].item()
    set_log_gain(method, 0.0)
    train(method, 23)
    assert gain_of(method.networks["generator"]) == 1
    assert method.sampler().noise_scale == 1


def test_a_finished_generator_acts_as_it_did_with_its_gain():
    """The factor is in the sampler then, and in the network no more; the network in training keeps it."""
    method = method_of(matching_noise="learned")
    set_log_gain(method, math.log(0.6))
    student = method.networks["generator"]
    z = torch.randn(5, 1, *CHUNK, generator=torch.Generator().manual_seed(3))
    finished = method.finished(student)
    with torch.no_grad():
        acted = replace(method.sampler(), clip=None).sample(finished, torch.zeros(5, 1), z)
        trained = method.one_step.generate(student, torch.zeros(5, 1), gain_of(student) * z[:, 0])
    torch.testing.assert_close(acted, trained)
    assert LOG_GAIN in student.state_dict()
    assert LOG_GAIN not in finished.state_dict()
    averaged = copy.deepcopy(student)
    with torch.no_grad():
        averaged.get_parameter(LOG_GAIN).fill_(math.log(0.8))
    method.finished(averaged)  # the sampler belongs to the network that is saved, not to the last weights
    assert method.sampler().noise_scale == pytest.approx(0.8)
    assert torch.equal(without_gain(averaged).get_parameter("log_std"), student.get_parameter("log_std"))


def test_annealed_noise_is_whole_at_the_first_step_of_matching_and_the_acting_scale_at_the_last(monkeypatch):
    method = method_of(matching_noise="annealed", acting_noise_scale=0.25, regression_steps=80, regression_pairs=1)
    whole = method_of(regression_steps=80, regression_pairs=1)
    assert method.settled_step == 100
    middle = 1 - 0.75 * 150 / 299
    for step, expected in ((0, 1.0), (90, 1.0), (100, 1.0), (250, middle), (399, 0.25)):
        z, plain = (each._student_noise(BATCH, step, torch.Generator().manual_seed(0)) for each in (method, whole))
        torch.testing.assert_close(z, expected * plain)
    assert method.sampler().noise_scale == 0.25
    assert annealed_noise(0, 0, 0, 0.5) == 1.0  # matching of one step
    seen = []

    def spy(actions, *rest):
        seen.append(actions.detach())
        return torch.zeros_like(actions)

    monkeypatch.setattr(onedp_module, "onedp_gradient", spy)
    for each, step in ((method, 100), (method, 399), (whole, 399)):
        each.loss("generator", BATCH, step, torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], seen[2])
    assert seen[1].std(dim=0).mean().item() == pytest.approx(0.25 * seen[2].std(dim=0).mean().item(), rel=1e-4)


@pytest.mark.parametrize("schedule", [CosineDdpm(), Edm()])
def test_pairs_from_less_noise_are_what_the_teacher_answers_to_that(schedule, tmp_path):
    """The solutions of a Gaussian teacher are affine in the noise that they begin with."""
    pools = {}
    for scale in (1.0, 0.25):
        method = method_of(schedule, regression_steps=1, regression_pairs=64, pair_noise_scale=scale)
        folder = tmp_path / str(scale)
        method.prepare({"o": torch.zeros(64, 2, 1)}, folder, "key", torch.Generator().manual_seed(3))
        pools[scale] = method.pairs
    whole, less = pools[1.0], pools[0.25]
    torch.testing.assert_close(less.noise, 0.25 * whole.noise)
    around_mean = {scale: pool.target - pool.target.mean(dim=0) for scale, pool in pools.items()}
    torch.testing.assert_close(around_mean[0.25], 0.25 * around_mean[1.0], atol=2e-4, rtol=1e-3)
    assert whole.target.std(dim=0).mean() > 0.1


def test_without_a_lever_every_number_is_what_it_was(tmp_path):
    """No parameter, no draw and no key more; acting_noise_scale alone changes nothing of training."""
    plain, other = method_of(), method_of(acting_noise_scale=0.5)
    for method in (plain, other):
        assert LOG_GAIN not in method.networks["generator"].state_dict()
        assert method.finished(method.networks["generator"]) is method.networks["generator"]
    losses = [
        method.loss(name, BATCH, 100, torch.Generator().manual_seed(0))[0]
        for method in (plain, other)
        for name in ("tracker", "generator")
    ]
    assert torch.equal(losses[0], losses[2])
    assert torch.equal(losses[1], losses[3])
    z = torch.randn(256, *CHUNK, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain._student_noise(BATCH, 399, torch.Generator().manual_seed(0)), z)


def test_parameters_with_a_rate_of_their_own_are_groups_of_their_own():
    method = method_of(matching_noise="learned", noise_gain_lr=0.03)
    student = method.networks["generator"]
    groups = method.optimizers["generator"].parameter_groups(student)
    assert [group["factor"] * STILL.lr for group in groups] == pytest.approx([STILL.lr, 0.03])
    assert groups[1]["params"] == [student.get_parameter(LOG_GAIN)]
    assert len(groups[0]["params"]) + 1 == len(list(student.parameters()))
    plain = OptimizerRole("generator", STILL, 0, 1).parameter_groups(student)
    assert [len(group["params"]) for group in plain] == [len(list(student.parameters()))]
