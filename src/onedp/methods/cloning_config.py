"""Configs of the methods that need no teacher, beside denoising. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field

from onedp.errors import OneDPError
from onedp.methods.config import EmaConfig, MethodConfig, OptimizerConfig


@dataclass(frozen=True)
class CloningConfig(MethodConfig):
    """Behaviour cloning by mean squared error."""

    kind = "cloning"

    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-3, warmup_steps=500, decay="cosine", clip_norm=1.0)
    )
    """Optimizer, the teacher's."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """Average whose weights are saved."""


@dataclass(frozen=True)
class MipConfig(CloningConfig):
    """Minimal iterative policy (arXiv 2512.01809): two steps of plain regression."""

    kind = "mip"

    noise: float = 0.1
    """Share of noise in the chunk that the second step refines (1 - t* there)."""

    def __post_init__(self) -> None:
        if not 0 < self.noise < 1:
            raise OneDPError(f"noise must lie between 0 and 1, it is {self.noise}.")


@dataclass(frozen=True)
class MeanFlowConfig(CloningConfig):
    """MeanFlow (arXiv 2505.13447): average velocities, one step from noise to data without a teacher."""

    kind = "meanflow"

    different_share: float = 0.25
    """Share of samples that arrive at another time than they start from; the rest is flow matching (their table 1a)."""
    time_mean: float = -0.4
    """Mean of the normal whose sigmoid gives times (their table 1d)."""
    time_std: float = 1.0
    """Its standard deviation."""
    time_scale: float = 10.0
    """Factor on time before the embedding: the loss differentiates by time, and a stretched one is all noise."""
    weight_power: float = 1.0
    """Each sample's loss is divided by its own squared error to this power (their section 4.3)."""

    def __post_init__(self) -> None:
        if not 0 <= self.different_share <= 1 or self.weight_power < 0:
            raise OneDPError(
                f"different_share ({self.different_share}) must lie in [0, 1], weight_power ({self.weight_power}) must "
                "not be negative."
            )
