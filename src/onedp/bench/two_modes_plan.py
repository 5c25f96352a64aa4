"""What a training of the laboratory ``two-modes`` is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onedp.bench.two_modes import SPEC
from onedp.diffusion.schedule import CosineDdpm
from onedp.methods.config import MethodConfig
from onedp.nets.build import build_denoiser
from onedp.nets.config import MlpConfig, NetworkConfig
from onedp.train.config import LoopConfig


@dataclass(frozen=True)
class TwoModesOptions:
    """Sizes of the laboratory; all are part of every cell's identity that they matter for."""

    chunks: int = 65_536
    """Size of the data set."""
    data_seed: int = 0
    network: MlpConfig = dataclasses.field(
        default_factory=lambda: MlpConfig(width=128, blocks=3, expansion=2, step_embed_dim=64)
    )
    teacher_steps: int = 4000
    teacher_batch: int = 256
    teacher_lr: float = 2e-3
    observations: int = 64
    """Observations that policies are judged on."""
    draws: int = 128
    """Chunks for each."""


@dataclass(frozen=True)
class Plan:
    """A training of the laboratory."""

    name: str
    """For people."""
    config: MethodConfig
    loop: LoopConfig
    process: str | None
    """Noise process of the teacher that it distils; None where it does without."""
    cost: Mapping[str, Any]
    """As ``probe_cost`` gives it; cells of before there were stages hold its ``step`` alone."""
    network: NetworkConfig | None = None
    """Its own; None: the options'."""


def stage_folder(result: Path, name: str) -> Path:
    """Where a policy is that was kept on the way to ``result``."""
    return result.with_name(f"{result.name}-{name}")


def weights_of(network: NetworkConfig) -> int:
    """Weights of a policy of the task with this network."""
    return sum(p.numel() for p in build_denoiser(network, SPEC, CosineDdpm(), "eps").parameters())
