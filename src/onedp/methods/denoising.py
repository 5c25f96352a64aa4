"""The teacher: ordinary denoising training of a diffusion policy (Chi et al., arXiv 2303.04137)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal
from onedp.diffusion.few_step_samplers import Euler
from onedp.diffusion.samplers import Ddim, Heun, Sampler
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow, NoiseSchedule, diffuse
from onedp.errors import TrainingError
from onedp.methods.config import DenoisingConfig
from onedp.methods.method import Batch, Method, OptimizerRole, Setting

PROCESSES: dict[str, tuple[NoiseSchedule, str]] = {
    "ddpm": (CosineDdpm(), "eps"),
    "edm": (Edm(), "edm"),
    "flow": (Flow(), "flow"),
}
"""Noise process and parameterisation by the name in the config."""


def build(config: DenoisingConfig, setting: Setting) -> Denoising:
    """For the table of methods."""
    return Denoising(config, setting.untrained(*PROCESSES[config.process]), setting.steps, setting.clip)


class Denoising(Method):
    """Minimise the squared error of the denoiser's raw output at the process's training times."""

    def __init__(self, config: DenoisingConfig, denoiser: Denoiser, steps: int, clip: float | None = 1.0):
        self.clip = clip  # None for data that is not scaled to [-1, 1]
        self.draws = config.noise_draws
        self.networks = {"denoiser": denoiser}
        self.optimizers = {"denoising": OptimizerRole("denoiser", config.optimizer, 0, steps)}
        self.averaged = {"denoiser": config.ema}
        self.result = "denoiser"

    def updates(self, step: int) -> Sequence[str]:
        """One update a step."""
        return ("denoising",)

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Denoising loss of brief 2.4's form; padded actions (an episode's end, held) count."""
        if batch.nactions is None:
            raise TrainingError("A teacher is trained on actions; this data set has observations only.")
        loss = denoising_loss(self.networks["denoiser"], batch.nactions, batch, generator, self.draws)
        return loss, {"loss": loss.detach()}

    def sampler(self) -> Sampler:
        """DDIM-10, Heun-10 for EDM (the references of every comparison), Euler-10 for flow matching."""
        samplers = {"ddpm": Ddim, "edm": Heun, "flow": Euler}
        return samplers[self.networks["denoiser"].schedule.kind](10, clip=self.clip)

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Denoising loss of the averaged weights on held-out windows."""
        if batch.nactions is None:
            return {}
        with torch.no_grad():
            return {"heldout_loss": float(denoising_loss(network, batch.nactions, batch, generator))}


def denoising_loss(denoiser: Denoiser, x0: Tensor, batch: Batch, generator: torch.Generator, draws: int = 1) -> Tensor:
    """Mean squared error of the raw output on clean chunks ``x0`` (B, Tp, Da) at fresh training times.

    Each observation is encoded once, and its chunk noised ``draws`` times.
    """
    x0 = x0.repeat_interleave(draws, 0)
    t = denoiser.schedule.training_times(len(x0), generator)
    eps = normal(x0.shape, generator)
    x_t = diffuse(denoiser.schedule, x0, t, eps)
    raw = denoiser.raw(x_t, t, denoiser.encode(batch.nobs).repeat_interleave(draws, 0))
    return (raw - denoiser.raw_target(x0, x_t, t)).square().mean()
