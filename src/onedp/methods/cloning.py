"""Behaviour cloning by mean squared error: the observation's mean action chunk in one pass, no noise."""

from __future__ import annotations

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import OneStep, Sampler
from onedp.diffusion.schedule import Flow, level_times
from onedp.errors import TrainingError
from onedp.methods.cloning_config import CloningConfig
from onedp.methods.method import Batch, Method, OptimizerRole, Setting

ALL_NOISE = 1.0
"""Time of the flow process at which there is no signal left."""


def build(config: CloningConfig, setting: Setting) -> Cloning:
    """For the table of methods."""
    return Cloning(config, setting, setting.untrained(Flow(), "x0"))


class Cloning(Method):
    """The network at time 1 on a chunk of zeros gives the actions."""

    def __init__(self, config: CloningConfig, setting: Setting, denoiser: Denoiser):
        self.clip = setting.clip
        self.networks = {"policy": denoiser}
        self.optimizers = {"policy": OptimizerRole("policy", config.optimizer, 0, setting.steps)}
        self.averaged = {"policy": config.ema}
        self.result = "policy"

    def updates(self, step: int) -> tuple[str, ...]:
        """One update a step."""
        return ("policy",)

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """This method's loss on the expert's actions."""
        if batch.nactions is None:
            raise TrainingError("Cloning is trained on actions; this data set has observations only.")
        loss = self.cloning_loss(self.networks["policy"], batch, batch.nactions, generator)
        return loss, {"loss": loss.detach()}

    def cloning_loss(self, denoiser: Denoiser, batch: Batch, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the answer to nothing but the observation."""
        return (guess(denoiser, denoiser.encode(batch.nobs), actions) - actions).square().mean()

    def sampler(self) -> Sampler:
        """One pass from zeros."""
        return OneStep(level=ALL_NOISE, noise_scale=0.0, clip=self.clip)

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """The loss of the averaged weights on held-out windows."""
        if batch.nactions is None:
            return {}
        with torch.no_grad():
            return {"heldout_loss": float(self.cloning_loss(network, batch, batch.nactions, generator))}


def guess(denoiser: Denoiser, cond: Tensor, like: Tensor) -> Tensor:
    """The clean estimate at time 1 from a chunk of zeros shaped as ``like`` (B, Tp, Da)."""
    t = level_times(denoiser.schedule, ALL_NOISE, len(like), like.device)
    return denoiser.x0(torch.zeros_like(like), t, cond)
