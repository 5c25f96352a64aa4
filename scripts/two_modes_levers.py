"""The levers of ``two_modes_ablation.py``: each is a recipe of OneDP-S with one thing changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onedp.diffusion.samplers import DEFAULT_LEVELS
from onedp.methods.config import EmaConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.presets import fitted
from onedp.methods.table import recipe
from onedp.nets.config import MlpConfig


@dataclass(frozen=True)
class Recipe:
    """Preset small of OneDP-S with changes; what is counted in steps is given as a share, so it fits any budget."""

    process: str = "edm"
    batch_size: int = 128
    regression_share: float | None = None
    """Of all steps; None: the preset's (0.85)."""
    pairs_per_step: float | None = None
    """Teacher's ODE solutions, over all steps; None: the preset's (15.4)."""
    warmup_share: float | None = None
    """Of all steps; the tracker alone, between regression and matching. None: the preset's (0.04)."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Optimizer (generator, tracker, regression) to a factor on the preset's rate."""
    constant: tuple[str, ...] = ()
    """Optimizers whose rates stay where the preset's fall to zero."""
    falling: tuple[str, ...] = ()
    """Optimizers whose rates fall to zero where the preset's stay."""
    regression_warmup: int | None = None
    """Linear warm-up of the regression's rate [steps]; None: the preset's 50, or a twentieth of its steps."""
    acting_noise: float | None = 1.0
    """Factor on the input noise when acting; None: what the policy learned."""
    network: MlpConfig | None = None
    """The generator's own, untrained; None: the teacher's, with its weights."""
    noise_channels: int = 0
    """Normal numbers that the generator reads in every step of the chunk beside the action's own (``wide_noise``)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of ``OneDpConfig``."""

    @property
    def method(self) -> str:
        """In the table of methods."""
        return "onedp-s"

    def config(self, steps: int) -> OneDpConfig:
        """For a run of ``steps`` steps."""
        config = fitted(recipe("onedp-s"), steps)
        assert isinstance(config, OneDpConfig)
        changes: dict[str, Any] = dict(self.options)
        if self.regression_share is not None:
            changes["regression_steps"] = int(self.regression_share * steps)
        if self.pairs_per_step is not None:
            changes["regression_pairs"] = int(self.pairs_per_step * steps)
        if self.warmup_share is not None:
            changes["tracker_warmup"] = int(self.warmup_share * steps)
        for name, factor in self.rates.items():
            optimizer = getattr(config, name)
            changes[name] = dataclasses.replace(optimizer, lr=factor * optimizer.lr)
        for names, decay in ((self.constant, "constant"), (self.falling, "cosine")):
            for name in names:
                changes[name] = dataclasses.replace(changes.get(name, getattr(config, name)), decay=decay)
        if self.regression_warmup is not None:
            optimizer = changes.get("regression", config.regression)
            changes["regression"] = dataclasses.replace(optimizer, warmup_steps=self.regression_warmup)
        return dataclasses.replace(config, **changes)

    def sampler(self) -> str | None:
        """How the student acts, where its training does not say; the noise when acting is no matter of most."""
        if self.acting_noise is None or self.options.get("warm_start") == "consistency":
            return None
        level = self.options.get("initial_level", DEFAULT_LEVELS[self.process])
        return f"one-step:{level:g}:{self.acting_noise:g}"


def changed(base: Recipe, **changes: Any) -> Recipe:
    """``base`` with fields of the recipe or of the config replaced."""
    own = {entry.name for entry in dataclasses.fields(Recipe)}
    options = {**base.options, **{name: value for name, value in changes.items() if name not in own}}
    return dataclasses.replace(base, options=options, **{k: v for k, v in changes.items() if k in own})


BASE = Recipe()
MORE_MATCHING = changed(
    BASE,
    regression_share=0.55,
    pairs_per_step=8.0,
    regression_sampler="heun:5",
    rates={"generator": 5.0, "tracker": 5.0, "regression": 2.0},
    ema=EmaConfig(max_decay=0.98),
)
"""Cheaper and fewer pairs, a shorter regression, and the time saved for matching at higher rates."""
PRECISE = changed(BASE, pairs_per_step=7.7, regression_sampler="heun:18", rates={"regression": 3.0})
"""Half as many pairs, by a sampler that is twice as exact, and three times the rate."""
UNAIDED_CHANGES = {"regression_share": 0.0, "warmup_share": 0.1, "pairs_per_step": 0.0}
UNAIDED = changed(BASE, **UNAIDED_CHANGES)
"""Distribution matching alone, as in the paper: the teacher's weights are where it starts."""
FASTER = {"generator": 5.0, "tracker": 5.0}
WARM_BY_CONSISTENCY = changed(BASE, warm_start="consistency", input_noise_scale=1.0, acting_noise_scale=1.0)
LEARNED = changed(BASE, matching_noise="learned", acting_noise=None, acting_noise_scale=1.0)
ANNEALED = changed(BASE, matching_noise="annealed", acting_noise=0.75, acting_noise_scale=0.75)


def own_network(width: int, step_embed_dim: int = 64) -> MlpConfig:
    """The teacher's network at another width (128); a step embedding of another size makes it another network."""
    return MlpConfig(width=width, blocks=3, expansion=2, step_embed_dim=step_embed_dim)


LEVERS: dict[str, Recipe] = {
    "base": BASE,
    "acting with noise x 0.75 (preset small)": changed(BASE, acting_noise=0.75),
    "acting with noise x 0.5": changed(BASE, acting_noise=0.5),
    "regression alone": changed(BASE, regression_share=0.99, warmup_share=0.0),
    "regression 50 % of the steps": changed(BASE, regression_share=0.5),
    "no regression": changed(BASE, regression_share=0.0, pairs_per_step=0.0),
    "half as many pairs": changed(BASE, pairs_per_step=7.7),
    "twice as many pairs": changed(BASE, pairs_per_step=30.8),
    "as many pairs by heun:5": changed(BASE, regression_sampler="heun:5"),
    "squared error": changed(BASE, regression_huber=None),
    "regression rate x 3": changed(BASE, rates={"regression": 3.0}),
    "no tracker warm-up": changed(BASE, warmup_share=0.0),
    "two tracker steps": changed(BASE, tracker_updates=2),
    "five tracker steps": changed(BASE, tracker_updates=5),
    "rates that do not fall": changed(BASE, constant=("generator", "regression")),
    "a tracker's rate that falls": changed(BASE, falling=("tracker",)),
    "generator rate x 5": changed(BASE, rates={"generator": 5.0}),
    "tracker rate x 5": changed(BASE, rates={"tracker": 5.0}),
    "both matching rates x 5": changed(BASE, rates={"generator": 5.0, "tracker": 5.0}),
    "levels below 1": changed(BASE, level_high=1.0),
    "levels above 0.1": changed(BASE, level_low=0.1),
    "small levels weigh more": changed(BASE, level_power=-0.5),
    "large levels weigh more": changed(BASE, level_power=0.5),
    "last weights, no average": changed(BASE, ema=None),
    "average over 50 steps": changed(BASE, ema=EmaConfig(max_decay=0.98)),
    "normalised gradient": changed(BASE, normalize_gradient=True),
    "whole input noise": changed(BASE, input_noise_scale=1.0),
    "input noise x 0.5": changed(BASE, input_noise_scale=0.5),
    "initial level 1": changed(BASE, initial_level=1.0),
    "initial level 10": changed(BASE, initial_level=10.0),
    "regression kept x 0.1": changed(BASE, regression_weight=0.1),
    "regression kept x 1": changed(BASE, regression_weight=1.0),
    "regression warm-up 50 steps": changed(BASE, regression_warmup=50),
    "annealed levels": changed(BASE, annealed=True),
    "Fisher divergence": changed(BASE, divergence="fisher"),
    "critic x 0.01": changed(BASE, adversarial_weight=0.01),
    "matching alone": UNAIDED,
    "matching alone, rates x 5": changed(UNAIDED, rates=FASTER),
    "matching alone, rates x 25": changed(UNAIDED, rates={"generator": 25.0, "tracker": 5.0}),
    "matching alone, rates x 5, normalised gradient": changed(UNAIDED, rates=FASTER, normalize_gradient=True),
    "matching alone, rates x 5, Fisher divergence": changed(UNAIDED, rates=FASTER, divergence="fisher"),
    "matching alone, rates x 5, critic x 0.01": changed(
        UNAIDED, rates=FASTER, pairs_per_step=3.85, adversarial_weight=0.01
    ),
    "batch 64": changed(BASE, batch_size=64),
    "more matching": MORE_MATCHING,
    "more matching, generator rate x 15": changed(MORE_MATCHING, rates={"generator": 15.0, "tracker": 5.0}),
    "more matching, batch 64": changed(MORE_MATCHING, batch_size=64),
    "half as many pairs, regression rate x 3": changed(BASE, pairs_per_step=7.7, rates={"regression": 3.0}),
    "DDPM teacher": changed(BASE, process="ddpm"),
    "precise": PRECISE,
    "precise, regression alone": changed(PRECISE, regression_share=0.99, warmup_share=0.0),
    "precise, regression rate x 5": changed(PRECISE, rates={"regression": 5.0}),
    "precise, regression rate x 10": changed(PRECISE, rates={"regression": 10.0}),
    "precise, a quarter of the pairs": changed(PRECISE, pairs_per_step=3.85),
    "precise, a tenth of the pairs": changed(PRECISE, pairs_per_step=1.54),
    "precise, batch 64": changed(PRECISE, batch_size=64),
    "precise, batch 64, regression alone": changed(PRECISE, batch_size=64, regression_share=0.99, warmup_share=0.0),
    "precise, input noise x 0.5": changed(PRECISE, input_noise_scale=0.5),
    "precise, acting with noise x 0.75": changed(PRECISE, acting_noise=0.75),
    "precise, Huber 0.005": changed(PRECISE, regression_huber=0.005),
    "precise, rate x 5, regression alone": changed(
        PRECISE, rates={"regression": 5.0}, regression_share=0.99, warmup_share=0.0
    ),
    "precise, rate x 10, regression alone": changed(
        PRECISE, rates={"regression": 10.0}, regression_share=0.99, warmup_share=0.0
    ),
    "precise, rate x 5, batch 64, regression alone": changed(
        PRECISE, rates={"regression": 5.0}, batch_size=64, regression_share=0.99, warmup_share=0.0
    ),
    "precise, rate x 5, a quarter of the pairs, regression alone": changed(
        PRECISE, rates={"regression": 5.0}, pairs_per_step=3.85, regression_share=0.99, warmup_share=0.0
    ),
    "precise, rate x 5, batch 64, a quarter of the pairs, regression alone": changed(
        PRECISE,
        rates={"regression": 5.0},
        batch_size=64,
        pairs_per_step=3.85,
        regression_share=0.99,
        warmup_share=0.0,
    ),
    "precise, rate x 5, whole input noise, regression alone": changed(
        PRECISE, rates={"regression": 5.0}, input_noise_scale=1.0, regression_share=0.99, warmup_share=0.0
    ),
    "DDPM teacher, half as many pairs, rate x 3": changed(
        BASE, process="ddpm", pairs_per_step=7.7, rates={"regression": 3.0}
    ),
    "DDPM teacher, half as many pairs, rate x 3, regression alone": changed(
        BASE,
        process="ddpm",
        pairs_per_step=7.7,
        rates={"regression": 3.0},
        regression_share=0.99,
        warmup_share=0.0,
    ),
    "DDPM teacher, half as many pairs, rate x 3, batch 64": changed(
        BASE, process="ddpm", pairs_per_step=7.7, rates={"regression": 3.0}, batch_size=64
    ),
    "precise, DDPM teacher, ddim:20": changed(PRECISE, process="ddpm", regression_sampler="ddim:20"),
    "precise, DDPM teacher, ddim:50": changed(PRECISE, process="ddpm", regression_sampler="ddim:50"),
    "precise, DDPM teacher, ddim:50, rate x 5": changed(
        PRECISE, process="ddpm", regression_sampler="ddim:50", rates={"regression": 5.0}
    ),
    "precise, DDPM teacher, ddim:50, rate x 5, regression alone": changed(
        PRECISE,
        process="ddpm",
        regression_sampler="ddim:50",
        rates={"regression": 5.0},
        regression_share=0.99,
        warmup_share=0.0,
    ),
    "precise, DDPM teacher, ddim:50, rate x 5, x0 output": changed(
        PRECISE,
        process="ddpm",
        regression_sampler="ddim:50",
        rates={"regression": 5.0},
        parameterization="x0",
    ),
    "precise, DDPM teacher, ddim:50, rate x 5, level 90": changed(
        PRECISE, process="ddpm", regression_sampler="ddim:50", rates={"regression": 5.0}, initial_level=90
    ),
    # Other warm starts, networks and noise; each beside what it is to be compared with.
    "whole input noise, level 80": changed(BASE, input_noise_scale=1.0, initial_level=80.0),
    "warm start by consistency": WARM_BY_CONSISTENCY,
    "warm start by consistency, rate x 0.43": changed(WARM_BY_CONSISTENCY, rates={"regression": 3 / 7}),
    "warm start by consistency, level 2.5": changed(WARM_BY_CONSISTENCY, initial_level=2.5),
    "untrained generator": changed(BASE, network=own_network(128, 66)),
    "untrained generator, 1.5 times as wide": changed(BASE, network=own_network(192)),
    "untrained generator, twice as wide": changed(BASE, network=own_network(256)),
    "precise, untrained generator": changed(PRECISE, network=own_network(128, 66)),
    "precise, untrained generator, twice as wide": changed(PRECISE, network=own_network(256)),
    "learned noise": LEARNED,
    "learned noise, its rate x 3": changed(LEARNED, noise_gain_lr=0.03),
    "learned noise, its rate x 3, regression 50 % of the steps": changed(
        LEARNED, noise_gain_lr=0.03, regression_share=0.5
    ),
    "matching alone, rates x 5, learned noise": changed(LEARNED, rates=FASTER, **UNAIDED_CHANGES),
    "annealed noise to 0.75": ANNEALED,
    "annealed noise to 0.5": changed(ANNEALED, acting_noise=0.5, acting_noise_scale=0.5),
    "regression 50 % of the steps, acting with noise x 0.75": changed(BASE, regression_share=0.5, acting_noise=0.75),
    "annealed noise to 0.75, regression 50 % of the steps": changed(ANNEALED, regression_share=0.5),
    "both matching rates x 5, acting with noise x 0.75": changed(BASE, rates=FASTER, acting_noise=0.75),
    "annealed noise to 0.75, both matching rates x 5": changed(ANNEALED, rates=FASTER),
    "twice the noise": changed(BASE, noise_channels=2, acting_noise_scale=1.0),
    "matching alone, rates x 5, twice the noise": changed(
        UNAIDED, rates=FASTER, noise_channels=2, acting_noise_scale=1.0
    ),
}
