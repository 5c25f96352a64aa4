"""Progressive distillation (Salimans and Ho, arXiv 2202.00512): the number of sampling steps halved again and again."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import integers, normal
from onedp.diffusion.few_step_samplers import Euler
from onedp.diffusion.schedule import ddim_step, diffuse, expand_like
from onedp.errors import OneDPError
from onedp.methods.distillation import FromPairs, student_from_pure_noise
from onedp.methods.method import Batch, Setting
from onedp.methods.student_config import ProgressiveConfig, milestone


def build(config: ProgressiveConfig, setting: Setting) -> Progressive:
    """For the table of methods."""
    return Progressive(config, setting)


class Progressive(FromPairs):
    """In each stage the student learns to make in one step what the teacher makes in two, then becomes the teacher.

    Every stage's policy is saved. Stages take equal shares of the steps, the last two twice that (as there), and so the
    first where the student changes the parameterisation. Chunks to noise are the teacher's own.
    """

    def __init__(self, config: ProgressiveConfig, setting: Setting):
        student = student_from_pure_noise(setting)
        super().__init__(config, setting, student)
        self.config = config
        times = student.schedule.ode_times(torch.arange(config.first_steps) / config.first_steps)
        if len(set(times.tolist())) < config.first_steps:
            raise OneDPError(f"The teacher's process has fewer than {config.first_steps} steps; lower first_steps.")
        self.sizes = config.sizes  # steps of each stage's student
        halvings = len(self.sizes)
        shares = [1.0] * halvings
        shares[-2:] = [2.0] * len(shares[-2:])
        if student.parameterization != self.teacher.parameterization or not setting.same_network:
            shares[0] = 2.0
        self.ends = stage_ends(shares, setting.steps)
        self.measure = None  # it ends when the halvings are done
        self.milestones = {end: milestone(size) for end, size in zip(self.ends, self.sizes, strict=True)}
        # The first stage's teacher is the frozen one; the network is there from the start, so that checkpoints have it.
        self.networks["stage_teacher"] = copy.deepcopy(student).requires_grad_(False).eval()
        self.stage = halvings - 1

    def begin_step(self, step: int) -> None:
        """At the start of a later stage the student becomes the teacher, and the rates start again."""
        self.stage = next(stage for stage, end in enumerate(self.ends) if step < end)
        first = self.ends[self.stage - 1] if self.stage else 0
        if self.stage and step == first:
            self.networks["stage_teacher"].load_state_dict(self.networks["student"].state_dict())
        role = self.optimizers["student"]
        self.optimizers["student"] = replace(role, first_step=first, last_step=self.ends[self.stage])

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Error to where two steps of the stage's teacher lead, in the student's own parameterisation."""
        student, size = self.networks["student"], self.sizes[self.stage]
        teacher = self.networks["stage_teacher"] if self.stage else self.teacher
        pairs, _, chunks = self.pairs.draw(len(batch), generator)
        index = integers(0, size, len(batch), generator)
        times = student.schedule.ode_times
        t, middle, s = (times((2 * index + edge) / (2 * size)) for edge in range(3))
        eps = normal(chunks.shape, generator)
        x_t = diffuse(student.schedule, chunks, t, eps)
        with torch.no_grad():
            target = two_step_target(teacher, x_t, (t, middle, s), index == size - 1, teacher.encode(pairs.nobs))
        raw = student.raw(x_t, t, student.encode(pairs.nobs))
        loss = (raw - student.raw_target(target, x_t, t)).square().mean()
        return loss, {"halving_loss": loss.detach()}

    def sampler(self) -> Euler:
        """As many steps as the present stage's student makes; one after the last stage."""
        return Euler(self.sizes[self.stage], clip=self.clip)


def two_step_target(
    teacher: Denoiser, x_t: Tensor, times: tuple[Tensor, Tensor, Tensor], last: Tensor, cond: Tensor
) -> Tensor:
    """The clean chunk that leads in one step where two of the teacher's lead (their eq. 8 for any noise process).

    ``last`` (B,): samples whose second step is the one to data.
    """
    t, middle, s = times
    schedule = teacher.schedule
    x_middle = ddim_step(schedule, x_t, teacher.x0(x_t, t, cond), t, middle)
    x0 = teacher.x0(x_middle, middle, cond)
    x_s = ddim_step(schedule, x_middle, x0, middle, s)
    ratio = expand_like(schedule.sigma(s) / schedule.sigma(t), x_t)
    share = expand_like(schedule.alpha(s), x_t) - expand_like(schedule.alpha(t), x_t) * ratio
    return torch.where(last[:, None, None], x0, (x_s - ratio * x_t) / share)


def stage_ends(shares: list[float], steps: int) -> list[int]:
    """Last step (exclusive) of each stage; the remainders go to the later ones, and every stage has one at least.

    Raises ``OneDPError`` when there are fewer steps than stages.
    """
    if steps < len(shares):
        raise OneDPError(f"{len(shares)} halvings need at least as many steps, not {steps}.")
    total, done = sum(shares), 0.0
    ends: list[int] = []
    for stage, share in enumerate(shares):
        done += share
        end = round(steps * done / total)
        least, most = (ends[-1] if ends else 0) + 1, steps - (len(shares) - 1 - stage)
        ends.append(min(max(end, least), most))
    return ends
