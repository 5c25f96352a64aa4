"""Minimal iterative policy ("Much ado about noising", arXiv 2512.01809): plain regression in two steps.

The first guesses the chunk from zeros, the second refines the guess, trained on expert chunks with a little noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal
from onedp.diffusion.few_step_samplers import Consistency
from onedp.diffusion.schedule import Flow, diffuse, level_times
from onedp.methods.cloning import ALL_NOISE, Cloning, guess
from onedp.methods.cloning_config import MipConfig
from onedp.methods.method import Batch, Setting


def build(config: MipConfig, setting: Setting) -> Mip:
    """For the table of methods."""
    return Mip(config, setting, setting.untrained(Flow(), "x0"))


class Mip(Cloning):
    """Acting eats no noise: the guess, times 1 - noise, is what the second pass reads.

    So the paper has it; its authors' code noises the whole chunk, and hands the guess on as it is.
    """

    def __init__(self, config: MipConfig, setting: Setting, denoiser: Denoiser):
        super().__init__(config, setting, denoiser)
        self.noise = config.noise

    def cloning_loss(self, denoiser: Denoiser, batch: Batch, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Squared errors of both steps, in units of their signal and noise shares as their code weights them."""
        cond = denoiser.encode(batch.nobs)
        first = (guess(denoiser, cond, actions) - actions).square().mean()
        t = level_times(denoiser.schedule, self.noise, len(actions), actions.device)
        eps = normal(actions.shape, generator)
        refined = denoiser.x0(diffuse(denoiser.schedule, actions, t, eps), t, cond)
        return first / (1 - self.noise) ** 2 + ((refined - actions) / self.noise).square().mean()

    def sampler(self) -> Consistency:
        """Two passes without noise."""
        return Consistency((ALL_NOISE, self.noise), noise_scale=0.0, clip=self.clip)
