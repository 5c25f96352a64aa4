"""One-Step Diffusion Policy (Wang et al., arXiv 2410.21257): OneDP-S and OneDP-D.

All in clean-chunk form. With x = alpha G + sigma eps and the paper's weight w = sigma^2, the gradient at the student's
action is ``alpha^2 (x0_student(x) - x0_teacher(x))`` for every noise process: ``x0_student`` is the generator score
network's estimate (variant S, their eq. 5) or the action itself (variant D, their eq. 8, which is SDS).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal
from onedp.diffusion.samplers import OneStep, Sampler
from onedp.diffusion.schedule import diffuse, expand_like
from onedp.errors import OneDPError, TrainingError
from onedp.methods.adversarial import Critic, critic_loss, realism_loss
from onedp.methods.consistency import consistency_loss
from onedp.methods.denoising import denoising_loss
from onedp.methods.diagnostics import student_diagnostics
from onedp.methods.distillation import gradient_at, require_deterministic, step_weights
from onedp.methods.fisher import fisher_loss
from onedp.methods.generator import initial_generator
from onedp.methods.input_noise import LOG_GAIN, annealed_noise, gain_of, without_gain
from onedp.methods.levels import annealed_levels, check_levels, default_levels, given_or, pure_noise_level
from onedp.methods.method import Batch, Method, OptimizerRole, Setting, trainable_copy
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.pairs import PairPool, Rows, forecast_pairs, kept_pairs, make_pairs
from onedp.methods.regression import one_step_student, regression_loss
from onedp.methods.student_config import ConsistencyConfig

MEAN_DRAWS = 65_536
"""Levels of which the mean weight is taken."""


def build(config: OneDpConfig, setting: Setting) -> OneDp:
    """For the table of methods."""
    student = None
    if not setting.same_network:
        if not config.regression_steps:
            raise OneDPError(
                "A student with a network of its own knows nothing yet and needs the regression phase "
                "(regression_steps and regression_pairs, as --preset small of onedp-s has)."
            )
        student = one_step_student(setting)
    return OneDp(config, *setting.source(), setting.steps, student, setting.executed)


class OneDp(Method):
    """Distil ``teacher`` into a generator; phases: warm start (if any), tracker warm-up (if any), matching."""

    def __init__(
        self,
        config: OneDpConfig,
        teacher: Denoiser,
        teacher_sampler: Sampler,
        steps: int,
        student: Denoiser | None = None,
        executed: range | None = None,
    ):
        self.config = config
        self.teacher = teacher.requires_grad_(False).eval()
        self.teacher_sampler = teacher_sampler
        self.steps = steps
        self.networks = {"generator": initial_generator(config, teacher, student)}
        low, level, high = default_levels(teacher.schedule)
        if config.warm_start == "consistency":
            level = pure_noise_level(teacher.schedule)
        self.final_high = config.final_level_high
        if config.annealed:
            high, self.final_high = annealed_levels(teacher.schedule)
        self._step_weights = step_weights(teacher.chunk_shape[0], executed, config.unexecuted_weight)
        self.levels = (given_or(config.level_low, low), given_or(config.level_high, high))
        if self.final_high is not None and self.levels[1] is None:
            raise OneDPError("EDM levels have no upper end of their own: final_level_high needs level_high too.")
        check_levels(self.levels, self.final_high, teacher.schedule)
        level = config.initial_level if config.initial_level is not None else level
        self.one_step = OneStep(level=level, input_scale=config.input_noise_scale)
        matching = config.regression_steps + config.tracker_warmup
        if matching >= steps:
            raise OneDPError(
                f"{config.regression_steps} steps of regression and {config.tracker_warmup} of tracker warm-up leave "
                f"none of the {steps} steps for distribution matching. Give more steps."
            )
        self.needs_pairs = bool(config.regression_steps) or max(config.adversarial_weight, config.regression_weight) > 0
        if self.needs_pairs:
            require_deterministic(teacher_sampler.draws, teacher_sampler.label)
        factors = {LOG_GAIN: config.noise_gain_lr / config.generator.lr} if config.matching_noise == "learned" else {}
        self.optimizers = {"generator": OptimizerRole("generator", config.generator, matching, steps, factors)}
        if config.regression_steps:
            warm_start = OptimizerRole("generator", config.regression, 0, config.regression_steps)
            self.optimizers[config.warm_start] = warm_start
        if config.variant == "s":
            self.networks["tracker"] = trainable_copy(teacher)
            if config.adversarial_weight > 0:
                self.networks["tracker"].critic = Critic(teacher)
            self.optimizers["tracker"] = OptimizerRole("tracker", config.tracker, config.regression_steps, steps)
        self.averaged = {"generator": config.ema} if config.ema else {}
        self.result = "generator"
        self.measure, self.settled_step = "energy_distance", matching
        self._acting_noise = config.acting_noise_scale
        self._pairs: PairPool | None = None
        self._mean_weight: float | None = None

    def prepare(self, nobs: Mapping[str, Tensor | Rows], folder: Path, key: str, generator: torch.Generator) -> float:
        """Make the teacher's solutions for the regression phase, or find them from before a resume."""
        if not self.needs_pairs:
            return 0.0
        make = partial(self._make_pairs, nobs, self.config.regression_pairs, generator)
        self._pairs = kept_pairs(make, nobs, folder, key, generator.device)
        return self._pairs.seconds

    def preparation_seconds(
        self, nobs: Mapping[str, Tensor | Rows], device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> float:
        """Of the teacher's solutions, if any are needed."""
        if not self.needs_pairs:
            return 0.0
        make = partial(self._make_pairs, nobs)
        seconds, self._pairs = forecast_pairs(make, self.config.regression_pairs, device, clock)
        return seconds

    def _make_pairs(self, nobs: Mapping[str, Tensor | Rows], count: int, generator: torch.Generator) -> PairPool:
        scale = 0.0 if self.config.variant == "d" else self.config.pair_noise_scale
        return make_pairs(self.teacher, self.teacher_sampler, nobs, count, scale, generator)

    def updates(self, step: int) -> Sequence[str]:
        """Algorithm 1: tracker first, then generator; before that the warm-ups."""
        if step < self.config.regression_steps:
            return (self.config.warm_start,)
        if self.config.variant == "d":
            return ("generator",)
        if step < self.config.regression_steps + self.config.tracker_warmup:
            return ("tracker",)
        return ("tracker",) * self.config.tracker_updates + ("generator",)

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss ``name`` on observations alone; expert actions are never looked at."""
        if name == "tracker":
            return self._tracker_loss(batch, step, generator)
        if name == "regression":
            return self._regression_loss(batch, generator)
        if name == "consistency":
            return self._consistency_loss(batch, step, generator)
        return self._generator_loss(batch, step, generator)

    def sampler(self) -> OneStep:
        """The generator's level; no noise for variant D (z = 0)."""
        scale = 0.0 if self.config.variant == "d" else self._acting_noise
        return replace(self.one_step, noise_scale=scale, clip=self.teacher_sampler.clip)

    def finished(self, network: Denoiser) -> Denoiser:
        """A learned factor on the noise leaves the network and becomes the sampler's."""
        if self.config.matching_noise != "learned":
            return network
        self._acting_noise = gain_of(network).item()
        return without_gain(network)

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Brief 9.3: student against teacher and, in variant S, against its tracker."""
        return student_diagnostics(
            network, self.teacher, self.networks.get("tracker"), self.sampler(), self.teacher_sampler, batch, generator
        )

    def _student_actions(self, batch: Batch, step: int, generator: torch.Generator) -> Float[Tensor, "b tp da"]:
        student = self.networks["generator"]
        z = self._student_noise(batch, step, generator)
        return self.one_step.generate(student, student.encode(batch.nobs), z)

    def _tracker_loss(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Denoising training of the generator score network on the student's own, detached actions (their eq. 6)."""
        with torch.no_grad():
            actions = self._student_actions(batch, step, generator)
        loss = denoising_loss(self.networks["tracker"], actions, batch, generator)
        numbers = {"tracker_loss": loss.detach()}
        if self.config.adversarial_weight > 0:
            real, _, chunks = self.pairs.draw(len(batch), generator)
            t = self._levels(len(batch), step, generator)
            adversarial = critic_loss(self.networks["tracker"], real, chunks, batch, actions, t, generator)
            loss = loss + self.config.critic_weight * adversarial
            numbers["critic_loss"] = adversarial.detach()
        return loss, numbers

    def _regression_loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Error to the teacher's ODE solution from the same noise (variant D: from z = 0), squared or pseudo-Huber."""
        student, huber, weights = self.networks["generator"], self.config.regression_huber, self._step_weights
        return regression_loss(student, self.one_step, self.pairs, len(batch), huber, generator, weights)

    def _consistency_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As the method consistency's, whose bins double over the warm start as there over the run."""
        bins = ConsistencyConfig().bins_at(step / self.config.regression_steps)
        student, huber = self.networks["generator"], self.config.regression_huber
        return consistency_loss(student, self.teacher, self.pairs, bins, len(batch), huber, generator)

    def _generator_loss(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Their eq. 5 (S) and 8 (D) as an inner product with a detached gradient."""
        actions = self._student_actions(batch, step, generator)
        t = self._levels(len(batch), step, generator)
        eps = normal(actions.shape, generator)
        with torch.no_grad():
            gradient = self._gradient(actions, t, eps, batch)
        loss = (gradient * actions).sum(dim=(1, 2)).mean()
        numbers = {"gradient_norm": gradient.flatten(1).norm(dim=1).mean()}
        if self.config.regression_weight > 0:
            regression, more = self._regression_loss(batch, generator)
            loss, numbers = loss + self.config.regression_weight * regression, numbers | more
        return loss, numbers

    def _gradient(self, actions: Tensor, t: Tensor, eps: Tensor, batch: Batch) -> Tensor:
        """What the generator descends along: of the reverse KL or the Fisher divergence, and of the critic's doubt."""
        config, tracker = self.config, self.networks.get("tracker")
        if config.divergence == "fisher":
            assert tracker is not None  # the config looks
            gradient = gradient_at(
                lambda a: fisher_loss(a, t, eps, batch, self.teacher, tracker, config.fisher_alpha).sum(), actions
            )
        else:
            gradient = onedp_gradient(actions, t, eps, batch, self.teacher, tracker, config.normalize_gradient)
        if config.level_power:
            gradient = expand_like(self._level_weights(t), gradient) * gradient
        if config.adversarial_weight > 0:
            assert tracker is not None
            doubt = gradient_at(lambda a: realism_loss(tracker, a, t, eps, batch).sum(), actions)
            gradient = gradient + config.adversarial_weight * doubt
        return gradient

    @property
    def pairs(self) -> PairPool:
        """The teacher's solutions; raises ``TrainingError`` before ``prepare``."""
        if self._pairs is None:
            raise TrainingError("prepare() must run before the regression phase.")
        return self._pairs

    def _levels(self, n: int, step: int, generator: torch.Generator) -> Tensor:
        low, high = self.levels
        if self.final_high is not None and high is not None:
            progress = min(1.0, step / max(1, self.steps - 1))
            high = high + progress * (self.final_high - high)
        return self.teacher.schedule.times_between(n, low, high, generator)

    def _level_weights(self, t: Tensor) -> Float[Tensor, " b"]:
        """Noise over signal to the power ``level_power``, 1 on average over the levels that a run begins with."""
        schedule, power = self.teacher.schedule, self.config.level_power

        def weights(times: Tensor) -> Tensor:
            ratio: Tensor = schedule.sigma(times) / schedule.alpha(times).clamp_min(1e-3)
            return ratio**power

        if self._mean_weight is None:  # of draws of its own: a batch's mean would differ from process to process
            self._mean_weight = float(weights(self._levels(MEAN_DRAWS, 0, torch.Generator().manual_seed(0))).mean())
        return weights(t) / self._mean_weight

    def _student_noise(self, batch: Batch, step: int, generator: torch.Generator) -> Float[Tensor, "b tp da"]:
        """What the student reads while it is matched; warm starts read all of the noise."""
        shape = (len(batch), *self.teacher.chunk_shape)
        if self.config.variant == "d":
            return torch.zeros(shape, device=generator.device)
        z = normal(shape, generator)
        if self.config.matching_noise == "learned":
            return gain_of(self.networks["generator"]) * z
        if self.config.matching_noise == "annealed":
            return annealed_noise(step, self.settled_step, self.steps - 1, self.config.acting_noise_scale) * z
        return z


def onedp_gradient(
    actions: Float[Tensor, "b tp da"],
    t: Tensor,
    eps: Float[Tensor, "b tp da"],
    batch: Batch,
    teacher: Denoiser,
    tracker: Denoiser | None,
    normalize: bool = False,
) -> Float[Tensor, "b tp da"]:
    """Gradient of the weighted reverse KL at the student's actions: descend along it.

    ``tracker`` None gives variant D. Each network encodes the observations with its own encoder. With ``normalize``
    the weight is that of arXiv 2311.18828, eq. 8: ``alpha`` times the difference of the clean chunks over mean
    |actions - x0_teacher| (at least 1e-5). Source: arXiv 2410.21257, eq. 5 and 8.
    """
    schedule = teacher.schedule
    x_t = diffuse(schedule, actions, t, eps)
    teacher_x0 = teacher.x0(x_t, t, teacher.encode(batch.nobs))
    student_x0 = actions if tracker is None else tracker.x0(x_t, t, tracker.encode(batch.nobs))
    alpha, difference = expand_like(schedule.alpha(t), x_t), student_x0 - teacher_x0
    if normalize:  # DMD's weight takes the place of sigma^2, so one alpha is left, that of the chain rule
        return alpha * difference / (actions - teacher_x0).abs().mean(dim=(1, 2), keepdim=True).clamp_min(1e-5)
    return alpha**2 * difference
