"""One-Step Diffusion Policy (Wang et al., arXiv 2410.21257): OneDP-S and OneDP-D.

All in clean-chunk form. With x = alpha G + sigma eps and the paper's weight w = sigma^2, the gradient at the student's
action is ``alpha^2 (x0_student(x) - x0_teacher(x))`` for every noise process: ``x0_student`` is the generator score
network's estimate (variant S, their eq. 5) or the action itself (variant D, their eq. 8, which is SDS).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import OneStep, Sampler
from onedp.diffusion.schedule import CosineDdpm, NoiseSchedule, diffuse, expand_like
from onedp.errors import OneDPError, TrainingError
from onedp.methods.config import OneDpConfig
from onedp.methods.denoising import denoising_loss
from onedp.methods.diagnostics import student_diagnostics
from onedp.methods.method import Batch, Method, OptimizerRole
from onedp.methods.pairs import PairPool, Rows, load_pairs, make_pairs, save_pairs


class OneDp(Method):
    """Distil ``teacher`` into a generator; phases: regression (if any), tracker warm-up (if any), matching."""

    def __init__(self, config: OneDpConfig, teacher: Denoiser, teacher_sampler: Sampler, steps: int):
        self.config = config
        self.teacher = teacher.requires_grad_(False).eval()
        self.teacher_sampler = teacher_sampler
        self.steps = steps
        self.networks = {"generator": trainable_copy(teacher)}
        low, level, high = _default_levels(teacher.schedule)
        self.levels = (
            low if config.level_low is None else config.level_low,
            high if config.level_high is None else config.level_high,
        )
        if config.final_level_high is not None and self.levels[1] is None:
            raise OneDPError("EDM levels have no upper end of their own: final_level_high needs level_high too.")
        _check_levels(self.levels, config.final_level_high, teacher)
        level = config.initial_level if config.initial_level is not None else level
        self.one_step = OneStep(level=level, input_scale=config.input_noise_scale)
        matching = config.regression_steps + config.tracker_warmup
        if matching >= steps:
            raise OneDPError(
                f"{config.regression_steps} steps of regression and {config.tracker_warmup} of tracker warm-up leave "
                f"none of the {steps} steps for distribution matching. Give more steps."
            )
        if config.regression_steps and teacher_sampler.draws != 1:
            raise OneDPError(
                f"Regression needs a deterministic sampler (ddim:N or heun:N), not {teacher_sampler.label}: a solution "
                "must belong to one noise."
            )
        self.optimizers = {"generator": OptimizerRole("generator", config.generator, matching, steps)}
        if config.regression_steps:
            self.optimizers["regression"] = OptimizerRole("generator", config.regression, 0, config.regression_steps)
        if config.variant == "s":
            self.networks["tracker"] = trainable_copy(teacher)
            self.optimizers["tracker"] = OptimizerRole("tracker", config.tracker, config.regression_steps, steps)
        self.averaged = {"generator": config.ema} if config.ema else {}
        self.result = "generator"
        self._pairs: PairPool | None = None

    def prepare(self, nobs: Mapping[str, Tensor | Rows], folder: Path, key: str, generator: torch.Generator) -> float:
        """Make the teacher's solutions for the regression phase, or find them from before a resume."""
        if not self.config.regression_steps:
            return 0.0
        file = folder / "pairs.safetensors"
        self._pairs = load_pairs(file, key, generator.device, nobs)
        if self._pairs is None:
            count, deterministic = self.config.regression_pairs, self.config.variant == "d"
            self._pairs = make_pairs(self.teacher, self.teacher_sampler, nobs, count, deterministic, generator)
            save_pairs(file, self._pairs, key)
        return self._pairs.seconds

    def updates(self, step: int) -> Sequence[str]:
        """Algorithm 1: tracker first, then generator; before that the warm-ups."""
        if step < self.config.regression_steps:
            return ("regression",)
        if self.config.variant == "d":
            return ("generator",)
        if step < self.config.regression_steps + self.config.tracker_warmup:
            return ("tracker",)
        return ("tracker",) * self.config.tracker_updates + ("generator",)

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss ``name`` on observations alone; expert actions are never looked at."""
        if name == "tracker":
            return self._tracker_loss(batch, generator)
        if name == "regression":
            return self._regression_loss(batch, generator)
        return self._generator_loss(batch, step, generator)

    def sampler(self) -> OneStep:
        """The generator's level; no noise for variant D (z = 0)."""
        scale = 0.0 if self.config.variant == "d" else self.config.acting_noise_scale
        return replace(self.one_step, noise_scale=scale, clip=self.teacher_sampler.clip)

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Brief 9.3: student against teacher and, in variant S, against its tracker."""
        return student_diagnostics(
            network, self.teacher, self.networks.get("tracker"), self.sampler(), self.teacher_sampler, batch, generator
        )

    def _student_actions(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, "b tp da"]:
        student = self.networks["generator"]
        z = self._student_noise(batch, generator)
        return self.one_step.generate(student, student.encode(batch.nobs), z)

    def _tracker_loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Denoising training of the generator score network on the student's own, detached actions (their eq. 6)."""
        with torch.no_grad():
            actions = self._student_actions(batch, generator)
        loss = denoising_loss(self.networks["tracker"], actions, batch, generator)
        return loss, {"tracker_loss": loss.detach()}

    def _regression_loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Error to the teacher's ODE solution from the same noise (variant D: from z = 0), squared or pseudo-Huber."""
        if self._pairs is None:
            raise TrainingError("prepare() must run before the regression phase.")
        student = self.networks["generator"]
        pairs, noise, target = self._pairs.draw(len(batch), generator)
        actions = self.one_step.generate(student, student.encode(pairs.nobs), noise)
        squared = (actions - target).square().mean(dim=(1, 2))
        huber = self.config.regression_huber
        loss = squared.mean() if huber is None else ((squared + huber**2).sqrt() - huber).mean()
        return loss, {"regression_rms": squared.detach().mean().sqrt()}

    def _generator_loss(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Their eq. 5 (S) and 8 (D) as an inner product with a detached gradient."""
        actions = self._student_actions(batch, generator)
        t = self._levels(len(batch), step, generator)
        eps = torch.randn(actions.shape, generator=generator, device=actions.device)
        with torch.no_grad():
            gradient = onedp_gradient(
                actions, t, eps, batch, self.teacher, self.networks.get("tracker"), self.config.normalize_gradient
            )
        loss = (gradient * actions).sum(dim=(1, 2)).mean()
        return loss, {"gradient_norm": gradient.flatten(1).norm(dim=1).mean()}

    def _levels(self, n: int, step: int, generator: torch.Generator) -> Tensor:
        low, high = self.levels
        if self.config.final_level_high is not None and high is not None:
            progress = min(1.0, step / max(1, self.steps - 1))
            high = high + progress * (self.config.final_level_high - high)
        return self.teacher.schedule.times_between(n, low, high, generator)

    def _student_noise(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, "b tp da"]:
        shape = (len(batch), *self.teacher.chunk_shape)
        if self.config.variant == "d":
            return torch.zeros(shape, device=generator.device)
        return torch.randn(shape, generator=generator, device=generator.device)


def _check_levels(levels: tuple[float | None, float | None], final_high: float | None, teacher: Denoiser) -> None:
    """Raise ``OneDPError`` unless the levels of matching, defaults filled in, are a range."""
    low, high = levels
    for end in (high, final_high):
        if low is not None and end is not None and low > end:
            raise OneDPError(f"The levels of distribution matching end ({end:g}) below their start ({low:g}).")
    if isinstance(teacher.schedule, CosineDdpm):
        if any(level is not None and not 0 <= level < teacher.schedule.steps for level in (low, high, final_high)):
            raise OneDPError(
                f"The levels of distribution matching ({low}, {high}, {final_high}) must be steps of the process: 0 to "
                f"{teacher.schedule.steps - 1}."
            )
    elif any(level is not None and not level > 0 for level in (low, high, final_high)):
        raise OneDPError(f"The levels of distribution matching ({low}, {high}, {final_high}) must be positive.")


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
    each sample is divided by mean |actions - x0_teacher| (at least 1e-5). Source: arXiv 2410.21257, eq. 5 and 8.
    """
    schedule = teacher.schedule
    x_t = diffuse(schedule, actions, t, eps)
    teacher_x0 = teacher.x0(x_t, t, teacher.encode(batch.nobs))
    student_x0 = actions if tracker is None else tracker.x0(x_t, t, tracker.encode(batch.nobs))
    gradient = expand_like(schedule.alpha(t), x_t) ** 2 * (student_x0 - teacher_x0)
    if normalize:
        gradient = gradient / (actions - teacher_x0).abs().mean(dim=(1, 2), keepdim=True).clamp_min(1e-5)
    return gradient


def trainable_copy(denoiser: Denoiser) -> Denoiser:
    """A deep copy whose weights may change."""
    return copy.deepcopy(denoiser).requires_grad_(True).train()


def _default_levels(schedule: NoiseSchedule) -> tuple[float | None, float, float | None]:
    """Lowest level of matching, the generator's level and the highest: steps 2, 65 and 95 of a hundred, or EDM's."""
    if not isinstance(schedule, CosineDdpm):
        return None, 2.5, None
    low, level, high = (max(1, round(share * schedule.steps)) for share in (0.02, 0.65, 0.95))
    return float(low), float(min(level, schedule.steps - 1)), float(min(high, schedule.steps - 1))
