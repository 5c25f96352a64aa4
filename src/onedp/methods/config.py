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


@dataclass(frozen=True)
class OneDpConfig(MethodConfig):
    """One-Step Diffusion Policy (arXiv 2410.21257): distil a teacher into a generator of one network pass."""

    kind = "onedp"
    main_optimizer = "generator"

    variant: Literal["s", "d"] = "s"
    """s: stochastic, with a generator score network; d: deterministic, without."""
    parameterization: Literal["teacher", "x0"] = "teacher"
    """What the generator's network predicts: what the teacher's does, or the clean chunk whatever that is. Without a
    skip past the network such a student fits other libraries' formats; the regression teaches it the other output."""
    generator: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-6, betas=(0.0, 0.999), weight_decay=0.0)
    )
    """Optimizer of the generator."""
    tracker: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=2e-5, betas=(0.0, 0.999), weight_decay=0.0)
    )
    """Optimizer of the generator score network (variant s)."""
    initial_level: float | None = None
    """Level at which the generator asks its network; None: step 65 of 100 (DDPM) or sigma 2.5 (EDM)."""
    input_noise_scale: float = 1.0
    """Factor on the noise as the generator's network reads it; below 1 there is less of it to cancel (paper: 1)."""
    level_low: float | None = None
    """Smallest level at which teacher and student are compared; None: step 2 of 100 (DDPM), unbounded (EDM)."""
    level_high: float | None = None
    """Largest such level; None: step 95 of 100 (DDPM), unbounded (EDM)."""
    final_level_high: float | None = None
    """When given, ``level_high`` moves linearly to it over training (sharpens variant d)."""
    annealed: bool = False
    """The same with ends of the process's own: from noise 16 times the signal to noise 0.74 times the signal."""
    tracker_updates: int = 1
    """Tracker updates before each generator update."""
    tracker_warmup: int = 0
    """Updates of the tracker alone before the generator starts to move."""
    regression_steps: int = 0
    """Steps of regression on the teacher's own ODE solutions before distribution matching; 0 as in the paper."""
    regression_pairs: int = 0
    """Teacher solutions made for it (one teacher sampling each); at least one where there are regression steps."""
    regression: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=3e-4, betas=(0.9, 0.999), decay="cosine", clip_norm=1.0)
    )
    """Optimizer of the generator during regression."""
    regression_huber: float | None = None
    """Chunk error (root mean square, normalised) at which regression turns from quadratic to linear (pseudo-Huber), so
    that the few chunks of another mode do not outweigh the precision of the rest; None: quadratic throughout."""
    regression_sampler: str | None = None
    """Teacher's sampler for the pairs; None: its own (ddim:10 or heun:10); "fine": its process's in
    ``student_config.FINE_SAMPLERS``."""
    regression_weight: float = 0.0
    """Weight of the regression loss in the generator's during distribution matching."""
    normalize_gradient: bool = False
    """Divide each sample's gradient by the mean distance of student and teacher (DMD, arXiv 2311.18828, eq. 8)."""
    divergence: Literal["kl", "fisher"] = "kl"
    """What brings the student to the teacher: the paper's reverse KL, or SiD's Fisher divergence (variant s)."""
    fisher_alpha: float = 1.2
    """SiD's alpha (arXiv 2404.04057, eq. 23)."""
    adversarial_weight: float = 0.0
    """Weight of a critic on the tracker's features in the generator's gradient (variant s; DMD2, arXiv 2405.14867,
    section 4.3). Its real samples are the teacher's solutions, so it needs regression_pairs."""
    critic_weight: float = 0.1
    """Weight of the critic's own loss beside the tracker's."""
    ema: EmaConfig | None = None
    """Average of the generator that is saved; None saves the last weights, as the paper."""
    acting_noise_scale: float = 1.0
    """Factor on the student's input noise when it acts (variant s)."""

    def __post_init__(self) -> None:
        if self.regression_steps and not self.regression_pairs:
            raise OneDPError("regression_steps need regression_pairs: how many teacher solutions to regress on.")
        if self.regression_weight < 0 or (self.regression_weight > 0 and not self.regression_pairs):
            raise OneDPError(
                f"regression_weight must not be negative, it is {self.regression_weight}; above 0 it needs "
                "regression_pairs: how many teacher solutions to regress on."
            )
        if self.annealed and (self.level_high is not None or self.final_level_high is not None):
            raise OneDPError("annealed has its own level_high and final_level_high; leave them out.")
        if self.variant == "d" and (self.divergence == "fisher" or self.adversarial_weight > 0):
            raise OneDPError("The Fisher divergence and a critic need the generator score network: variant s.")
        if self.adversarial_weight > 0 and not self.regression_pairs:
            raise OneDPError("adversarial_weight needs regression_pairs: the critic's real samples.")
        for low, high in ((self.level_low, self.level_high), (self.level_low, self.final_level_high)):
            if low is not None and high is not None and low > high:
                raise OneDPError(f"The levels of distribution matching end ({high:g}) below their start ({low:g}).")
        if self.tracker_updates < 1:
            raise OneDPError(f"tracker_updates must be at least 1, it is {self.tracker_updates}.")
        if self.input_noise_scale <= 0 or (self.regression_huber is not None and self.regression_huber <= 0):
            raise OneDPError(
                f"input_noise_scale ({self.input_noise_scale}) and regression_huber ({self.regression_huber}) must be "
                "positive."
            )
        if self.acting_noise_scale <= 0:
            raise OneDPError("acting_noise_scale must be positive; for a deterministic policy use --method onedp-d.")

    def with_phases_scaled(self, share: float) -> OneDpConfig:
        """Regression, its pairs and the tracker's warm-up; a step is left for matching, however few there are."""
        return dataclasses.replace(
            self,
            regression_steps=math.floor(self.regression_steps * share),
            regression_pairs=math.ceil(self.regression_pairs * share),
            tracker_warmup=math.floor(self.tracker_warmup * share),
        )

    def with_warmups_within(self, steps: int) -> OneDpConfig:
        """That of the regression: 50 steps of warm-up are most of the learning of a short one."""
        return dataclasses.replace(self, regression=self.regression.with_warmup_within(self.regression_steps))
