"""A student of ``two_modes_ablation.py`` whose input noise has more dimensions than its action chunk.

An experiment that stays here. In the package a chunk's noise has the chunk's shape wherever it goes: networks, samplers
and their stored forms, pairs of noise and solution, exports and their adapters. What follows is as near to it as
possible: the further numbers come from a second draw of the sampler, as ancestral sampling has a hundred, and enter
the network as further channels of the chunk, whose weights are zero at first: the student begins as its teacher. Their
weights learn from both losses; no pair's solution depends on them. Such a policy is examined where it was trained,
never saved.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onedp.bench.cells import Cell
from onedp.bench.frame import Numbers, Trained
from onedp.bench.lab import fit
from onedp.bench.two_modes_lab import TwoModesLab
from onedp.bench.two_modes_plan import Plan
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal
from onedp.diffusion.sampler_parts import clipped
from onedp.diffusion.samplers import OneStep, Sampler
from onedp.methods.config import MethodConfig
from onedp.methods.method import Batch, Method
from onedp.methods.onedp import OneDp
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.pairs import PairPool
from onedp.nets.config import NetworkConfig
from onedp.nets.mlp import Mlp


class WideNoiseDenoiser(Denoiser):
    """Reads (B, Tp, Da + channels), of which the first Da are what any denoiser reads; answers (B, Tp, Da)."""

    def x0(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """The clean chunk; the skip past the network knows the action's own channels only."""
        action_dim = self.chunk_shape[1]
        c_skip, c_out, _ = self.coefficients(x_t, t)
        return c_skip * x_t[..., :action_dim] + c_out * self.raw(x_t, t, cond)[..., :action_dim]


@dataclass(frozen=True)
class WideOneStep(OneStep):
    """One pass on two draws: the chunk's noise, and what ``channels`` of a second one are."""

    channels: int = 0

    @property
    def draws(self) -> int:
        """Two."""
        return 2

    def sample(self, denoiser: Denoiser, cond: Tensor, noise: Tensor) -> Tensor:
        """One network pass."""
        z = torch.cat([noise[:, 0], noise[:, 1, :, : self.channels]], dim=2)
        return clipped(self.generate(denoiser, cond, self.noise_scale * z), self.clip)


@dataclass(frozen=True)
class WidePairPool(PairPool):
    """Pairs whose noise has ``channels`` more, drawn anew each time: the solution does not depend on them."""

    channels: int = 0

    def draw(self, n: int, generator: torch.Generator) -> tuple[Batch, Tensor, Tensor]:
        """As that of any pool."""
        batch, noise, target = super().draw(n, generator)
        return batch, widened_noise(noise, self.channels, generator), target


class WideNoiseOneDp(OneDp):
    """OneDP with a generator that reads ``channels`` more; the tracker and all losses are what they are."""

    def __init__(self, config: OneDpConfig, teacher: Denoiser, sampler: Sampler, steps: int, channels: int):
        super().__init__(config, teacher, sampler, steps, widened(teacher, channels))
        self.channels = channels

    @property
    def pairs(self) -> PairPool:
        """The teacher's solutions."""
        pool = super().pairs
        return WidePairPool(pool.nobs, pool.noise, pool.target, pool.seconds, self.channels)

    def sampler(self) -> WideOneStep:
        """With the second draw."""
        return WideOneStep(**asdict(super().sampler()), channels=self.channels)

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Nothing: diagnostics ask the teacher with the student's noise."""
        return {}

    def _student_noise(self, batch: Batch, step: int, generator: torch.Generator) -> Tensor:
        return widened_noise(super()._student_noise(batch, step, generator), self.channels, generator)


def widened_noise(noise: Tensor, channels: int, generator: torch.Generator) -> Tensor:
    """(B, Tp, Da) with ``channels`` normal numbers more in every step."""
    return torch.cat([noise, normal((*noise.shape[:2], channels), generator)], dim=2)


def widened(teacher: Denoiser, channels: int) -> WideNoiseDenoiser:
    """The teacher, trainable, whose network reads ``channels`` more and does not heed them yet."""
    horizon, action_dim = teacher.chunk_shape
    network = copy.deepcopy(teacher.backbone)
    assert isinstance(network, Mlp)
    read, said = network.chunk_encoder, network.head
    network.chunk_encoder = nn.Linear(horizon * (action_dim + channels), read.out_features)
    network.head = nn.Linear(said.in_features, horizon * (action_dim + channels))
    with torch.no_grad():
        for layer in (network.chunk_encoder, network.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        network.chunk_encoder.weight.view(-1, horizon, action_dim + channels)[..., :action_dim] = read.weight.view(
            -1, horizon, action_dim
        )
        network.chunk_encoder.bias.copy_(read.bias)
        network.head.weight.view(horizon, action_dim + channels, -1)[:, :action_dim] = said.weight.view(
            horizon, action_dim, -1
        )
        network.head.bias.view(horizon, -1)[:, :action_dim] = said.bias.view(horizon, action_dim)
    wide = WideNoiseDenoiser(
        copy.deepcopy(teacher.encoder), network, teacher.schedule, teacher.parameterization, teacher.chunk_shape
    )
    return wide.requires_grad_(True).train()


class WideNoiseLab(TwoModesLab):
    """The laboratory, whose OneDP students read ``channels`` more."""

    def __init__(self, out: Path, channels: int, make_missing: bool = True):
        super().__init__(out, make_missing=make_missing)
        self.channels = channels

    def examined(self, trained: Trained, process: str, sampler: str | None) -> Numbers:
        """Of a teacher; a student's numbers are those of its training."""
        return super().examined(trained, process, sampler) if trained.digest else {}

    def _identity(self, plan: Plan) -> dict[str, Any]:
        own = {} if plan.process is None else {"noise_channels": self.channels}
        return {**super()._identity(plan), **own}

    def _method(
        self, config: MethodConfig, steps: int, seed: int, process: str | None, network: NetworkConfig
    ) -> Method:
        plain = super()._method(config, steps, seed, process, network)
        if not isinstance(plain, OneDp):
            return plain
        return WideNoiseOneDp(plain.config, plain.teacher, plain.teacher_sampler, steps, self.channels)

    def _trained(self, plan: Plan) -> Trained:
        if plan.process is None:
            return super()._trained(plan)
        process, network = plan.process, self.options.network
        cell = Cell(plan.name, {"examination": 1, **self._identity(plan)})

        def make() -> dict[str, Any]:
            method = self._method(plan.config, plan.loop.steps, plan.loop.seed, process, network)
            folder = self.out / "runs" / cell.stem
            result = fit(method, self.data, plan.loop, folder, cell.identity, lambda *_: None)
            cost = {"steps": plan.loop.steps, **result.seconds, "passes": plan.cost["step"] * plan.loop.steps}
            return {**cost, **self.numbers_of(self._policy(cell.stem, network, method, result), process)}

        return Trained(self.out, "", self.store.done(cell, make))
