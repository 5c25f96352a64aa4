"""Samplers as tables: every input of the network, and the chunk, is a weighted sum of the noise and earlier answers.

True of every sampler that only scales and adds, and clips nothing but the network's answers and the result. So a graph
can run any of them as a loop of one pass, whose only difference between passes is a row of numbers. The table is read
off the sampler itself; a sampler it does not describe fails the parity check of the export.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import Sampler

PROBE = 4.0
"""An answer above every clip, by which the clipped and the unclipped use of it are told apart."""
SMALLEST = 1e-5
"""Smaller weights are rounding: samplers hand float32 to their network."""


@dataclass(frozen=True)
class LinearSampler:
    """``weights[i] @ (noise, clipped answers, answers)`` is the network's input at pass i; the last row the chunk."""

    times: list[Tensor]
    """Of each pass, as the sampler gives them to the denoiser, 0-d."""
    weights: Float[Tensor, "passes_1 draws_2passes"]
    """float64."""


def read_off(sampler: Sampler, denoiser: Denoiser) -> LinearSampler:
    """The table of ``sampler`` over the noise process of ``denoiser``, by sampling unit vectors instead of chunks."""
    fields: Any = sampler
    draws = sampler.draws
    times, plain = _probe(dataclasses.replace(fields, clip=None), denoiser, 1.0)
    noise, answers = plain[:, :draws], plain[:, draws:]
    unclipped = answers.clone()
    if sampler.clip is not None:
        limit = min(sampler.clip, 1.0)
        _, split = _probe(dataclasses.replace(fields, clip=limit), denoiser, PROBE)
        # PROBE counts as the limit where it is clipped: limit c + PROBE u, and c + u is known
        unclipped = (split[:, draws:] - limit * answers) / (PROBE - limit)
        unclipped[unclipped.abs() < SMALLEST] = 0
        unclipped[-1] = answers[-1]  # of the chunk only the sum is clipped, for its last answer the same thing
    return LinearSampler(times, torch.cat([noise, answers - unclipped, unclipped], dim=1))


def _probe(sampler: Sampler, denoiser: Denoiser, answer: float) -> tuple[list[Tensor], Tensor]:
    """Times, and what the passes and the chunk hold of each draw and each answer, (passes + 1, draws + passes)."""
    draws = sampler.draws
    size = draws + sampler.nfe
    noise = torch.eye(draws, size)[None, :, None, :]  # a "chunk" of one step whose numbers are the shares
    probe = _UnitAnswers(denoiser, draws, size, answer)
    chunk = sampler.sample(probe, torch.zeros(1, 1), noise)
    return probe.times, torch.stack([*probe.inputs, chunk.double().flatten()])


class _UnitAnswers(Denoiser):
    """Answers pass i with a unit vector of its own, times a factor."""

    def __init__(self, source: Denoiser, first: int, size: int, factor: float):
        super().__init__(nn.Identity(), nn.Identity(), source.schedule, source.parameterization, (1, size))
        self.first, self.size, self.factor = first, size, factor
        self.times: list[Tensor] = []
        self.inputs: list[Tensor] = []

    def x0(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        answer = torch.zeros(1, 1, self.size)
        answer[..., self.first + len(self.times)] = self.factor
        self.times.append(t[0])
        self.inputs.append(x_t.double().flatten())
        return answer
