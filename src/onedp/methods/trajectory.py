"""Consistency Policy (Prasad et al., arXiv 2405.07503): consistency trajectories (CTM, Kim et al., arXiv 2310.02279)
with a denoising loss (DSM) beside them.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal, uniform
from onedp.diffusion.few_step_samplers import Consistency
from onedp.diffusion.schedule import diffuse
from onedp.methods.distillation import (
    FromPairs,
    bin_times,
    follow_ode,
    gradient_at,
    pseudo_huber,
    student_from_pure_noise,
)
from onedp.methods.levels import pure_noise_level
from onedp.methods.method import Batch, Setting
from onedp.methods.student_config import TrajectoryConfig
from onedp.nets.two_times import JumpDenoiser, clean_time


def build(config: TrajectoryConfig, setting: Setting) -> Trajectory:
    """For the table of methods."""
    return Trajectory(config, setting)


class Trajectory(FromPairs):
    """The student jumps from any time of the teacher's ODE to any earlier one.

    Two ways from t to s must end alike: at once, and over u, to which the teacher solves one step. They are compared as
    clean chunks. As in their code but for: the teacher's own chunks in the place of demonstrations, no dropout, and
    targets from the student itself, detached, instead of from an average (arXiv 2310.14189, section 3.2).
    """

    def __init__(self, config: TrajectoryConfig, setting: Setting):
        super().__init__(config, setting, JumpDenoiser(student_from_pure_noise(setting)))
        self.config = config

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Trajectory loss and denoising loss on the same chunks."""
        student = cast(JumpDenoiser, self.networks["student"])
        pairs, _, chunks = self.pairs.draw(len(batch), generator)
        cond = student.encode(pairs.nobs)
        bins = self.config.bins_at(step / self.steps)
        trajectory, rms = self._trajectory_loss(student, pairs, chunks, cond, bins, generator)
        denoising = self._denoising_loss(student, chunks, cond, generator)
        loss = trajectory + self.config.denoising_weight * denoising
        return loss, {"trajectory_rms": rms, "denoising_loss": denoising.detach()}

    def sampler(self) -> Consistency:
        """One pass from pure noise; ``consistency:3`` chains three."""
        return Consistency((pure_noise_level(self.teacher.schedule),), clip=self.clip)

    def finished(self, network: Denoiser) -> Denoiser:
        """The jump to clean data alone is needed to act."""
        return cast(JumpDenoiser, network).without_arrival()

    def _trajectory_loss(
        self, student: JumpDenoiser, pairs: Batch, chunks: Tensor, cond: Tensor, bins: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        schedule, n = student.schedule, len(chunks)
        start, stop = (uniform(n, generator) for _ in range(2))
        start = (start * bins).long()  # 0..bins - 1, 0 is noise
        stop = start + 1 + (stop * (bins - start)).long()  # start + 1..bins
        t, u, s = (bin_times(schedule, bins, edge) for edge in (start, start + 1, stop))
        x_t = diffuse(schedule, chunks, t, normal(chunks.shape, generator))
        there = student.jump(x_t, t, s, cond)
        clean = clean_time(schedule, t)
        with torch.no_grad():
            x_u = follow_ode(self.teacher, x_t, bins, start, self.teacher.encode(pairs.nobs))
            over_u = student.jump(x_u, u, s, cond)  # x_u itself where s = u
            target = student.jump(over_u, s, clean, cond)
        fixed, differences = cond.detach(), []

        def error(x: Tensor) -> Tensor:
            """What is differentiated; the difference is kept for the log, which another pass would cost."""
            differences.append(student.jump(x, s, clean, fixed) - target)
            return pseudo_huber(differences[0], self.config.huber).mean()

        # The way from s to clean data is followed back with the student's weights held, as their stop-gradient says.
        gradient = gradient_at(error, there)
        return (gradient * there).sum(), differences[0].detach().square().mean().sqrt()

    def _denoising_loss(
        self, student: JumpDenoiser, chunks: Tensor, cond: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Squared error of the raw output at the process's training times, as a teacher is trained."""
        schedule = student.schedule
        t = schedule.training_times(len(chunks), generator)
        x_t = diffuse(schedule, chunks, t, normal(chunks.shape, generator))
        s = t if self.config.denoising_arrival == "same" else clean_time(schedule, t)
        return (student.raw_to(x_t, t, s, cond) - student.raw_target(chunks, x_t, t)).square().mean()
