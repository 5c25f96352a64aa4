"""When to stop: held-out diagnostics no longer fall. What is kept is the best result, not the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from onedp.errors import TrainingError
from onedp.methods.method import Method
from onedp.train.config import LoopConfig

LOOKS = 20
"""Diagnoses in the phase that is judged: with fewer a patience of a few could never run out before the last step."""


@dataclass
class BestSoFar:
    """The best diagnosed result of a run, and how many diagnoses in a row were not better."""

    patience: int
    measure: str
    """Diagnostic that is to fall."""
    from_step: int
    """Steps up to here are not judged: later phases of the recipe are yet to come."""
    every: int = 1
    """Steps between the diagnoses that are judged, whatever else is diagnosed."""
    value: float | None = None
    step: int = 0
    not_better: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Of the best result; empty before the first judged diagnosis."""

    @property
    def ended(self) -> bool:
        """Whether the run should stop."""
        return self.not_better >= self.patience

    def wants(self, step: int) -> bool:
        """Whether the result after ``step`` steps is judged."""
        return step > self.from_step and (step - self.from_step) % self.every == 0

    def look(self, step: int, diagnostics: Mapping[str, float], weights: Mapping[str, Tensor], on: Accelerator) -> None:
        """Take in the diagnostics of the result with these ``weights``, after ``step`` steps.

        All processes do what the main one finds. Raises ``TrainingError`` when the measure is not a number.
        """
        if step <= self.from_step:
            return
        value = float(broadcast(torch.tensor(diagnostics[self.measure], device=on.device, dtype=torch.float32)))
        if math.isnan(value):
            raise TrainingError(
                f"{self.measure} is not a number after step {step}: the student has diverged, and the run was stopped. "
                "Lower the learning rate."
            )
        if self.value is None or value < self.value:
            self.value, self.step, self.not_better = value, step, 0
            self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        else:
            self.not_better += 1

    def text(self) -> str:
        """One sentence for people, once it has ended."""
        assert self.value is not None
        return (
            f"{self.measure} did not fall in the last {self.not_better} diagnoses, so the run ended; the policy is "
            f"that of step {self.step:,} ({self.value:.4g})."
        )

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint, beside the weights."""
        return {"value": self.value, "step": self.step, "not_better": self.not_better}

    def load(self, numbers: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
        """Inverts ``to_json``."""
        self.value, self.step = numbers["value"], int(numbers["step"])
        self.not_better, self.weights = int(numbers["not_better"]), weights


def best_so_far(method: Method, config: LoopConfig) -> BestSoFar | None:
    """What the run stops by; None without ``patience``. Raises ``TrainingError`` when the method has no measure."""
    if config.patience is None:
        return None
    if method.measure is None:
        raise TrainingError("This method has no held-out measure to stop by; leave out --patience.")
    judged = config.steps - method.settled_step
    return BestSoFar(config.patience, method.measure, method.settled_step, max(1, judged // LOOKS))
