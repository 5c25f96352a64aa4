"""Choices about data that configs name. Imports nothing, so ``--help`` is fast."""

from __future__ import annotations

from typing import Literal

NormalizationMode = Literal["min_max", "mean_std", "identity"]
