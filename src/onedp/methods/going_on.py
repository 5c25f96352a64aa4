"""Real-time chunking in one pass: regression on the teacher's solutions, half of which go on from a chunk before.

The teacher goes on by guidance at every step (arXiv 2506.07339), which a student of one pass cannot do; here it learns
what guidance would have made of its noise. The chunk before is another of the teacher's for the same observation, and
mask and delay are drawn, so that the student meets every plan that it may have to keep.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.inpainting import sample_continuing
from onedp.diffusion.samplers import Sampler
from onedp.methods.distillation import pseudo_huber
from onedp.methods.method import Batch, Setting
from onedp.methods.pairs import PAIR_BATCH, PairPool, PickedRows, Rows, make_pairs
from onedp.methods.regression import Regression
from onedp.methods.student_config import GoingOnConfig
from onedp.nets.prefix import start_as, with_plan

PLANNED, WEIGHTS = "(planned)", "(weights)"
"""Names beside the observations of a pair."""


def build(config: GoingOnConfig, setting: Setting) -> GoingOn:
    """For the table of methods."""
    return GoingOn(config, setting)


class GoingOn(Regression):
    """The student maps noise, and what was planned, to the chunk of the pair, in one pass at a fixed level.

    Diagnostics, and with them ``--patience``, judge chunks that stand alone.
    """

    def __init__(self, config: GoingOnConfig, setting: Setting):
        super().__init__(config, replace(setting, same_network=False))  # it reads more than any teacher
        if setting.same_network:
            start_as(self.networks["student"], self.teacher)

    def make_pairs(self, nobs: Mapping[str, Tensor | Rows], count: int, generator: torch.Generator) -> PairPool:
        """Half of them stand alone, half go on from those."""
        alone = make_pairs(self.teacher, self.teacher_sampler, nobs, -(-count // 2), 1.0, generator)
        return with_guided(alone, self.teacher, self.teacher_sampler, generator)

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Error to the teacher's solution from the same noise and plan."""
        student = self.networks["student"]
        pairs, noise, target = self.pairs.draw(len(batch), generator)
        cond = with_plan(student.encode(pairs.nobs), pairs.nobs[PLANNED], pairs.nobs[WEIGHTS])
        error = self.one_step.generate(student, cond, noise) - target
        squared = error.detach().square().mean(dim=2)  # (B, Tp)
        numbers = {
            "regression_rms": squared.mean().sqrt(),
            "held_rms": ((pairs.nobs[WEIGHTS] == 1) * squared).mean().sqrt(),  # of the steps that a plan holds
        }
        return pseudo_huber(error, self.config.huber).mean(), numbers


def with_guided(alone: PairPool, teacher: Denoiser, sampler: Sampler, generator: torch.Generator) -> PairPool:
    """The solutions ``alone``, and as many that go on from them: same observations, other noise, drawn masks."""
    start = time.perf_counter()
    count, length = alone.noise.shape[:2]
    device = generator.device
    noise = torch.randn(alone.noise.shape, generator=generator, device=device)
    first_pair, _, _ = alone.at(torch.zeros(1, dtype=torch.long, device=device))
    obs_steps = next(iter(first_pair.nobs.values())).shape[1]
    weights = drawn_weights(count, length, obs_steps - 1, generator)
    targets = []
    quiet = True if count <= PAIR_BATCH else None  # None: where there is no terminal
    for first in tqdm(range(0, count, PAIR_BATCH), desc="guided pairs", unit="batch", disable=quiet):
        rows = torch.arange(first, min(first + PAIR_BATCH, count), device=device)
        batch, _, planned = alone.at(rows)
        cond = teacher.encode(batch.nobs)
        targets.append(sample_continuing(sampler, teacher, cond, noise[rows, None], planned, weights[rows]))
    nobs: dict[str, Tensor | PickedRows] = {
        name: torch.cat([values, values])
        if isinstance(values, Tensor)
        else PickedRows(values.rows, torch.cat([values.picks, values.picks]))
        for name, values in alone.nobs.items()
    }
    nobs[PLANNED] = torch.cat([torch.zeros_like(alone.target), alone.target])
    nobs[WEIGHTS] = torch.cat([torch.zeros_like(weights), weights])
    seconds = alone.seconds + time.perf_counter() - start
    return PairPool(nobs, torch.cat([alone.noise, noise]), torch.cat([alone.target, *targets]), seconds)


def drawn_weights(count: int, length: int, past: int, generator: torch.Generator) -> Float[Tensor, "p tp"]:
    """Masks as RTC's (arXiv 2506.07339, eq. 5; ``runtime.requests.prefix_weights``) over chunks of ``length`` steps.

    The ``past`` steps that a chunk begins with are free. Behind them up to half of the steps are held, and let go of by
    an end that is drawn, too; none at all is held and let go of at once in some. Delay and end fall between steps, and
    the last slope is drawn, because a robot with a higher rate than the policy's asks at ticks between its steps.
    """
    future = length - past

    def uniform() -> Tensor:
        return torch.rand((count, 1), generator=generator, device=generator.device)

    delay = uniform() * (future // 2 + 1)
    delay = torch.where(uniform() < 0.5, delay.floor(), delay)
    end = delay + (uniform() * 1.1 - 0.1).clamp(min=0) * (future - delay)
    end = torch.where(uniform() < 0.5, end.floor().maximum(delay), end)
    slope = torch.where(uniform() < 0.5, 1.0, uniform())
    i = torch.arange(length, device=generator.device)[None] - past
    left = ((end - i) / (end - delay + slope)).clamp(0, 1)
    soft = left * left.expm1() / math.expm1(1)
    return torch.where(i < 0, 0.0, torch.where(i < delay, 1.0, soft))
