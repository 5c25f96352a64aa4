"""An explicit Gaussian policy distilled with OneDP's loss: what the expressive student is worth, by comparison."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from onedp.diffusion.draws import normal
from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import diffuse, expand_like, level_times
from onedp.errors import OneDPError
from onedp.methods.distillation import FromPairs
from onedp.methods.levels import check_levels, default_levels, given_or
from onedp.methods.method import Batch, Setting
from onedp.methods.student_config import GaussianConfig
from onedp.nets.gaussian import GaussianHead


def build(config: GaussianConfig, setting: Setting) -> Gaussian:
    """For the table of methods."""
    return Gaussian(config, setting)


class Gaussian(FromPairs):
    """Mean and deviation of every action from one pass.

    First maximum likelihood of the teacher's chunks, then the reverse KL at all noise levels (arXiv 2410.21257, eq. 5).
    The noised student is Gaussian too, so its score is known and, as in variant D, no network has to track it.
    """

    def __init__(self, config: GaussianConfig, setting: Setting):
        teacher, _ = setting.source()
        super().__init__(config, setting, setting.untrained(teacher.schedule, "x0"))
        if config.likelihood_steps >= setting.steps:
            raise OneDPError(
                f"{config.likelihood_steps} steps of likelihood leave none of the {setting.steps} steps for matching."
            )
        self.config = config
        low, level, high = default_levels(teacher.schedule)
        self.levels = (given_or(config.level_low, low), given_or(config.level_high, high))
        check_levels(self.levels, None, teacher.schedule)
        start = teacher.schedule.prior_scale(level_times(teacher.schedule, level, 1, torch.device("cpu")))
        self.one_step = OneStep(level=level, input_scale=1 / float(start[0]))  # the head reads standard normal noise

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Likelihood of the teacher's chunks, or the divergence from the teacher's density."""
        if step < self.config.likelihood_steps:
            pairs, _, chunks = self.pairs.draw(len(batch), generator)
            mean, std = self._distribution(pairs)
            loss = (0.5 * ((chunks - mean) / std).square() + std.log()).sum(dim=(1, 2)).mean()
            return loss, {"likelihood_loss": loss.detach(), "std": std.detach().mean()}
        mean, std = self._distribution(batch)
        actions = mean + std * normal(mean.shape, generator)
        schedule = self.teacher.schedule
        t = schedule.times_between(len(batch), *self.levels, generator)
        eps = normal(actions.shape, generator)
        with torch.no_grad():
            x_t = diffuse(schedule, actions, t, eps)
            alpha, sigma = (expand_like(f(t), x_t) for f in (schedule.alpha, schedule.sigma))
            student_x0 = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x_t - alpha * mean)
            teacher_x0 = self.teacher.x0(x_t, t, self.teacher.encode(batch.nobs))
            gradient = alpha**2 * (student_x0 - teacher_x0)
        loss = (gradient * actions).sum(dim=(1, 2)).mean()
        return loss, {"gradient_norm": gradient.flatten(1).norm(dim=1).mean(), "std": std.detach().mean()}

    def sampler(self) -> OneStep:
        """One pass."""
        return OneStep(self.one_step.level, 1.0, self.clip, self.one_step.input_scale)

    def _distribution(self, batch: Batch) -> tuple[Tensor, Tensor]:
        student = self.networks["student"]
        like = torch.zeros((len(batch), *student.chunk_shape), device=next(student.parameters()).device)
        t = level_times(student.schedule, self.one_step.level, len(batch), like.device)
        head = cast(GaussianHead, student.backbone)
        return head.distribution(like, student.schedule.network_time(t), student.encode(batch.nobs))
