"""OneDP on teachers whose score is known exactly, and who may move what."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from onedp.diffusion.analytic import GaussianDenoiser, TwoModeDenoiser
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.few_step_samplers import Euler
from onedp.diffusion.samplers import Ddim, Heun, OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow, diffuse, expand_like
from onedp.errors import OneDPError
from onedp.methods import onedp as onedp_module
from onedp.methods.config import OptimizerConfig
from onedp.methods.distillation import pseudo_huber, step_weights
from onedp.methods.method import Batch
from onedp.methods.onedp import OneDp, onedp_gradient
from onedp.methods.onedp_config import OneDpConfig
from onedp.nets.mlp import Mlp

CHUNK = (4, 2)
MEAN = torch.linspace(-0.5, 0.5, 8).reshape(CHUNK)
BATCH = Batch({"o": torch.zeros(128, 2, 1)})


class NoObservation(torch.nn.Module):
    """A condition without content."""

    def forward(self, nobs):
        return torch.zeros(len(nobs["o"]), 1)


def small_network(schedule):
    """An untrained denoiser with weights, for teachers that have none."""
    torch.manual_seed(0)
    network = Mlp(*CHUNK, cond_dim=1, width=64, blocks=2)
    torch.nn.init.zeros_(network.head.weight)  # start between the modes
    torch.nn.init.zeros_(network.head.bias)
    return Denoiser(NoObservation(), network, schedule, "x0", CHUNK)


def teacher_of(schedule, std=0.2, parameterization="x0"):
    return GaussianDenoiser(schedule, MEAN, std, parameterization)


def method_of(schedule, variant, **changes):
    fast = OptimizerConfig(lr=1e-2, betas=(0.0, 0.999))
    config = OneDpConfig(variant=variant, generator=fast, tracker=replace(fast, lr=3e-2), **changes)
    sampler = {"ddpm": Ddim, "edm": Heun, "flow": Euler}[schedule.kind](10, clip=None)
    method = OneDp(config, teacher_of(schedule), sampler, steps=500)
    student = method.networks["generator"]
    assert isinstance(student, GaussianDenoiser)
    with torch.no_grad():  # a student that has everything to learn
        student.mean.add_(0.4)
        student.log_std.sub_(1.0)
    return method


def train(method, steps, sign=1.0):
    optimizers = {
        name: torch.optim.Adam(method.networks[role.network].parameters(), lr=role.config.lr, betas=role.config.betas)
        for name, role in method.optimizers.items()
    }
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for name in method.updates(step):
            for group in optimizers[name].param_groups:
                group["lr"] = method.optimizers[name].config.lr * (1 - step / steps)
            optimizers[name].zero_grad()
            loss, _ = method.loss(name, BATCH, step, generator)
            ((sign if name == "generator" else 1.0) * loss).backward()
            optimizers[name].step()


def student_samples(method, n=4000):
    noise = torch.randn(n, 1, *CHUNK, generator=torch.Generator().manual_seed(7))
    student = method.networks["generator"]
    with torch.no_grad():
        return method.sampler().generate(student, torch.zeros(n, 1), noise[:, 0] * method.sampler().noise_scale)


@pytest.mark.parametrize("schedule", [CosineDdpm(), Edm(), Flow()])
def test_stochastic_student_learns_mean_and_spread_of_a_gaussian_teacher(schedule):
    method = method_of(schedule, "s")
    train(method, 500)
    samples = student_samples(method)
    torch.testing.assert_close(samples.mean(dim=0), MEAN, atol=0.02, rtol=0)
    assert samples.std(dim=0).mean().item() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("annealed", [False, True])
@pytest.mark.parametrize("schedule", [CosineDdpm(), Edm(), Flow()])
def test_deterministic_student_learns_the_mean_and_has_no_spread(schedule, annealed):
    method = method_of(schedule, "d", annealed=annealed)
    train(method, 500)
    samples = student_samples(method, 50)
    torch.testing.assert_close(samples.mean(dim=0), MEAN, atol=0.02, rtol=0)
    assert samples.std(dim=0).max() == 0


@pytest.mark.parametrize("variant", ["s", "d"])
def test_flipped_sign_diverges(variant):
    """Otherwise the two tests above could pass by luck."""
    method = method_of(CosineDdpm(), variant)
    start = (student_samples(method).mean(dim=0) - MEAN).abs().max()
    train(method, 300, sign=-1.0)
    assert (student_samples(method).mean(dim=0) - MEAN).abs().max() > 2 * start


@pytest.mark.parametrize("variant", ["s", "d"])
@pytest.mark.parametrize(
    ("schedule", "times", "names"),
    [
        (CosineDdpm(), [2, 30, 65, 95], ("eps", "x0", "v")),
        (Edm(), [0.05, 0.5, 2.5, 10.0], ("eps", "x0", "edm")),
        (Flow(), [0.05, 0.3, 0.7, 0.95], ("eps", "x0", "flow")),
    ],
)
def test_every_parameterisation_gives_the_papers_gradient(variant, schedule, times, names):
    """eps, x0, v and EDM forms agree with alpha sigma (eps_teacher - eps_student) on the same x."""
    t = torch.tensor(times)
    generator = torch.Generator().manual_seed(0)
    actions, eps = (torch.randn(4, *CHUNK, generator=generator) for _ in range(2))
    batch, cond = Batch({"o": torch.zeros(4, 2, 1)}), torch.zeros(4, 1)
    x_t = diffuse(schedule, actions, t, eps)
    for name in names:
        teacher = teacher_of(schedule, 0.2, name)
        tracker = GaussianDenoiser(schedule, MEAN + 0.3, 0.4, name) if variant == "s" else None
        student_eps = eps if tracker is None else tracker.eps(x_t, t, cond)
        alpha, sigma = (expand_like(f(t), x_t) for f in (schedule.alpha, schedule.sigma))
        expected = alpha * sigma * (teacher.eps(x_t, t, cond) - student_eps)
        with torch.no_grad():
            gradient = onedp_gradient(actions, t, eps, batch, teacher, tracker)
        torch.testing.assert_close(gradient, expected.detach(), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("schedule", [CosineDdpm(), Edm()])
def test_levels_weigh_by_a_power_of_noise_over_signal_and_one_on_average(schedule):
    plain, weighted = method_of(schedule, "s"), method_of(schedule, "s", level_power=-0.5)
    generator = torch.Generator().manual_seed(3)
    t = weighted._levels(4096, 0, generator)
    weights = weighted._level_weights(t)
    assert weights.mean().item() == pytest.approx(1, abs=0.1)
    ratio = schedule.sigma(t) / schedule.alpha(t)
    torch.testing.assert_close(weights / weights[0], (ratio / ratio[0]) ** -0.5)
    few = t[:3]
    torch.testing.assert_close(weighted._level_weights(few), weights[:3])  # whatever else is in the batch
    actions, eps = (torch.randn(3, *CHUNK, generator=torch.Generator().manual_seed(n)) for n in range(2))
    batch = Batch({"o": torch.zeros(3, 2, 1)})
    with torch.no_grad():
        one, other = (method._gradient(actions, few, eps, batch) for method in (plain, weighted))
    torch.testing.assert_close(other, expand_like(weights[:3], one) * one)


@pytest.mark.parametrize(("schedule", "times"), [(CosineDdpm(), [2, 30, 65, 95]), (Edm(), [0.05, 0.5, 2.5, 10.0])])
def test_the_normalised_gradient_is_dmds_eq_8(schedule, times):
    """w alpha (s_student - s_teacher) with w = sigma^2 / alpha * C S / |x - x0_teacher|_1, of scores s at x_t."""
    t = torch.tensor(times)
    generator = torch.Generator().manual_seed(0)
    actions, eps = (torch.randn(4, *CHUNK, generator=generator) for _ in range(2))
    batch, cond = Batch({"o": torch.zeros(4, 2, 1)}), torch.zeros(4, 1)
    x_t = diffuse(schedule, actions, t, eps)
    teacher, tracker = teacher_of(schedule), GaussianDenoiser(schedule, MEAN + 0.3, 0.4)
    alpha, sigma = (expand_like(f(t), x_t) for f in (schedule.alpha, schedule.sigma))
    with torch.no_grad():
        scores = [-network.eps(x_t, t, cond) / sigma for network in (tracker, teacher)]
        distance = (actions - teacher.x0(x_t, t, cond)).abs().sum(dim=(1, 2), keepdim=True)
        weight = sigma**2 / alpha * actions[0].numel() / distance
        expected = weight * alpha * (scores[0] - scores[1])
        found = onedp_gradient(actions, t, eps, batch, teacher, tracker, normalize=True)
        plain = onedp_gradient(actions, t, eps, batch, teacher, tracker)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)
    assert not torch.allclose(found, plain, rtol=0.1)


def test_regression_can_be_kept_while_matching(tmp_path):
    losses = {}
    for weight in (0.0, 0.25):
        method = method_of(Edm(), "s", regression_pairs=50, regression_weight=weight)
        method.prepare({"o": torch.zeros(50, 2, 1)}, tmp_path, "key", torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(0)
        losses[weight], numbers = method.loss("generator", BATCH, 100, generator)
        assert ("regression_rms" in numbers) is (weight > 0)
        if not weight:
            method = method_of(Edm(), "s", regression_pairs=50, regression_weight=0.25)
            method.prepare({"o": torch.zeros(50, 2, 1)}, tmp_path, "key", torch.Generator().manual_seed(1))
            alone, _ = method._regression_loss(BATCH, generator)  # the draws that come after those of matching
    assert alone.item() > 0
    assert losses[0.25].item() == pytest.approx(losses[0.0].item() + 0.25 * alone.item(), rel=1e-5)
    with pytest.raises(OneDPError, match="above 0 it needs regression_pairs"):
        OneDpConfig(regression_weight=1.0)


def test_stochastic_gradient_is_zero_before_the_tracker_moves_and_the_deterministic_one_is_not():
    for config, expected_zero in ((OneDpConfig(variant="s"), True), (OneDpConfig(variant="d"), False)):
        method = OneDp(config, teacher_of(CosineDdpm()), Ddim(10), steps=10)
        loss, logs = method.loss("generator", BATCH, 0, torch.Generator().manual_seed(0))
        loss.backward()
        gradients = [
            g.abs().max().item() for p in method.networks["generator"].parameters() if (g := p.grad) is not None
        ]
        assert (max(gradients) == 0) is expected_zero
        assert (logs["gradient_norm"].item() == 0) is expected_zero


def test_a_student_with_a_critic_still_learns_the_mean_of_its_teacher(tmp_path):
    """The critic looks at features of the tracker, so that one is a network; teacher and student stay exact."""
    fast = OptimizerConfig(lr=2e-2, betas=(0.0, 0.999))
    config = OneDpConfig(generator=fast, tracker=replace(fast, lr=3e-3), adversarial_weight=0.01, regression_pairs=500)
    method = OneDp(config, small_network(Edm()), Heun(10, clip=None), steps=200)
    assert "critic" in dict(method.networks["tracker"].named_children())
    method.teacher = teacher_of(Edm()).requires_grad_(False)
    method.networks["generator"] = student = teacher_of(Edm()).requires_grad_(True)
    with torch.no_grad():
        student.mean.add_(0.4)
    method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    tracker = method.networks["tracker"]
    parts = {"tracker": (tracker.critic, tracker.backbone), "generator": (student,)}
    for name, other in (("tracker", student), ("generator", tracker)):
        method.loss(name, BATCH, 0, torch.Generator().manual_seed(0))[0].backward()
        for part in parts[name]:
            assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in part.parameters()), name
            part.zero_grad(set_to_none=True)
        assert all(p.grad is None for p in other.parameters()), name
    train(method, 200)
    torch.testing.assert_close(student_samples(method).mean(dim=0), MEAN, atol=0.08, rtol=0)


CHANGES = [{}, {"divergence": "fisher"}, {"normalize_gradient": True}]


@pytest.mark.parametrize(("variant", "changes"), [*(("s", each) for each in CHANGES), ("d", {})])
def test_each_loss_moves_the_network_it_owns_and_no_other(variant, changes, tmp_path):
    method = method_of(CosineDdpm(), variant, regression_steps=1, regression_pairs=300, **changes)
    method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    everything = {"teacher": method.teacher, **method.networks}
    if variant == "s":  # let the tracker differ from the teacher, else its gradient is rightly zero
        with torch.no_grad():
            method.networks["tracker"].mean.add_(0.1)
    for name, role in method.optimizers.items():
        for network in everything.values():
            network.zero_grad(set_to_none=True)
        loss, _ = method.loss(name, BATCH, 0, torch.Generator().manual_seed(0))
        loss.backward()
        for owner, network in everything.items():
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            moved = [bool(g.abs().max() > 0) for g in gradients]
            assert (moved and all(moved)) if owner == role.network else not gradients, (name, owner)


def test_order_of_updates_is_algorithm_1_after_the_warm_ups():
    config = OneDpConfig(regression_steps=2, regression_pairs=4, tracker_warmup=1, tracker_updates=2)
    method = OneDp(config, teacher_of(CosineDdpm()), Ddim(10), steps=10)
    assert [method.updates(step) for step in (0, 2, 3)] == [
        ("regression",),
        ("tracker",),
        ("tracker", "tracker", "generator"),
    ]
    assert OneDp(OneDpConfig(variant="d"), teacher_of(CosineDdpm()), Ddim(10), 10).updates(0) == ("generator",)


def test_stochastic_student_keeps_both_modes_and_the_deterministic_one_takes_the_heavier():
    teacher = TwoModeDenoiser(CosineDdpm(), CHUNK, weight=0.7, std=0.1)
    shares, hits = {}, {}
    for variant in ("s", "d"):
        fast = OptimizerConfig(lr=2e-3, betas=(0.0, 0.999))
        config = OneDpConfig(variant=variant, generator=fast, tracker=replace(fast, lr=4e-3))
        method = OneDp(config, teacher, Ddim(10), steps=500)
        method.networks["generator"] = small_network(CosineDdpm())
        if variant == "s":
            method.networks["tracker"] = small_network(CosineDdpm())
        train(method, 500)
        found = student_samples(method).mean(dim=(1, 2))
        shares[variant] = (found > 0).float().mean().item()
        hits[variant] = (found.abs() > 0.3).float().mean().item()  # the modes are at +-0.5
    assert 0.5 < shares["s"] < 0.9
    assert shares["d"] == 1.0
    assert hits["s"] > 0.8
    assert hits["d"] == 1.0


def test_noise_matters_for_s_and_not_for_d():
    for variant, differs in (("s", True), ("d", False)):
        method = method_of(CosineDdpm(), variant)
        sampler, student = method.sampler(), method.networks["generator"]
        noises = [torch.randn(3, sampler.draws, *CHUNK, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
        with torch.no_grad():
            a, b = (sampler.sample(student, torch.zeros(3, 1), noise) for noise in noises)
        assert (not torch.equal(a, b)) is differs


def test_levels_of_the_deterministic_variant_can_be_annealed(monkeypatch):
    method = method_of(CosineDdpm(), "d", final_level_high=40.0)
    seen = {}

    def spy(actions, t, *rest):
        seen["t"] = t
        return torch.zeros_like(actions)

    monkeypatch.setattr(onedp_module, "onedp_gradient", spy)
    for step, highest in ((0, 95), (499, 40)):
        method.loss("generator", Batch({"o": torch.zeros(4000, 2, 1)}), step, torch.Generator().manual_seed(0))
        assert (seen["t"].min().item(), seen["t"].max().item()) == (2, highest)


def test_annealing_needs_a_level_to_start_from():
    with pytest.raises(OneDPError, match="final_level_high needs level_high too"):
        method_of(Edm(), "d", final_level_high=1.0)


def test_teacher_is_left_as_it_was():
    method = method_of(CosineDdpm(), "s")
    before = copy.deepcopy(method.teacher.state_dict())
    train(method, 5)
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())


def test_pseudo_huber_regression_is_quadratic_near_the_target_and_linear_far_from_it(tmp_path):
    """A chunk of another mode pulls as hard as any, not in proportion to its distance."""
    pulls = {}
    for near_and_far in (1e-3, 1.0):
        method = method_of(CosineDdpm(), "s", regression_steps=1, regression_pairs=200, regression_huber=0.02)
        method.prepare(BATCH.nobs, tmp_path, f"{near_and_far}", torch.Generator().manual_seed(0))
        pairs = method._pairs
        actions = method.one_step.generate(method.networks["generator"], torch.zeros(200, 1), pairs.noise)
        method._pairs = replace(pairs, target=actions.detach() - near_and_far)
        loss, _ = method.loss("regression", BATCH, 0, torch.Generator().manual_seed(0))
        loss.backward()
        pulls[near_and_far] = method.networks["generator"].mean.grad.norm().item()
        expected = (near_and_far**2 + 0.02**2) ** 0.5 - 0.02
        assert loss.item() == pytest.approx(expected, rel=1e-3)
    assert pulls[1.0] == pytest.approx(20 * pulls[1e-3], rel=0.02)  # 1000 times as hard if it were quadratic


def test_errors_of_what_is_not_executed_can_count_less():
    """Weights are 1 on average; which steps are executed must be known."""
    assert step_weights(4, range(1, 3), 1.0) is None
    weights = step_weights(4, range(1, 3), 0.25)
    assert weights is not None
    torch.testing.assert_close(weights, torch.tensor([0.25, 1.0, 1.0, 0.25]) / 0.625)
    error = torch.zeros(2, 4, 2)
    error[0, 1], error[1, 3] = 0.1, 0.1  # one that is executed, one that is not
    executed, unexecuted = pseudo_huber(error, None, weights)
    assert executed.item() == pytest.approx(0.1**2 / 4 / 0.625)
    assert executed.item() == pytest.approx(4 * unexecuted.item())
    torch.testing.assert_close(pseudo_huber(error, 0.02), pseudo_huber(error, 0.02, torch.ones(4)))
    with pytest.raises(OneDPError, match="which actions of a chunk are executed"):
        step_weights(4, None, 0.5)


def test_a_student_may_read_its_noise_smaller(tmp_path):
    """The factor is on what the network reads, in training and when acting; pairs keep the whole noise."""
    method = method_of(CosineDdpm(), "s", input_noise_scale=0.25)
    student, z = method.networks["generator"], torch.randn(5, 1, *CHUNK, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        acted = method.sampler().sample(student, torch.zeros(5, 1), z)
        plain = OneStep(65.0).generate(student, torch.zeros(5, 1), 0.25 * z[:, 0])
    torch.testing.assert_close(acted, plain.clamp(-1, 1) if method.sampler().clip else plain)


@pytest.mark.parametrize("huber", [None, 0.05])
@pytest.mark.parametrize("variant", ["s", "d"])
def test_regression_learns_the_teachers_ode_map(variant, huber, tmp_path):
    """From the same noise (S) or none (D) to the same chunk; the pairs are made once and found again."""
    method = method_of(CosineDdpm(), variant, regression_steps=300, regression_pairs=2000, regression_huber=huber)
    method.optimizers["regression"] = replace(method.optimizers["regression"], config=OptimizerConfig(lr=3e-2))
    seconds = method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(0))
    train(method, 300)
    noise = torch.randn(500, *CHUNK, generator=torch.Generator().manual_seed(9)) * (variant == "s")
    with torch.no_grad():
        truth = Ddim(10, clip=None).sample(method.teacher, torch.zeros(500, 1), noise[:, None])
        mine = method.one_step.generate(method.networks["generator"], torch.zeros(500, 1), noise)
    torch.testing.assert_close(mine, truth, atol=0.03, rtol=0)
    assert method.prepare(BATCH.nobs, tmp_path, "key", torch.Generator().manual_seed(1)) == seconds
    assert method.prepare(BATCH.nobs, tmp_path, "other", torch.Generator().manual_seed(1)) != seconds


def test_a_student_may_predict_the_chunk_though_its_teacher_predicts_the_noise():
    """Same weights at first, but what the network says is the action; teacher and tracker stay as they are."""
    teacher = small_network(CosineDdpm())
    torch.nn.init.normal_(teacher.backbone.head.weight, generator=torch.Generator().manual_seed(1))
    teacher.parameterization = "eps"
    config = OneDpConfig(parameterization="x0", regression_steps=3, regression_pairs=20)
    method = OneDp(config, teacher, Ddim(10), steps=10)
    student, tracker = method.networks["generator"], method.networks["tracker"]
    assert (student.parameterization, tracker.parameterization, method.teacher.parameterization) == ("x0", "eps", "eps")
    z, t = torch.randn(5, *CHUNK, generator=torch.Generator().manual_seed(9)), torch.full((5,), 65)
    with torch.no_grad():
        said = teacher.backbone(z, t.float(), torch.zeros(5, 1))
        torch.testing.assert_close(method.one_step.generate(student, torch.zeros(5, 1), z), said)
    assert said.std() > 0.1


def test_a_student_that_predicts_the_noise_cannot_start_from_pure_noise():
    config = OneDpConfig(warm_start="consistency", regression_steps=3, regression_pairs=20)
    with pytest.raises(OneDPError, match=r"predicts the noise, .* next to nothing\. Use parameterization x0"):
        OneDp(config, teacher_of(CosineDdpm(), 0.2, "eps"), Ddim(10), steps=10)
    method = OneDp(replace(config, parameterization="x0"), teacher_of(CosineDdpm(), 0.2, "eps"), Ddim(10), steps=10)
    assert (method.networks["generator"].parameterization, method.sampler().level) == ("x0", 95.0)
    nearer = OneDp(replace(config, initial_level=65), teacher_of(CosineDdpm(), 0.2, "x0"), Ddim(10), steps=10)
    assert nearer.sampler().level == 65


def test_another_prediction_needs_a_regression_phase():
    for variant in ("s", "d"):
        config = OneDpConfig(variant=variant, parameterization="x0")
        with pytest.raises(OneDPError, match=r"teacher predicts eps; .* x0 .* --method onedp-s --preset small"):
            OneDp(config, teacher_of(CosineDdpm(), 0.2, "eps"), Ddim(10), steps=10)
        OneDp(config, teacher_of(CosineDdpm(), 0.2, "x0"), Ddim(10), steps=10)  # nothing to learn anew
