"""Options of methods: what cannot be meant is refused with its value."""

from __future__ import annotations

import pytest

from onedp.errors import OneDPError
from onedp.methods.config import EmaConfig, OptimizerConfig


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
