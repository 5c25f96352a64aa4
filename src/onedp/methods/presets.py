"""Recipes of all methods, and how rates follow from the network's size and phases from the steps. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onedp.methods.cloning_config import CloningConfig, MeanFlowConfig, MipConfig
from onedp.methods.config import ActTrainingConfig, DenoisingConfig, EmaConfig, MethodConfig, OptimizerConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.student_config import (
    ConsistencyConfig,
    GaussianConfig,
    GoingOnConfig,
    ProgressiveConfig,
    RegressionConfig,
    TrajectoryConfig,
)


@dataclass(frozen=True)
class Preset:
    """A recipe and the budget it was made for."""

    config: MethodConfig
    steps: int
    batch_size: int
    weights: float | None = 5e6
    """Largest network whose rates these are; None: whatever the network, as the paper's."""


def fitted(preset: Preset, steps: int, weights: int | None = None, lr: float | None = None) -> MethodConfig:
    """The recipe for a run of ``steps`` steps of a network with ``weights`` weights (None: a few million).

    Phases keep their share of the steps, and warm-ups of distillations are a twentieth of them at the most: at 2 %
    of the teacher's training in two-modes 50 steps of warm-up left 0.77 of the samples on a mode, a twentieth 0.92.
    Rates hold up to the preset's network size and fall with the root of the number of weights above it, that is
    with the width (as Adam's rates transfer in arXiv 2203.03466). ``lr``: that of the main optimizer, whatever the
    size.
    """
    config = preset.config.with_phases_scaled(steps / preset.steps).with_warmups_within(steps)
    if preset.weights is not None and weights is not None and weights > preset.weights:
        config = config.with_rates_scaled((preset.weights / weights) ** 0.5)
    return config if lr is None else config.with_rate(lr)


DENOISING = Preset(DenoisingConfig(), steps=20_000, batch_size=256, weights=None)

# The paper trains 80 M weights at batch 8 and rate 1e-5; this is for a few million, not tuned.
ACT = Preset(ActTrainingConfig(), steps=20_000, batch_size=128)

_ONEDP_S = OneDpConfig(
    variant="s",
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
)
ONEDP_S = Preset(_ONEDP_S, steps=1200, batch_size=128)
_ONEDP_D = OneDpConfig(
    variant="d",
    generator=OptimizerConfig(lr=1e-4, betas=(0.0, 0.999), weight_decay=0.0, clip_norm=1.0, decay="cosine"),
    ema=EmaConfig(max_decay=0.998),
)
ONEDP_D = Preset(_ONEDP_D, steps=1000, batch_size=128)
# What `onedp distill` does unless told otherwise: OneDP-S for twice the steps, a quarter of the teacher's training. On
# Push-T that finishes 0.06 more of the starts than half of it, with the same score (s2400 in results/README.md).
_ONEDP = _ONEDP_S.with_phases_scaled(2.0)
# Half of the regression's rate: as good at 25 % of the teacher's training, better at a tenth (results/short-budgets).
ONEDP = Preset(replace(_ONEDP, regression=replace(_ONEDP.regression, lr=3.5e-4)), steps=2400, batch_size=128)
# A student copies the scatter of its pairs, and of an EDM teacher the finer solver removes it (results/two-modes); with
# all of its noise the student keeps the shares of modes. Half of it finishes more often on Push-T (results/README.md).
ONEDP_EDM = replace(
    ONEDP,
    config=replace(
        _ONEDP,
        regression=OptimizerConfig(lr=2.1e-3, betas=(0.9, 0.999), clip_norm=1.0, decay="cosine", warmup_steps=50),
        regression_pairs=18_462,
        regression_sampler="fine",
        acting_noise_scale=1.0,
    ),
)
# Section 6.1 of arXiv 2410.21257, for networks of 67 to 256 M weights; 20 epochs of 25,000 windows at batch 64 are
# about 8,000 steps (the batch size is not stated there).
ONEDP_S_PAPER = Preset(OneDpConfig(variant="s"), steps=8000, batch_size=64, weights=None)
ONEDP_D_PAPER = Preset(OneDpConfig(variant="d"), steps=8000, batch_size=64, weights=None)

# One change each to the recipe above.
ONEDP_D_ANNEALED = replace(ONEDP_D, config=replace(_ONEDP_D, annealed=True))
ONEDP_S_NORMALIZED = replace(ONEDP_S, config=replace(_ONEDP_S, normalize_gradient=True))
ONEDP_S_ADVERSARIAL = replace(ONEDP_S, config=replace(_ONEDP_S, adversarial_weight=0.01))
SID = replace(ONEDP_S, config=replace(_ONEDP_S, divergence="fisher"))

# Rivals from the same teacher: OneDP's budget and batch, rates for warm-started networks of a few million weights.
REGRESSION = Preset(RegressionConfig(), steps=1200, batch_size=128)
# The best of two-modes (EDM teacher); on Push-T it loses a little score to OneDP-S, of either teacher (results/).
REGRESSION_FINE = replace(
    REGRESSION,
    config=RegressionConfig(
        optimizer=OptimizerConfig(lr=2.1e-3, betas=(0.9, 0.999), clip_norm=1.0, decay="cosine", warmup_steps=50),
        pairs=9_231,
        regression_sampler="fine",
    ),
)
# Half of the pairs are guided, whose every pass differentiates too, through frozen weights: twice the cost.
GOING_ON = Preset(GoingOnConfig(pairs=36_924), steps=2400, batch_size=128)
CONSISTENCY = Preset(ConsistencyConfig(), steps=1200, batch_size=128)
TRAJECTORY = Preset(TrajectoryConfig(), steps=1200, batch_size=128)
PROGRESSIVE = Preset(ProgressiveConfig(), steps=1200, batch_size=128)
GAUSSIAN = Preset(GaussianConfig(), steps=1200, batch_size=128)

# Rivals without a teacher: the teacher's own budget, batch, optimizer and average.
FLOW_MATCHING = replace(DENOISING, config=DenoisingConfig(process="flow"))
CLONING = replace(DENOISING, config=CloningConfig())
MIP = replace(DENOISING, config=MipConfig())
MEANFLOW = replace(DENOISING, config=MeanFlowConfig())
