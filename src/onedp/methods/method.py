"""What a method is to the one training loop: networks, named losses, and which optimizer owns each."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.samplers import Sampler
from onedp.diffusion.schedule import NoiseSchedule
from onedp.errors import TrainingError
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
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    """Parameters of the network whose rate is another: by name, the factor on the schedule's."""

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """What a torch optimizer is made of; ``factor`` in each group is that on the rate."""
        named = dict(network.named_parameters())
        plain = [parameter for name, parameter in named.items() if name not in self.rate_factors]
        others = [{"params": [named[name]], "factor": factor} for name, factor in self.rate_factors.items()]
        return [{"params": plain, "factor": 1.0}, *others]


@dataclass(frozen=True)
class Setting:
    """What a run gives to a method's builder."""

    steps: int
    """Training steps of the run."""
    clip: float | None
    """Limit of normalised actions when acting; None where data is not scaled to [-1, 1]."""
    untrained: Callable[[NoiseSchedule, str], Denoiser]
    """Makes an untrained denoiser of the run's network over a noise process, with a parameterisation."""
    teacher: Denoiser | None = None
    """Frozen teacher; None for methods without."""
    teacher_sampler: Sampler | None = None
    """How it is sampled."""
    same_network: bool = True
    """The student's network is the teacher's but for what the method changes: it can start from its weights."""
    executed: range | None = None
    """Steps of a chunk that the policy executes at its own pace; None: nobody says."""

    def source(self) -> tuple[Denoiser, Sampler]:
        """Teacher and sampler of a distillation; raises ``TrainingError`` when the run has none."""
        if self.teacher is None or self.teacher_sampler is None:
            raise TrainingError("This method distils a teacher; the run has none.")
        return self.teacher, self.teacher_sampler


def trainable_copy(denoiser: Denoiser) -> Denoiser:
    """A deep copy whose weights may change."""
    return copy.deepcopy(denoiser).requires_grad_(True).train()


class Method(ABC):
    """A way to train. Everything it draws comes from the generator it is given, in ``loss`` through
    ``diffusion.draws``, and a loss is a mean over rows: so processes that share a batch do what one would do alone."""

    networks: dict[str, Denoiser]
    """Networks that training changes, by name."""
    milestones: Mapping[int, str] = {}
    """Steps after which what has been learnt so far is saved as a policy too, under a name each."""
    optimizers: dict[str, OptimizerRole]
    """Loss name to the optimizer that owns it."""
    averaged: dict[str, EmaConfig]
    """Networks of which a moving average is kept."""
    result: str
    """Name of the network that becomes the artifact (its average, when there is one)."""
    measure: str | None = None
    """Diagnostic that falls while the result gets better, for a run that stops by itself; None: there is none."""
    settled_step: int = 0
    """Step from which the last phase of the recipe runs: before it no diagnostic is a reason to stop."""

    def prepare(self, nobs: Mapping[str, Any], folder: Path, key: str, generator: torch.Generator) -> float:
        """Whatever must be made once before the first step; returns the seconds it took when it was made.

        ``nobs``: all training observations (N, To, *shape), normalised; pictures are ``Rows`` (``methods.pairs``),
        read when they are indexed. ``folder``: the run's, for things worth keeping over a resume, under ``key``.
        """
        return 0.0

    def preparation_seconds(
        self, nobs: Mapping[str, Any], device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> float:
        """Forecast of what ``prepare`` will take, from a small part of it.

        Losses may be asked with that part until ``prepare`` makes the whole, so that they can be timed before it.
        """
        return 0.0

    def begin_step(self, step: int) -> None:
        """Called before every step; what it changes must follow from the step and the networks alone."""
        return

    @abstractmethod
    def updates(self, step: int) -> Sequence[str]:
        """Names of the losses to minimise in this step, in order; each is one optimizer step on a fresh batch."""

    @abstractmethod
    def loss(self, name: str, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to differentiate, and detached numbers to log: means over rows, or roots of such (``*_rms``)."""

    @abstractmethod
    def sampler(self) -> Sampler:
        """How the trained policy acts; asked after ``finished``, it belongs to the network made there last."""

    def finished(self, network: Denoiser) -> Denoiser:
        """The network to save and act with, made of the trained one, which is left as it is."""
        return network

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Numbers on held-out observations that tell whether training goes well; ``network`` is the result so far."""
        return {}
