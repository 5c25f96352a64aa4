"""Options of methods: what cannot be meant is refused with its value."""

from __future__ import annotations

import math

import pytest

from onedp.errors import OneDPError
from onedp.methods.config import EmaConfig, OptimizerConfig
from onedp.methods.onedp_config import OneDpConfig
from onedp.methods.presets import fitted
from onedp.methods.table import recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": float("nan")}, "A learning rate must be a positive number, not nan"),
        ({"lr": -1e-3}, "A learning rate must be a positive number, not -0.001"),
        ({"betas": (0.9, 1.0)}, r"must lie in \[0, 1\), they are \(0.9, 1.0\)"),
        ({"weight_decay": -1.0}, r"weight_decay \(-1.0\) and warmup_steps \(0\) must not be negative"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, or None for no clipping; it is 0.0"),
    ],
)
def test_impossible_optimizers_are_refused(options, message):
    with pytest.raises(OneDPError, match=message):
        OptimizerConfig(**options)


def test_impossible_averages_are_refused():
    with pytest.raises(OneDPError, match="a decay in"):
        EmaConfig(max_decay=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "d", "warm_start": "consistency", "regression_steps": 1}, "variant d is asked at none"),
        ({"warm_start": "consistency"}, "A consistency warm start needs regression_steps"),
        ({"warm_start": "consistency", "regression_steps": 1, "regression_pairs": 1, "input_noise_scale": 0.25},
         "input_noise_scale must be 1; it is 0.25"),
        ({"matching_noise": "learned", "variant": "d"}, "no noise in variant d that could be learned: use variant s"),
        ({"matching_noise": "annealed", "variant": "d"}, "no noise in variant d that could be annealed: use variant s"),
        ({"matching_noise": "learned", "acting_noise_scale": 0.75}, "leave acting_noise_scale at 1, it is 0.75"),
        ({"pair_noise_scale": 0.0}, "pair_noise_scale must be positive, not 0.0"),
        ({"unexecuted_weight": 1.5}, "unexecuted_weight must be 0 to 1, it is 1.5"),
        ({"acting_noise_scale": math.nan}, "acting_noise_scale must be positive, not nan"),
        (
            {"pair_noise_scale": 0.5, "warm_start": "consistency", "regression_steps": 1, "regression_pairs": 1},
            "all of the noise: pair_noise_scale 1",
        ),
        ({"matching_noise": "annealed"}, "which is 1: nothing would change. Give another acting_noise_scale"),
        ({"matching_noise": "learned", "noise_gain_lr": 0.0}, "noise_gain_lr must be a positive number, not 0.0"),
    ],
)  # fmt: skip
def test_warm_starts_and_noise_that_make_no_sense_are_refused(options, message):
    with pytest.raises(OneDPError, match=message):
        OneDpConfig(**options)


@pytest.mark.parametrize("method", ["onedp", "onedp-s", "regression", "regression-fine", "going-on"])
def test_warm_ups_of_short_distillations_are_a_twentieth_of_their_phase(method: str) -> None:
    """And those of the presets' own lengths are what they were."""
    preset = recipe(method)

    def regression(steps: int) -> OptimizerConfig:
        config = fitted(preset, steps)
        optimizer = config.regression if isinstance(config, OneDpConfig) else config.optimizer  # type: ignore[attr-defined]
        assert isinstance(optimizer, OptimizerConfig)
        return optimizer

    assert regression(preset.steps).warmup_steps == 50
    assert fitted(preset, preset.steps) == preset.config
    short = fitted(preset, 100)
    phase = short.regression_steps if isinstance(short, OneDpConfig) else 100
    assert regression(100).warmup_steps == phase // 20 > 0
    assert fitted(recipe("denoising"), 100) == recipe("denoising").config  # a teacher's is not touched
