"""Every method beside OneDP on data whose distribution is known: does it learn it, and who may move what."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from onedp.diffusion.analytic import GaussianDenoiser, TwoModeDenoiser
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal
from onedp.diffusion.few_step_samplers import Euler
from onedp.diffusion.samplers import Heun
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow, ddim_step, diffuse, expand_like
from onedp.errors import OneDPError, TrainingError
from onedp.methods import trajectory
from onedp.methods.adversarial import Critic, critic_loss, realism_loss
from onedp.methods.cloning_config import CloningConfig, MeanFlowConfig, MipConfig
from onedp.methods.config import DenoisingConfig, MethodConfig, OptimizerConfig
from onedp.methods.distillation import gradient_at, ode_step, pseudo_huber
from onedp.methods.fisher import fisher_loss
from onedp.methods.meanflow import average_velocity_target
from onedp.methods.method import Batch, Method, Setting
from onedp.methods.mip import Mip
from onedp.methods.onedp import OneDp
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.progressive import Progressive, stage_ends, two_step_target
from onedp.methods.student_config import (
    ConsistencyConfig,
    GaussianConfig,
    PairsConfig,
    ProgressiveConfig,
    RegressionConfig,
    TrajectoryConfig,
)
from onedp.methods.table import build_method
from onedp.nets.gaussian import GaussianHead
from onedp.nets.mlp import Mlp
from onedp.nets.two_times import JumpDenoiser

CHUNK = (4, 2)
MEAN = torch.linspace(-0.5, 0.5, 8).reshape(CHUNK)
STD = 0.2
N = 128
BATCH = Batch({"o": torch.zeros(N, 2, 1)})
FAST = OptimizerConfig(lr=3e-3, betas=(0.9, 0.999), decay="cosine", clip_norm=1.0)


class NoObservation(torch.nn.Module):
    """A condition without content."""

    def forward(self, nobs):
        return torch.zeros(len(nobs["o"]), 1)


def untrained(schedule, parameterization):
    torch.manual_seed(0)
    return Denoiser(NoObservation(), Mlp(*CHUNK, cond_dim=1, width=64, blocks=1), schedule, parameterization, CHUNK)


class WarmMlp(Mlp):
    """An MLP added to the exact EDM teacher, as a student begins that has its teacher's weights."""

    def forward(self, chunk, t, cond):
        sigma = (t / 250).exp()[:, None, None]  # Edm.network_time
        norm = (sigma**2 + 0.25).sqrt()
        x_t = norm * chunk
        x0 = MEAN + STD**2 / (STD**2 + sigma**2) * (x_t - MEAN)
        return (x0 - 0.25 / norm**2 * x_t) / (0.5 * sigma / norm) + super().forward(chunk, t, cond)


def warm(schedule, parameterization):
    torch.manual_seed(0)
    assert parameterization == "edm"
    network = WarmMlp(*CHUNK, cond_dim=1, width=64, blocks=1)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    return Denoiser(NoObservation(), network, schedule, parameterization, CHUNK)


def untrained_gaussian(schedule, parameterization):
    torch.manual_seed(0)
    head = GaussianHead(Mlp(CHUNK[0], 2 * CHUNK[1], cond_dim=1, width=64, blocks=1))
    return Denoiser(NoObservation(), head, schedule, parameterization, CHUNK)


def setting_of(steps, teacher=None, make=untrained):
    sampler = Heun(30, clip=None) if teacher is not None and isinstance(teacher.schedule, Edm) else Euler(90, clip=None)
    return Setting(steps, None, make, teacher, sampler if teacher is not None else None, same_network=False)


def train(method: Method, steps: int, batches=None) -> None:
    """What the training loop does, without files."""
    optimizers = {
        name: torch.optim.Adam(method.networks[role.network].parameters(), lr=role.config.lr, betas=role.config.betas)
        for name, role in method.optimizers.items()
    }
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        method.begin_step(step)
        for name in method.updates(step):
            role = method.optimizers[name]
            progress = (step - role.first_step) / max(1, role.last_step - role.first_step)
            for group in optimizers[name].param_groups:
                group["lr"] = role.config.lr * (1 - progress)
            optimizers[name].zero_grad()
            batch = BATCH if batches is None else batches(generator)
            method.loss(name, batch, step, generator)[0].backward()
            torch.nn.utils.clip_grad_norm_(method.networks[role.network].parameters(), 1.0)
            optimizers[name].step()


def samples(method: Method, n: int = 3000, sampler: Any = None) -> torch.Tensor:
    network, sampler = method.finished(method.networks[method.result]), sampler or method.sampler()
    noise = torch.randn((n, sampler.draws, *CHUNK), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        return sampler.sample(network, torch.zeros(n, 1), noise)


def gaussian_batch(generator: torch.Generator) -> Batch:
    return Batch(BATCH.nobs, MEAN + STD * torch.randn((N, *CHUNK), generator=generator))


def distil(config: MethodConfig, teacher, steps, tmp_path, make=untrained) -> Method:
    method = build_method(config, setting_of(steps, teacher, make))
    method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    train(method, steps)
    return method


def assert_gaussian(found: torch.Tensor, mean_within: float, spread_within: float) -> None:
    assert (found.mean(dim=0) - MEAN).abs().max() < mean_within
    assert found.std(dim=0).mean().item() == pytest.approx(STD, rel=spread_within)


PAIRS: dict[str, Any] = {"optimizer": FAST, "pairs": 2000, "ema": None}
DISTILLATIONS: dict[str, tuple[MethodConfig, int]] = {
    "regression": (RegressionConfig(**PAIRS, acting_noise_scale=1.0), 500),
    "consistency": (ConsistencyConfig(**PAIRS, bins=8, huber=0.1), 500),
    "trajectory": (TrajectoryConfig(**PAIRS, bins=8, huber=0.1), 500),
    "progressive": (ProgressiveConfig(**PAIRS, first_steps=16), 800),
    "gaussian": (GaussianConfig(**PAIRS, likelihood_steps=100), 400),
}


@pytest.mark.parametrize("schedule", [Edm(), CosineDdpm()], ids=["edm", "ddpm"])
@pytest.mark.parametrize(("name", "make"), [("regression", untrained), ("gaussian", untrained_gaussian)])
def test_distillations_learn_a_gaussian_teacher_from_scratch(name, make, schedule, tmp_path):
    config, steps = DISTILLATIONS[name]
    method = distil(config, GaussianDenoiser(schedule, MEAN, STD), steps, tmp_path, make)
    assert method.sampler().nfe == 1
    assert_gaussian(samples(method), mean_within=0.05, spread_within=0.15)


@pytest.mark.parametrize("name", ["consistency", "trajectory"])
def test_few_step_distillations_learn_a_gaussian_teacher_whose_weights_they_begin_with(name, tmp_path):
    """One denoising step from noise gives the mean alone: the spread is what there is to learn."""
    config, steps = DISTILLATIONS[name]
    method = distil(config, GaussianDenoiser(Edm(), MEAN, STD, "edm"), steps, tmp_path, warm)
    assert method.sampler().nfe == 1
    assert_gaussian(samples(method), mean_within=0.05, spread_within=0.15)


def test_progressive_distillation_learns_what_its_first_teachers_steps_give(tmp_path):
    """First-order steps fall short of the spread, and so does the student of sixteen of them."""
    config, steps = DISTILLATIONS["progressive"]
    teacher = GaussianDenoiser(Edm(), MEAN, STD, "edm")
    method = distil(config, teacher, steps, tmp_path, warm)
    found, first = samples(method), Euler(16, clip=None)
    noise = torch.randn((3000, 1, *CHUNK), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = first.sample(teacher, torch.zeros(3000, 1), noise)
    assert method.sampler() == Euler(1, clip=None)
    assert (found - expected).square().mean().sqrt() < 0.25 * STD
    assert found.std(dim=0).mean().item() == pytest.approx(expected.std(dim=0).mean().item(), rel=0.1)


@pytest.mark.parametrize("name", ["regression", "progressive"])
def test_distillations_keep_both_modes_of_a_teacher_and_hit_them(name, tmp_path):
    """Regression in one step cannot switch modes for nothing; all keep the shares."""
    config, steps = DISTILLATIONS[name]
    teacher = TwoModeDenoiser(Edm(), CHUNK, weight=0.7, std=0.1)
    found = samples(distil(config, teacher, steps, tmp_path)).mean(dim=(1, 2))
    assert (found > 0).float().mean().item() == pytest.approx(0.7, abs=0.08)
    assert (found.abs() > 0.3).float().mean() > 0.85


def test_a_gaussian_policy_falls_between_the_modes_or_on_one(tmp_path):
    """What an expressive student is for: the reverse KL of a Gaussian picks the heavier mode."""
    config = replace(cast(GaussianConfig, DISTILLATIONS["gaussian"][0]), likelihood_steps=20)
    teacher = TwoModeDenoiser(Edm(), CHUNK, weight=0.7, std=0.1)
    found = samples(distil(config, teacher, 400, tmp_path, untrained_gaussian)).mean(dim=(1, 2))
    assert found.mean().item() > 0.3  # the heavier mode is at 0.5, the mean of the data at 0.2
    assert found.std() < 0.2  # an untrained one has 0.32


@pytest.mark.parametrize("schedule", [Edm(), CosineDdpm()], ids=["edm", "ddpm"])
@pytest.mark.parametrize("changes", [{"divergence": "fisher"}, {"normalize_gradient": True}], ids=["sid", "normalized"])
def test_other_gradients_learn_a_gaussian_teacher(changes, schedule):
    fast = OptimizerConfig(lr=1e-2, betas=(0.0, 0.999))
    config = OneDpConfig(generator=fast, tracker=replace(fast, lr=3e-2), **changes)
    method = OneDp(config, GaussianDenoiser(schedule, MEAN, STD), Heun(10, clip=None), 500)
    student = cast(GaussianDenoiser, method.networks["generator"])
    with torch.no_grad():
        student.mean.add_(0.4)
        student.log_std.sub_(1.0)
    train(method, 500)
    assert_gaussian(samples(method), mean_within=0.03, spread_within=0.08)


def test_a_consistency_warm_start_lowers_its_loss_and_ends_in_a_student_that_acts(tmp_path):
    """From pure noise, where one pass of the teacher gives the mean alone; a little matching follows."""
    slow = OptimizerConfig(lr=1e-4, betas=(0.0, 0.999))
    config = OneDpConfig(
        warm_start="consistency", regression=FAST, regression_steps=500, regression_pairs=2000, regression_huber=0.1,
        tracker_warmup=20, generator=slow, tracker=slow,
    )  # fmt: skip
    teacher = GaussianDenoiser(Edm(), MEAN, STD, "edm")
    method = OneDp(config, teacher, Heun(30, clip=None), 540, warm(Edm(), "edm"))
    assert method.sampler().level == Edm().sigma_max
    method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    assert [method.updates(step) for step in (0, 499, 500, 520)] == [
        ("consistency",), ("consistency",), ("tracker",), ("tracker", "generator"),
    ]  # fmt: skip

    def rms() -> float:
        """With the most bins, on draws of its own."""
        return method.loss("consistency", BATCH, 499, torch.Generator().manual_seed(5))[1]["consistency_rms"].item()

    before, spread = rms(), samples(method).std(dim=0).mean().item()
    train(method, 540)
    assert rms() < 0.7 * before
    assert spread < 0.2 * STD
    assert_gaussian(samples(method), mean_within=0.05, spread_within=0.2)


def test_the_consistency_warm_start_is_the_method_consistencys_loss(tmp_path):
    """The same bins at the same share of the steps, the same draws, the same gradient."""
    teacher, generator = GaussianDenoiser(Edm(), MEAN, STD, "edm"), torch.Generator()
    config = OneDpConfig(warm_start="consistency", regression_steps=200, regression_pairs=300, regression_huber=0.02)
    warm_start = OneDp(config, teacher, Heun(30, clip=None), 210, warm(Edm(), "edm"))
    alone = build_method(ConsistencyConfig(pairs=300), replace(setting_of(200, teacher, warm), same_network=False))
    for step in (0, 150):
        losses, gradients = [], []
        for method, name in ((warm_start, "consistency"), (alone, "student")):
            method.prepare(BATCH.nobs, tmp_path, "key", generator.manual_seed(0))
            loss, _ = method.loss(name, BATCH, step, generator.manual_seed(1))
            losses.append(loss.item())
            gradients.append(
                torch.autograd.grad(loss, [*method.networks[method.result].parameters()], allow_unused=True)
            )
        assert losses[0] == losses[1] > 0
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(*gradients, strict=True))


# --- without a teacher


@pytest.mark.parametrize(
    ("config", "steps", "spread"),
    [
        (CloningConfig(optimizer=FAST), 300, 0.0),
        (MipConfig(optimizer=FAST), 300, 0.0),
        (DenoisingConfig(process="flow", optimizer=FAST), 600, STD),
        pytest.param(MeanFlowConfig(optimizer=FAST), 1500, STD, marks=pytest.mark.slow),
    ],
    ids=["cloning", "mip", "flow-matching", "meanflow"],
)
def test_methods_without_a_teacher_learn_gaussian_data(config, steps, spread):
    method = build_method(config, setting_of(steps))
    train(method, steps, gaussian_batch)
    found = samples(method, sampler=Euler(50, clip=None) if config.kind == "denoising" else None)
    if spread:
        assert_gaussian(found, mean_within=0.05, spread_within=0.4 if config.kind == "meanflow" else 0.15)
    else:
        assert (found.mean(dim=0) - MEAN).abs().max() < 0.05
        assert found.std(dim=0).max() == 0  # no noise goes in


def test_mips_loss_is_that_of_its_paper():
    """|f(0) - a|^2 / 0.9^2 + |f(0.9 a + 0.1 eps) - a|^2 / 0.1^2, each averaged over the chunk."""
    method = cast(Mip, build_method(MipConfig(), setting_of(1)))
    denoiser = GaussianDenoiser(Flow(), MEAN, STD)
    batch, cond = gaussian_batch(torch.Generator().manual_seed(1)), torch.zeros(N, 1)
    actions = cast(torch.Tensor, batch.nactions)
    loss = method.cloning_loss(denoiser, batch, actions, torch.Generator().manual_seed(3))
    eps = normal(actions.shape, torch.Generator().manual_seed(3))
    late, early = (torch.full((len(actions),), t) for t in (1.0, 0.1))
    first = denoiser.x0(torch.zeros_like(actions), late, cond) - actions
    second = denoiser.x0(0.9 * actions + 0.1 * eps, early, cond) - actions
    expected = first.square().mean() / 0.81 + second.square().mean() / 0.01
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("config", [CloningConfig(), MipConfig(), MeanFlowConfig()])
def test_cloning_needs_actions(config):
    method = build_method(config, setting_of(1))
    with pytest.raises(TrainingError, match="trained on actions; this data set has observations only"):
        method.loss("policy", BATCH, 0, torch.Generator().manual_seed(0))
    assert method.diagnose(method.networks["policy"], BATCH, torch.Generator().manual_seed(0)) == {}


# --- gradients


@pytest.mark.parametrize("name", list(DISTILLATIONS))
def test_each_loss_moves_the_student_and_no_teacher(name, tmp_path):
    config, _ = DISTILLATIONS[name]
    teacher = GaussianDenoiser(Edm(), MEAN, STD)
    method = build_method(config, setting_of(200, teacher, untrained_gaussian if name == "gaussian" else untrained))
    method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    for step in (0, 199):
        method.begin_step(step)
        method.networks["student"].zero_grad(set_to_none=True)
        method.loss("student", BATCH, step, torch.Generator().manual_seed(0))[0].backward()
        gradients = [p.grad for p in method.networks["student"].parameters()]
        assert any(g is not None and bool(g.abs().max() > 0) for g in gradients)
        frozen = [teacher, *(network for key, network in method.networks.items() if key != "student")]
        assert all(p.grad is None for network in frozen for p in network.parameters())


def test_the_gradient_at_an_input_is_autodiffs_and_reaches_no_network():
    network = untrained(Edm(), "edm")
    x, t, cond = torch.randn(3, *CHUNK), torch.tensor([0.5, 1.0, 2.0]), torch.zeros(3, 1)
    with torch.no_grad():
        found = gradient_at(lambda chunk: network.x0(chunk, t, cond).square().sum(), x)
    assert all(p.grad is None for p in network.parameters())
    step = 1e-3 * torch.randn_like(x)
    with torch.no_grad():
        ends = [network.x0(x + sign * step, t, cond).square().sum() for sign in (1, -1)]
    assert (found * step).sum().item() == pytest.approx((ends[0] - ends[1]).item() / 2, rel=1e-2)


def test_the_trajectory_loss_is_followed_back_through_the_held_second_jump(tmp_path, monkeypatch):
    """The published code once trained nothing here: its comparison ran without gradients."""
    config = replace(cast(TrajectoryConfig, DISTILLATIONS["trajectory"][0]), denoising_weight=0.0)
    method = build_method(config, setting_of(10, GaussianDenoiser(Edm(), MEAN, STD)))
    method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    student = method.networks["student"]
    loss, _ = method.loss("student", BATCH, 0, torch.Generator().manual_seed(0))
    loss.backward()
    assert max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None) > 0
    student.zero_grad(set_to_none=True)
    monkeypatch.setattr(trajectory, "gradient_at", lambda f, x: 0 * gradient_at(f, x))
    method.loss("student", BATCH, 0, torch.Generator().manual_seed(0))[0].backward()
    assert max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None) == 0


def test_the_critic_learns_to_tell_and_its_doubt_draws_actions_to_the_teachers():
    tracker = untrained(Edm(), "edm")
    tracker.critic = Critic(tracker)
    optimizer = torch.optim.Adam(tracker.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.full((N, *CHUNK), 0.5), torch.full((N, *CHUNK), -0.5)
    t = torch.full((N,), 0.5)
    for _ in range(60):
        optimizer.zero_grad()
        loss = critic_loss(tracker, BATCH, real, BATCH, fake, t, generator)
        loss.backward()
        optimizer.step()
    assert loss < 0.7  # 2 ln 2 = 1.39 for a critic that knows nothing
    eps = torch.randn(fake.shape, generator=generator)
    tracker.zero_grad(set_to_none=True)
    gradient = gradient_at(lambda a: realism_loss(tracker, a, t, eps, BATCH).sum(), fake)
    assert (gradient.sum(dim=(1, 2)) < 0).float().mean() > 0.9  # descending raises the actions
    assert all(p.grad is None for p in tracker.parameters())


def test_the_fisher_loss_is_zero_where_student_and_teacher_agree():
    """Elsewhere its first term alone has the divergence |f - g|^2 as its mean: the tracker's g is a projection."""
    teacher, tracker = GaussianDenoiser(Edm(), MEAN, STD), GaussianDenoiser(Edm(), MEAN + 0.3, STD)
    n = 20_000
    batch, t = Batch({"o": torch.zeros(n, 2, 1)}), torch.full((n,), 0.5)
    noise, eps = torch.randn((2, n, *CHUNK), generator=torch.Generator().manual_seed(0))
    actions = MEAN + 0.3 + STD * noise  # what the tracker says they are
    assert fisher_loss(actions, t, eps, batch, teacher, teacher, 1.2).abs().max() == 0
    with torch.no_grad():
        x_t = diffuse(Edm(), actions, t, eps)
        cond = torch.zeros(n, 1)
        f, g = teacher.x0(x_t, t, cond), tracker.x0(x_t, t, cond)
        scale = (actions - f).abs().mean(dim=(1, 2))
        cross = ((f - g) * (f - actions)).sum(dim=(1, 2))
        assert cross.mean().item() == pytest.approx((f - g).square().sum(dim=(1, 2)).mean().item(), rel=0.05)
        found = fisher_loss(actions, t, eps, batch, teacher, tracker, 1.0)
    torch.testing.assert_close(found, (cross - (f - g).square().sum(dim=(1, 2))) / scale)


# --- what the losses call right


class ExactJump(JumpDenoiser):
    """The flow map of Gaussian data, and its end (the consistency function) as clean estimate."""

    def __init__(self, schedule):
        Denoiser.__init__(self, NoObservation(), torch.nn.Identity(), schedule, "x0", CHUNK)

    def jump(self, x_t, t, s, cond):
        alpha_s, spread_s = self._at(s, x_t)
        alpha_t, spread_t = self._at(t, x_t)
        return alpha_s * MEAN + spread_s / spread_t * (x_t - alpha_t * MEAN)

    def raw(self, x_t, t, cond):
        alpha, spread = self._at(t, x_t)
        return MEAN + STD / spread * (x_t - alpha * MEAN)

    def raw_to(self, x_t, t, s, cond):
        """Average velocity between the times."""
        return (x_t - self.jump(x_t, t, s, cond)) / expand_like(t - s, x_t)

    def _at(self, time, like):
        alpha, sigma = (expand_like(f(time), like) for f in (self.schedule.alpha, self.schedule.sigma))
        return alpha, (alpha**2 * STD**2 + sigma**2).sqrt()


@pytest.mark.parametrize("schedule", [Edm(), CosineDdpm(), Flow()], ids=["edm", "ddpm", "flow"])
@pytest.mark.parametrize("name", ["consistency", "trajectory"])
def test_the_exact_flow_map_has_next_to_no_consistency_loss(name, schedule, tmp_path):
    """With many bins, that is accurate solver steps; the teacher, which answers with means, has a large one."""
    config = replace(cast(ConsistencyConfig, DISTILLATIONS[name][0]), bins=40, first_bins=40)
    teacher = GaussianDenoiser(schedule, MEAN, STD)
    method = build_method(config, setting_of(10, teacher))
    method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    rms = {}
    for who, network in (("exact", ExactJump(schedule)), ("teacher", JumpsOfADenoiser(teacher))):
        method.networks["student"] = network
        generator = torch.Generator().manual_seed(0)
        if name == "consistency":
            rms[who] = method.loss("student", BATCH, 9, generator)[1]["consistency_rms"].item()
        else:
            pairs, _, chunks = method.pairs.draw(N, generator)
            rms[who] = method._trajectory_loss(network, pairs, chunks, torch.zeros(N, 1), 40, generator)[1].item()
    assert rms["exact"] < (0.01 if isinstance(schedule, Edm) else 0.03)
    assert rms["exact"] < 0.5 * rms["teacher"]


class JumpsOfADenoiser(JumpDenoiser):
    """Jumps with a denoiser's estimate of clean data, whatever the arrival."""

    def __init__(self, denoiser):
        Denoiser.__init__(self, NoObservation(), torch.nn.Identity(), denoiser.schedule, "x0", CHUNK)
        self.denoiser = denoiser

    def raw(self, x_t, t, cond):
        return self.denoiser.x0(x_t, t, cond)

    def jump(self, x_t, t, s, cond):
        return ddim_step(self.schedule, x_t, self.denoiser.x0(x_t, t, cond), t, s)


def test_exact_average_velocities_are_their_own_target():
    """The MeanFlow identity on Gaussian data, with the marginal velocity in the place of one sample's."""
    exact = ExactJump(Flow()).double()
    t, r = torch.linspace(0.3, 0.9, 5).double(), torch.linspace(0.0, 0.4, 5).double()
    x_t, cond = torch.randn(5, *CHUNK, generator=torch.Generator().manual_seed(0)).double(), torch.zeros(5, 1)
    teacher = GaussianDenoiser(Flow(), MEAN, STD)
    with torch.no_grad():
        velocity = ((x_t - teacher.x0(x_t.float(), t.float(), cond)) / t[:, None, None]).double()
        target = average_velocity_target(cast(JumpDenoiser, exact), x_t, r, t, velocity, cond)
        torch.testing.assert_close(target, exact.raw_to(x_t, t, r, cond), atol=1e-4, rtol=1e-3)


# --- parts


def test_two_steps_of_the_teacher_are_one_of_the_target():
    teacher = GaussianDenoiser(CosineDdpm(), MEAN, STD)
    t, middle, s = torch.tensor([90, 40]), torch.tensor([60, 20]), torch.tensor([30, 0])
    x_t, cond, last = torch.randn(2, *CHUNK), torch.zeros(2, 1), torch.tensor([False, True])
    with torch.no_grad():
        target = two_step_target(teacher, x_t, (t, middle, s), last, cond)
        x_middle = ddim_step(teacher.schedule, x_t, teacher.x0(x_t, t, cond), t, middle)
        x0 = teacher.x0(x_middle, middle, cond)
        x_s = ddim_step(teacher.schedule, x_middle, x0, middle, s)
    torch.testing.assert_close(ddim_step(teacher.schedule, x_t, target, t, s)[:1], x_s[:1])
    torch.testing.assert_close(target[1:], x0[1:])


def test_stages_share_the_steps_and_each_has_one():
    assert stage_ends([2.0, 1.0, 1.0, 1.0, 2.0, 2.0], 900) == [200, 300, 400, 500, 700, 900]
    assert stage_ends([2.0, 1.0, 1.0, 1.0, 2.0, 2.0], 6) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(OneDPError, match="6 halvings need at least as many steps, not 5"):
        stage_ends([1.0] * 6, 5)
    teacher = GaussianDenoiser(CosineDdpm(steps=40), MEAN, STD)
    with pytest.raises(OneDPError, match="fewer than 64 steps; lower first_steps"):
        Progressive(ProgressiveConfig(), setting_of(10, teacher))


def test_halvings_need_a_power_of_two():
    with pytest.raises(OneDPError, match="a power of two from 2 on, it is 48"):
        ProgressiveConfig(first_steps=48)
    with pytest.raises(OneDPError, match="keeps no average"):
        ProgressiveConfig(ema=PairsConfig().ema)


def test_average_velocities_obey_the_total_derivative():
    """Against differences along the straight path of one noise and one chunk."""
    jump = JumpDenoiser(untrained(Flow(time_scale=10.0), "flow"))
    generator = torch.Generator().manual_seed(0)
    for parameter in jump.parameters():  # an untrained MLP does not heed its times
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    chunks, eps = torch.randn((2, 5, *CHUNK), generator=generator)
    t, r, cond = torch.linspace(0.3, 0.9, 5), torch.linspace(0.0, 0.4, 5), torch.zeros(5, 1)
    with torch.no_grad():
        x_t = diffuse(jump.schedule, chunks, t, eps)
        found = average_velocity_target(jump, x_t, r, t, eps - chunks, cond)
        h = 3e-3
        ends = [
            jump.raw_to(diffuse(jump.schedule, chunks, t + sign * h, eps), t + sign * h, r, cond) for sign in (1, -1)
        ]
        change = (ends[0] - ends[1]) / (2 * h)
    assert change.abs().max() > 0.05
    expected = eps - chunks - (t - r)[:, None, None] * change
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=1e-2)


@pytest.mark.parametrize("schedule", [Edm(), CosineDdpm(), Flow()], ids=["edm", "ddpm", "flow"])
def test_one_solver_step_follows_the_gaussian_ode(schedule):
    """On Gaussian data x - alpha mean grows as sqrt(alpha^2 std^2 + sigma^2) along a trajectory."""
    teacher = GaussianDenoiser(schedule, MEAN, STD)
    edges = schedule.ode_times(torch.linspace(0.3, 0.8, 40))
    x = torch.randn(200, *CHUNK, generator=torch.Generator().manual_seed(0))

    def spread(time):
        return (schedule.alpha(time) ** 2 * STD**2 + schedule.sigma(time) ** 2).sqrt()

    start = schedule.alpha(edges[0]) * MEAN + spread(edges[0]) * x
    end = start
    with torch.no_grad():
        for t, s in itertools.pairwise(edges):
            end = ode_step(teacher, end, t.expand(200), s.expand(200), torch.zeros(200, 1))
    exact = schedule.alpha(edges[-1]) * MEAN + spread(edges[-1]) * x
    tolerance = 0.01 if isinstance(schedule, Edm) else 0.1  # second order, and first
    assert (end - exact).abs().max() < tolerance * spread(edges[-1]) * x.abs().max()


def test_bins_double_at_equal_intervals():
    config = ConsistencyConfig(bins=40, first_bins=5)
    assert [config.bins_at(step / 8) for step in range(9)] == [5, 5, 10, 10, 20, 20, 40, 40, 40]
    assert ConsistencyConfig(bins=12, first_bins=5).bins_at(1.0) == 12
    with pytest.raises(OneDPError, match=r"bins \(5 to 4\) must be 2 or more and not fall"):
        ConsistencyConfig(bins=4, first_bins=5)


def test_pseudo_huber_is_the_squared_error_near_zero_and_linear_far_away():
    near, far = torch.full((1, *CHUNK), 1e-4), torch.full((1, *CHUNK), 10.0)
    assert pseudo_huber(near, None).item() == pytest.approx(1e-8)
    assert pseudo_huber(near, 0.02).item() == pytest.approx(1e-8 / 0.04, rel=0.05)
    assert pseudo_huber(far, 0.02).item() == pytest.approx(10 - 0.02, rel=1e-3)
