"""Configs of the distillations beside OneDP. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from onedp.errors import OneDPError
from onedp.methods.config import EmaConfig, MethodConfig, OptimizerConfig


def _student_optimizer(lr: float) -> OptimizerConfig:
    return OptimizerConfig(lr=lr, betas=(0.9, 0.999), clip_norm=1.0, decay="cosine", warmup_steps=50)


FINE_SAMPLERS = {"ddpm": "ddim:20", "edm": "heun:18", "flow": "euler:20"}
"""Noise process to a sampler that solves it twice as exactly as the one that teachers act with. A student copies the
errors of the solutions that it learns from: on two-modes heun:10 scatters 1.5 times as wide as the truth, heun:18
1.1 times."""


@dataclass(frozen=True)
class PairsConfig(MethodConfig):
    """Options of all methods that learn from the teacher's own solutions."""

    optimizer: OptimizerConfig = field(default_factory=lambda: _student_optimizer(3e-4))
    """Optimizer of the student."""
    pairs: int = 18_462
    """Teacher solutions made before the first step (one teacher sampling each)."""
    regression_sampler: str | None = None
    """Teacher's sampler for them; None: its own (ddim:10 or heun:10); "fine": its process's in ``FINE_SAMPLERS``."""
    ema: EmaConfig | None = field(default_factory=lambda: EmaConfig(max_decay=0.998))
    """Average of the student that is saved; None saves the last weights."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise OneDPError(f"pairs must be at least 1, it is {self.pairs}.")

    def with_phases_scaled(self, share: float) -> PairsConfig:
        """The pairs."""
        return replace(self, pairs=math.ceil(self.pairs * share))

    def with_warmups_within(self, steps: int) -> PairsConfig:
        """That of the one optimizer."""
        return replace(self, optimizer=self.optimizer.with_warmup_within(steps))


@dataclass(frozen=True)
class RegressionConfig(PairsConfig):
    """Regress on the teacher's ODE solutions, noise to chunk, and do nothing else."""

    kind = "regression"

    optimizer: OptimizerConfig = field(default_factory=lambda: _student_optimizer(7e-4))
    """Optimizer of the student."""
    initial_level: float | None = None
    """Level at which the student asks its network; None: as OneDP."""
    input_noise_scale: float = 0.25
    """Factor on the noise as the student's network reads it."""
    huber: float | None = 0.02
    """Chunk error at which the loss turns from quadratic to linear (pseudo-Huber); None: quadratic throughout."""
    acting_noise_scale: float = 0.75
    """Factor on the student's input noise when it acts."""


@dataclass(frozen=True)
class GoingOnConfig(RegressionConfig):
    """Regress on solutions that go on from a chunk before, half of them; the others stand alone."""

    kind = "going-on"
    network_changes = {"prefix": True}  # noqa: RUF012  (never changed)


@dataclass(frozen=True)
class ConsistencyConfig(PairsConfig):
    """Consistency distillation (arXiv 2303.01469, algorithm 2)."""

    kind = "consistency"

    bins: int = 40
    """Steps of the teacher's ODE between noise and data at the end of training."""
    first_bins: int = 2
    """The same at its start; they double at equal intervals (as in arXiv 2310.14189), since what is learnt at data has
    to travel to noise bin by bin."""
    huber: float = 0.02
    """Chunk error at which the loss turns from quadratic to linear (pseudo-Huber, arXiv 2310.14189)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.first_bins <= self.bins or not self.huber > 0:
            raise OneDPError(
                f"bins ({self.first_bins} to {self.bins}) must be 2 or more and not fall; huber ({self.huber}) must be "
                "positive."
            )

    def bins_at(self, progress: float) -> int:
        """Bins at ``progress`` (0 to 1) of training."""
        stages = math.ceil(math.log2(self.bins / self.first_bins)) + 1
        return min(self.bins, self.first_bins << int(min(progress, 0.999999) * stages))


@dataclass(frozen=True)
class TrajectoryConfig(ConsistencyConfig):
    """Consistency Policy (arXiv 2405.07503): consistency trajectories and denoising, weighted alike."""

    kind = "trajectory"

    bins: int = 80
    """Steps of the teacher's ODE between noise and data at the end of training."""
    denoising_weight: float = 1.0
    """Weight of the denoising loss (their DSM) beside the trajectory loss."""
    denoising_arrival: Literal["same", "clean"] = "same"
    """Arrival time under which denoising is trained: the time it starts from, as in the original trajectory models
    (arXiv 2310.02279, eq. 13), or clean data, as in Consistency Policy's code, which draws one-step answers towards
    the mean."""

    @property
    def holds_weights(self) -> bool:
        """The way from an earlier time to clean data."""
        return True


@dataclass(frozen=True)
class ProgressiveConfig(PairsConfig):
    """Progressive distillation (arXiv 2202.00512, algorithm 2)."""

    kind = "progressive"

    optimizer: OptimizerConfig = field(default_factory=lambda: _student_optimizer(3e-4))
    """Optimizer of the student; its schedule starts again with every halving."""
    first_steps: int = 64
    """Sampling steps of the teacher that is halved first, a power of two."""
    ema: EmaConfig | None = None
    """Average of the student; None, as there: rates fall to zero in every halving instead."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_steps < 2 or self.first_steps & (self.first_steps - 1):
            raise OneDPError(f"first_steps must be a power of two from 2 on, it is {self.first_steps}.")
        if self.ema is not None:
            raise OneDPError("Progressive distillation keeps no average; leave ema None.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sampling steps of each halving's student: 32, 16, 8, 4, 2, 1."""
        return tuple(self.first_steps >> stage for stage in range(1, self.first_steps.bit_length()))

    @property
    def stages(self) -> dict[str, str]:
        """The students of all halvings but the last."""
        return {milestone(size): f"{size} passes" for size in self.sizes[:-1]}


def milestone(size: int) -> str:
    """Under which the student of ``size`` sampling steps is kept."""
    return f"euler-{size}"


@dataclass(frozen=True)
class GaussianConfig(PairsConfig):
    """A Gaussian policy: likelihood of the teacher's solutions, then OneDP's loss with the score known exactly."""

    kind = "gaussian"
    network_changes = {"gaussian": True}  # noqa: RUF012  (never changed)

    optimizer: OptimizerConfig = field(default_factory=lambda: _student_optimizer(7e-4))
    """Optimizer of both phases."""
    likelihood_steps: int = 600
    """Steps of maximum likelihood; the network starts untrained."""
    level_low: float | None = None
    """Smallest level at which student and teacher are compared; None: as OneDP."""
    level_high: float | None = None
    """Largest such level."""

    def with_phases_scaled(self, share: float) -> GaussianConfig:
        """Pairs and the likelihood phase."""
        scaled = replace(self, pairs=math.ceil(self.pairs * share))
        return replace(scaled, likelihood_steps=math.floor(self.likelihood_steps * share))
