"""ACT (Zhao et al., arXiv 2304.13705): a conditional VAE on action chunks, the baseline without diffusion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import normal
from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import OneDPError, TrainingError
from onedp.methods.config import ActTrainingConfig
from onedp.methods.method import Batch, Method, OptimizerRole, Setting
from onedp.nets.act import Act


def build(config: ActTrainingConfig, setting: Setting) -> ActTraining:
    """For the table of methods; raises ``OneDPError`` unless the network is the one of this method."""
    return ActTraining(config, setting.untrained(CosineDdpm(), "x0"), setting.steps, setting.clip)


class ActTraining(Method):
    """Absolute error of the reconstructed chunk plus the KL divergence of the latent from its prior (their eq. 1)."""

    def __init__(self, config: ActTrainingConfig, policy: Denoiser, steps: int, clip: float | None = 1.0):
        if not isinstance(policy.backbone, Act):
            raise OneDPError("The method act trains a network of its own. Use --network act.")
        self.config, self.clip, self.backbone = config, clip, policy.backbone
        self.networks = {"policy": policy}
        self.optimizers = {"act": OptimizerRole("policy", config.optimizer, 0, steps)}
        self.averaged = {"policy": config.ema}
        self.result = "policy"

    def updates(self, step: int) -> Sequence[str]:
        """One update a step."""
        return ("act",)

    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative evidence bound with their weight on its second part; padded actions (held) count."""
        if batch.nactions is None:
            raise TrainingError("ACT is trained on actions; this data set has observations only.")
        cond = self.networks["policy"].encode(batch.nobs)
        mean, log_variance = self.backbone.posterior(batch.nactions, cond)
        eps = normal(mean.shape, generator)
        latent = mean + (0.5 * log_variance).exp() * eps
        actions = self.backbone(
            batch.nactions, torch.zeros_like(cond[:, 0]), cond, latent
        )  # it reads no chunk, no time
        error = (actions - batch.nactions).abs().mean()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        loss = error + self.config.kl_weight * divergence
        return loss, {"loss": loss.detach(), "l1": error.detach(), "kl": divergence.detach()}

    def sampler(self) -> OneStep:
        """One pass without noise."""
        return OneStep(noise_scale=0.0, clip=self.clip)

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Absolute error on held-out windows with the latent at 0, as the policy acts."""
        if batch.nactions is None:
            return {}
        times = torch.zeros(len(batch), dtype=torch.int64, device=generator.device)
        with torch.no_grad():
            actions = network.x0(torch.zeros_like(batch.nactions), times, network.encode(batch.nobs))
        return {"heldout_l1": float((actions - batch.nactions).abs().mean())}
