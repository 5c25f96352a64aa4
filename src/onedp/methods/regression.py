"""Regression of a one-step student on the teacher's own ODE solutions: the plainest distillation, and a warm start."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import OneStep
from onedp.methods.distillation import FromPairs, pseudo_huber
from onedp.methods.levels import default_levels, given_or
from onedp.methods.method import Batch, Setting, trainable_copy
from onedp.methods.pairs import PairPool
from onedp.methods.student_config import RegressionConfig


def build(config: RegressionConfig, setting: Setting) -> Regression:
    """For the table of methods."""
    return Regression(config, setting)


class Regression(FromPairs):
    """The student maps the noise of each pair to the chunk of the pair, in one pass at a fixed level."""

    def __init__(self, config: RegressionConfig, setting: Setting):
        super().__init__(config, setting, one_step_student(setting))
        self.config = config
        level = given_or(config.initial_level, default_levels(self.teacher.schedule)[1])
        assert level is not None
        self.one_step = OneStep(level=level, input_scale=config.input_noise_scale)

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Error to the teacher's solution from the same noise."""
        student, huber = self.networks["student"], self.config.huber
        return regression_loss(student, self.one_step, self.pairs, len(batch), huber, generator)

    def sampler(self) -> OneStep:
        """One pass at the level."""
        return OneStep(self.one_step.level, self.config.acting_noise_scale, self.clip, self.one_step.input_scale)


def one_step_student(setting: Setting) -> Denoiser:
    """Trainable student that answers from a fixed level: the teacher's copy, or untrained in a network of its own."""
    teacher, _ = setting.source()
    if setting.same_network:
        return trainable_copy(teacher)
    return setting.untrained(teacher.schedule, "x0" if teacher.parameterization == "eps" else teacher.parameterization)


def regression_loss(
    student: Denoiser,
    one_step: OneStep,
    pairs: PairPool,
    n: int,
    huber: float | None,
    generator: torch.Generator,
    weights: Float[Tensor, " tp"] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared or pseudo-Huber error of ``n`` of the pairs, from their noise to their chunk; see ``pseudo_huber``."""
    batch, noise, target = pairs.draw(n, generator)
    error = one_step.generate(student, student.encode(batch.nobs), noise) - target
    rms = error.detach().square().mean(dim=(1, 2)).mean().sqrt()
    weights = None if weights is None else weights.to(error)
    return pseudo_huber(error, huber, weights).mean(), {"regression_rms": rms}
