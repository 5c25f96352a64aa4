"""Named recipes of OneDP: the paper's, and one for small networks and short runs. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from onedp.methods.config import EmaConfig, OneDpConfig, OptimizerConfig

PresetName = Literal["small", "paper"]


@dataclass(frozen=True)
class Preset:
    """A recipe and the budget it was made for."""

    config: OneDpConfig
    steps: int
    batch_size: int


def preset(name: PresetName, variant: Literal["s", "d"]) -> Preset:
    """The recipe ``name`` of OneDP-S or OneDP-D.

    paper: section 6.1 of arXiv 2410.21257, for networks of 67 to 256 M weights; 20 epochs of 25,000 windows at batch
    64 are about 8,000 steps (the batch size is not stated there).
    """
    if name == "paper":
        return Preset(OneDpConfig(variant=variant), steps=8000, batch_size=64)
    return Preset(replace(_SMALL[variant], variant=variant), steps=_SMALL_STEPS[variant], batch_size=128)


_SMALL = {
    "s": OneDpConfig(
        generator=OptimizerConfig(lr=2e-5, betas=(0.0, 0.999), weight_decay=0.0, clip_norm=1.0, decay="cosine"),
        tracker=OptimizerConfig(lr=2e-4, betas=(0.0, 0.999), weight_decay=0.0, clip_norm=1.0),
        input_noise_scale=0.25,
        regression=OptimizerConfig(lr=7e-4, betas=(0.9, 0.999), clip_norm=1.0, decay="cosine", warmup_steps=50),
        regression_steps=1015,
        regression_pairs=18_462,
        regression_huber=0.02,
        tracker_warmup=46,
        acting_noise_scale=0.75,  # on tuning starts: more precise finishes than 1, fewer lost starts than 0.5
        ema=EmaConfig(max_decay=0.998),
    ),
    "d": OneDpConfig(
        generator=OptimizerConfig(lr=1e-4, betas=(0.0, 0.999), weight_decay=0.0, clip_norm=1.0, decay="cosine"),
        ema=EmaConfig(max_decay=0.998),
    ),
}
_SMALL_STEPS = {"s": 1200, "d": 1000}
