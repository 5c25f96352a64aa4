"""Configs of all methods. Torch-free, so ``--help`` is fast; each method's file holds its losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from onedp.errors import OneDPError


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


@dataclass(frozen=True)
class DenoisingConfig:
    """Train a diffusion policy (the teacher) by denoising."""

    process: Literal["ddpm", "edm"] = "ddpm"
    """Noise process: cosine DDPM with 100 steps and noise prediction, or EDM with its preconditioning."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-3, warmup_steps=500, decay="cosine", clip_norm=1.0)
    )
    """Optimizer of the denoiser."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """Average whose weights are saved."""


@dataclass(frozen=True)
class OneDpConfig:
    """One-Step Diffusion Policy (arXiv 2410.21257): distil a teacher into a generator of one network pass."""

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
    """Teacher's sampler for the pairs; None: ddim:10 or heun:10."""
    normalize_gradient: bool = False
    """Divide each sample's gradient by the mean distance of student and teacher (DMD, arXiv 2311.18828, eq. 8)."""
    ema: EmaConfig | None = None
    """Average of the generator that is saved; None saves the last weights, as the paper."""
    acting_noise_scale: float = 1.0
    """Factor on the student's input noise when it acts (variant s)."""

    def __post_init__(self) -> None:
        if self.regression_steps and not self.regression_pairs:
            raise OneDPError("regression_steps need regression_pairs: how many teacher solutions to regress on.")
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


MethodConfig = DenoisingConfig | OneDpConfig
