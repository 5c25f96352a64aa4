"""MeanFlow (Geng et al., arXiv 2505.13447): a network of average velocities, trained from data to act in one step.

Their t = 0 is data and t = 1 noise, as here.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal, uniform
from onedp.diffusion.few_step_samplers import Consistency
from onedp.diffusion.schedule import Flow, diffuse, expand_like
from onedp.methods.cloning import ALL_NOISE, Cloning
from onedp.methods.cloning_config import MeanFlowConfig
from onedp.methods.method import Batch, Setting
from onedp.nets.two_times import JumpDenoiser

WEIGHT_FLOOR = 1e-3
"""Added to the squared error before a sample's weight is taken (their c)."""


def build(config: MeanFlowConfig, setting: Setting) -> MeanFlow:
    """For the table of methods."""
    denoiser = JumpDenoiser(setting.untrained(Flow(time_scale=config.time_scale), "flow"))
    return MeanFlow(config, setting, denoiser)


class MeanFlow(Cloning):
    """The raw output is the average velocity u(x_t, r, t) between t and an earlier r, so x_r = x_t - (t - r) u."""

    def __init__(self, config: MeanFlowConfig, setting: Setting, denoiser: JumpDenoiser):
        super().__init__(config, setting, denoiser)
        self.config = config

    def cloning_loss(self, denoiser: Denoiser, batch: Batch, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Each sample's squared error to ``v - (t - r) du/dt``, weighted by its own size (their eq. 10 and 22)."""
        jump = cast(JumpDenoiser, denoiser)
        r, t = self._times(len(actions), generator)
        eps = normal(actions.shape, generator)
        x_t = diffuse(jump.schedule, actions, t, eps)
        cond = jump.encode(batch.nobs)
        with torch.no_grad():
            target = average_velocity_target(jump, x_t, r, t, eps - actions, cond)
        squared = (jump.raw_to(x_t, t, r, cond) - target).square().mean(dim=(1, 2))
        weight = (squared.detach() + WEIGHT_FLOOR) ** self.config.weight_power
        return (squared / weight).mean()

    def sampler(self) -> Consistency:
        """One pass from pure noise."""
        return Consistency((ALL_NOISE,), clip=self.clip)

    def finished(self, network: Denoiser) -> Denoiser:
        """The way to clean data alone is needed to act."""
        return cast(JumpDenoiser, network).without_arrival()

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Error of one-step samples beside the expert's chunk: their spread is in it, so it falls but not to zero."""
        if batch.nactions is None:
            return {}
        noise = normal((len(batch), 1, *network.chunk_shape), generator)
        with torch.no_grad():
            chunks = self.sampler().sample(network, network.encode(batch.nobs), noise)
        return {"heldout_error": float((chunks - batch.nactions).square().mean().sqrt())}

    def _times(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Earlier and later time (n,) of each sample; the same for all but a share of them."""
        config = self.config
        drawn = normal((2, n), generator, rows=1)
        times = torch.sigmoid(config.time_mean + config.time_std * drawn).clamp_min(1e-3)
        t, r = times.max(dim=0).values, times.min(dim=0).values
        different = uniform(n, generator) < config.different_share
        return torch.where(different, r, t), t


def average_velocity_target(
    denoiser: JumpDenoiser, x_t: Tensor, r: Tensor, t: Tensor, velocity: Tensor, cond: Tensor
) -> Tensor:
    """``v - (t - r) (v du/dx + du/dt)``, the total derivative by one forward-mode product (their eq. 8 and 9)."""

    def average(x: Tensor, time: Tensor) -> Tensor:
        return denoiser.raw_to(x, time, r, cond)

    change: Tensor = torch.func.jvp(average, (x_t, t), (velocity, torch.ones_like(t)))[1]
    return velocity - expand_like(t - r, x_t) * change
