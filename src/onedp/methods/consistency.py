"""Consistency distillation (Song et al., arXiv 2303.01469, algorithm 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import integers, normal
from onedp.diffusion.few_step_samplers import Consistency
from onedp.diffusion.schedule import diffuse
from onedp.methods.distillation import FromPairs, bin_times, follow_ode, pseudo_huber, student_from_pure_noise
from onedp.methods.levels import pure_noise_level
from onedp.methods.method import Batch, Setting
from onedp.methods.pairs import PairPool
from onedp.methods.student_config import ConsistencyConfig


def build(config: ConsistencyConfig, setting: Setting) -> ConsistencyDistillation:
    """For the table of methods."""
    return ConsistencyDistillation(config, setting)


class ConsistencyDistillation(FromPairs):
    """The student gives the same chunk anywhere along one ODE trajectory of the teacher.

    Trajectories are entered at the teacher's own chunks, noised: distillation knows no others. The target network is
    the student itself, detached, as arXiv 2310.14189 (section 3.2) recommends over an average.
    """

    def __init__(self, config: ConsistencyConfig, setting: Setting):
        super().__init__(config, setting, student_from_pure_noise(setting))
        self.config = config

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Difference of the student's answers at two neighbouring times, the later one's target being the earlier's."""
        bins = self.config.bins_at(step / self.steps)
        student, huber = self.networks["student"], self.config.huber
        return consistency_loss(student, self.teacher, self.pairs, bins, len(batch), huber, generator)

    def sampler(self) -> Consistency:
        """One pass from pure noise."""
        return Consistency((pure_noise_level(self.teacher.schedule),), clip=self.clip)


def consistency_loss(
    student: Denoiser,
    teacher: Denoiser,
    pairs: PairPool,
    bins: int,
    n: int,
    huber: float | None,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared or pseudo-Huber difference of the student's answers at both ends of one of ``bins`` steps of the ODE.

    ``n`` chunks of the ``pairs`` are noised to the step's earlier end, and the ``teacher`` solves it; the answer behind
    it, detached, is the target.
    """
    batch, _, chunks = pairs.draw(n, generator)
    index = integers(0, bins, n, generator)
    t, s = (bin_times(student.schedule, bins, edge) for edge in (index, index + 1))
    eps = normal(chunks.shape, generator)
    x_t = diffuse(student.schedule, chunks, t, eps)
    cond = student.encode(batch.nobs)
    with torch.no_grad():
        x_s = follow_ode(teacher, x_t, bins, index, teacher.encode(batch.nobs))
        target = torch.where((index == bins - 1)[:, None, None], x_s, student.x0(x_s, s, cond))  # data: itself
    error = student.x0(x_t, t, cond) - target
    return pseudo_huber(error, huber).mean(), {"consistency_rms": error.detach().square().mean().sqrt()}
