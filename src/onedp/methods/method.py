"""What a method is to the one training loop: networks, named losses, and which optimizer owns each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import Sampler
from onedp.methods.config import EmaConfig, OptimizerConfig


@dataclass(frozen=True)
class Batch:
    """Normalised windows on the training device."""

    nobs: Mapping[str, Tensor]
    """Observation fields (B, To, *shape)."""
    nactions: Tensor | None = None
    """Expert actions (B, Tp, Da); None where only observations are known."""

    def __len__(self) -> int:
        return len(next(iter(self.nobs.values())))


@dataclass(frozen=True)
class OptimizerRole:
    """One optimizer: which network it moves, and over which steps its schedule runs."""

    network: str
    config: OptimizerConfig
    first_step: int
    last_step: int


class Method(ABC):
    """A way to train. Everything it draws comes from the generator it is given."""

    networks: dict[str, Denoiser]
    """Networks that training changes, by name."""
    optimizers: dict[str, OptimizerRole]
    """Loss name to the optimizer that owns it."""
    averaged: dict[str, EmaConfig]
    """Networks of which a moving average is kept."""
    result: str
    """Name of the network that becomes the artifact (its average, when there is one)."""

    def prepare(self, nobs: Mapping[str, Any], folder: Path, key: str, generator: torch.Generator) -> float:
        """Whatever must be made once before the first step; returns the seconds it took when it was made.

        ``nobs``: all training observations (N, To, *shape), normalised; pictures are ``Rows`` (``methods.pairs``),
        read when they are indexed. ``folder``: the run's, for things worth keeping over a resume, under ``key``.
        """
        return 0.0

    @abstractmethod
    def updates(self, step: int) -> Sequence[str]:
        """Names of the losses to minimise in this step, in order; each is one optimizer step on a fresh batch."""

    @abstractmethod
    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to differentiate, and detached numbers to log."""

    @abstractmethod
    def sampler(self) -> Sampler:
        """How the trained policy acts."""

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Numbers on held-out observations that tell whether training goes well; ``network`` is the result so far."""
        return {}
