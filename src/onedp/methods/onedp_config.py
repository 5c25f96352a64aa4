"""Config of OneDP. Torch-free."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

from onedp.errors import OneDPError
from onedp.methods.config import EmaConfig, MethodConfig, OptimizerConfig


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
    """Level at which the generator asks its network; None: step 65 of 100 (DDPM) or sigma 2.5 (EDM); after a warm start
    by consistency pure noise."""
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
    level_power: float = 0.0
    """Power of noise over signal that a level's gradient is weighted with, 1 on average: below 0 small
    levels count more (precision), above 0 large ones (modes). 0: the paper's weights as they are."""
    tracker_updates: int = 1
    """Tracker updates before each generator update."""
    tracker_warmup: int = 0
    """Updates of the tracker alone before the generator starts to move."""
    regression_steps: int = 0
    """Steps of regression on the teacher's own ODE solutions before distribution matching; 0 as in the paper."""
    warm_start: Literal["regression", "consistency"] = "regression"
    """Loss of those steps: regression, or consistency distillation from the same solutions with the same optimizer and
    pseudo-Huber scale (variant s). The generator then asks its network at pure noise, unless told another level."""
    regression_pairs: int = 0
    """Teacher solutions made for it (one teacher sampling each); at least one where there are regression steps."""
    pair_noise_scale: float = 1.0
    """Factor on the noise that those solutions begin with (variant s). At ``acting_noise_scale`` the student is taught
    just what it is asked when it acts: the teacher's answers to that much noise."""
    regression: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=3e-4, betas=(0.9, 0.999), decay="cosine", clip_norm=1.0)
    )
    """Optimizer of the generator during regression."""
    regression_huber: float | None = None
    """Chunk error (root mean square, normalised) at which regression turns from quadratic to linear (pseudo-Huber), so
    that the few chunks of another mode do not outweigh the precision of the rest; None: quadratic throughout."""
    unexecuted_weight: float = 1.0
    """Weight in the regression of predicted actions that are not executed, beside 1 of the others: far ahead a chunk is
    uncertain, and would have most of the error."""
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
    matching_noise: Literal["whole", "annealed", "learned"] = "whole"
    """Factor on it during distribution matching (variant s): 1 as in the paper; linearly from 1 to
    ``acting_noise_scale``; or a number that is learned from 1 on with the generator's loss, and acted with."""
    noise_gain_lr: float = 0.01
    """Learning rate of that number's logarithm, under the schedule of ``generator``; of no network, so no network's
    size scales it."""

    def __post_init__(self) -> None:
        self._check_warm_start()
        self._check_noise()
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

    @property
    def holds_weights(self) -> bool:
        """The Fisher divergence and the critic look at actions through the tracker."""
        return self.divergence == "fisher" or self.adversarial_weight > 0

    def _check_warm_start(self) -> None:
        if self.warm_start != "consistency":
            return
        if self.variant == "d":
            raise OneDPError(
                "A consistency warm start teaches an answer to every noise, and variant d is asked at none: use "
                "warm_start regression, or variant s."
            )
        if not self.regression_steps:
            raise OneDPError("A consistency warm start needs regression_steps: how long it takes.")
        if self.input_noise_scale != 1:
            raise OneDPError(
                "A consistency warm start teaches answers to all of the noise, so input_noise_scale must be 1; it is "
                f"{self.input_noise_scale:g}."
            )

    def _check_noise(self) -> None:
        if self.input_noise_scale <= 0 or (self.regression_huber is not None and self.regression_huber <= 0):
            raise OneDPError(
                f"input_noise_scale ({self.input_noise_scale}) and regression_huber ({self.regression_huber}) must be "
                "positive."
            )
        if not 0 <= self.unexecuted_weight <= 1:
            raise OneDPError(f"unexecuted_weight must be 0 to 1, it is {self.unexecuted_weight}.")
        for name in ("acting_noise_scale", "pair_noise_scale"):
            scale = getattr(self, name)
            if not (math.isfinite(scale) and scale > 0):
                raise OneDPError(f"{name} must be positive, not {scale}; for a deterministic policy: --method onedp-d.")
        if self.pair_noise_scale != 1 and self.warm_start == "consistency":
            raise OneDPError("A consistency warm start needs solutions from all of the noise: pair_noise_scale 1.")
        if not (math.isfinite(self.noise_gain_lr) and self.noise_gain_lr > 0):
            raise OneDPError(f"noise_gain_lr must be a positive number, not {self.noise_gain_lr}.")
        if self.matching_noise != "whole" and self.variant == "d":
            raise OneDPError(f"There is no noise in variant d that could be {self.matching_noise}: use variant s.")
        if self.matching_noise == "learned" and self.acting_noise_scale != 1:
            raise OneDPError(
                "A learned matching_noise is what the student acts with: leave acting_noise_scale at 1, it is "
                f"{self.acting_noise_scale:g}."
            )
        if self.matching_noise == "annealed" and self.acting_noise_scale == 1:
            raise OneDPError(
                "An annealed matching_noise goes from 1 to acting_noise_scale, which is 1: nothing would change. Give "
                "another acting_noise_scale."
            )

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
