"""Configs of all methods. Torch-free, so ``--help`` is fast; each method's file holds its losses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from onedp.errors import OneDPError
from onedp.nets.config import NetworkName


@dataclass(frozen=True)
class OptimizerConfig:
    """One Adam optimizer (AdamW when there is weight decay) and its learning-rate schedule."""

    lr: float = 3e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.95, 0.999)
    """Decay rates of the moments."""
    weight_decay: float = 1e-6
    """Decoupled weight decay."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    decay: Literal["cosine", "constant"] = "constant"
    """After the warm-up: cosine to zero at the last step, or constant."""
    clip_norm: float | None = None
    """Largest gradient norm; None for no clipping."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise OneDPError(f"A learning rate must be a positive number, not {self.lr}.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise OneDPError(f"The decay rates of an optimizer's moments must lie in [0, 1), they are {self.betas}.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0) or self.warmup_steps < 0:
            raise OneDPError(
                f"weight_decay ({self.weight_decay}) and warmup_steps ({self.warmup_steps}) must not be negative."
            )
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise OneDPError(f"clip_norm must be positive, or None for no clipping; it is {self.clip_norm}.")

    def with_warmup_within(self, phase_steps: int) -> OptimizerConfig:
        """The same with a warm-up of a twentieth of ``phase_steps`` at the most, but of one step."""
        return dataclasses.replace(self, warmup_steps=min(self.warmup_steps, max(1, phase_steps // 20)))


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of weights; decay after n updates is min(max_decay, 1 - (1 + n) ** -power)."""

    max_decay: float = 0.9999
    """Largest decay; the averaged weights then span about 1 / (1 - max_decay) steps."""
    power: float = 0.75
    """Warm-up exponent (0.75 as in Diffusion Policy)."""

    def __post_init__(self) -> None:
        if not (0 <= self.max_decay < 1 and self.power > 0):
            raise OneDPError(
                f"A moving average needs a decay in [0, 1) and a positive power, not {self.max_decay} and {self.power}."
            )


Config = TypeVar("Config", bound="MethodConfig")


class MethodConfig:
    """What the configs of all methods share; each is a frozen dataclass in this file or beside it."""

    kind: ClassVar[str]
    """Name under which the config is stored; several methods of the table may share it."""
    main_optimizer: ClassVar[str] = "optimizer"
    """Field of the optimizer that moves the policy, the one that ``--lr`` is about."""
    default_network: ClassVar[NetworkName] = "unet-small"
    """Network of the command line unless another is asked for."""
    network_changes: ClassVar[Mapping[str, Any]] = {}
    """What the method needs of the network's config."""

    @property
    def holds_weights(self) -> bool:
        """Whether a loss is followed back through a network that learns, at its input alone (``gradient_at``)."""
        return False

    @property
    def stages(self) -> Mapping[str, str]:
        """Policies that are kept on the way, without the last: the name of each milestone to what its policy is."""
        return {}

    def with_rate(self: Config, lr: float) -> Config:
        """The same with another learning rate of the main optimizer."""
        optimizer = dataclasses.replace(getattr(self, self.main_optimizer), lr=lr)
        return dataclasses.replace(self, **{self.main_optimizer: optimizer})  # type: ignore[type-var]

    def with_rates_scaled(self: Config, factor: float) -> Config:
        """The same with every optimizer's learning rate times ``factor``."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}  # type: ignore[arg-type]
        scaled = {
            name: dataclasses.replace(value, lr=factor * value.lr)
            for name, value in values.items()
            if isinstance(value, OptimizerConfig)
        }
        return dataclasses.replace(self, **scaled)  # type: ignore[type-var]

    def with_warmups_within(self: Config, steps: int) -> Config:
        """The same with warm-ups that are short against their phases in a run of ``steps`` steps."""
        return self

    def with_phases_scaled(self: Config, share: float) -> Config:
        """The same for a run of ``share`` times as many steps: phases counted in steps keep their share of it."""
        return self


@dataclass(frozen=True)
class DenoisingConfig(MethodConfig):
    """Train a diffusion policy (the teacher) by denoising."""

    kind = "denoising"

    process: Literal["ddpm", "edm", "flow"] = "ddpm"
    """Noise process: cosine DDPM with 100 steps and noise prediction, EDM with its preconditioning, or the linear
    interpolant of flow matching with velocity prediction."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-3, warmup_steps=500, decay="cosine", clip_norm=1.0)
    )
    """Optimizer of the denoiser."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """Average whose weights are saved."""
    noise_draws: int = 1
    """How often each chunk of a batch is noised; its observation is encoded once. More than once pays where encoding
    is what costs: pictures."""

    def __post_init__(self) -> None:
        if self.noise_draws < 1:
            raise OneDPError(f"noise_draws must be at least 1, it is {self.noise_draws}.")


@dataclass(frozen=True)
class ActTrainingConfig(MethodConfig):
    """Train ACT, a conditional VAE without diffusion (arXiv 2304.13705); its network is ``nets.config.ActConfig``."""

    kind = "act"
    default_network = "act"

    kl_weight: float = 10.0
    """Weight of the latent's KL divergence from its prior, against the mean absolute error of normalised actions."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            lr=3e-4, betas=(0.9, 0.999), weight_decay=1e-4, warmup_steps=500, decay="cosine", clip_norm=1.0
        )
    )
    """Optimizer of the whole network."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """Average whose weights are saved."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.kl_weight) and self.kl_weight >= 0):
            raise OneDPError(f"kl_weight must not be negative, it is {self.kl_weight}.")
