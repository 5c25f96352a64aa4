"""Writing ``metrics.jsonl`` and accelerate's trackers while a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from onedp.errors import TrainingError
from onedp.files import write_text
from onedp.train.metrics import read_metrics
from onedp.train.processes import joint_numbers
from onedp.train.state import TrainState


class MetricsLog:
    """Means of logged numbers, a JSON line each ``log_every`` steps, and the same to accelerate's trackers."""

    def __init__(self, path: Path, accelerator: Accelerator, run: Mapping[str, Any], step: int):
        self._accelerator = accelerator
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._path = path
        if accelerator.is_main_process:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = [line for line in read_metrics(path) if line["step"] <= step] if step else []
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        if accelerator.log_with:
            accelerator.init_trackers("onedp")

    def add(self, logs: Mapping[str, Tensor]) -> None:
        """Take in one step's numbers (device tensors; of several processes those of the joint batch)."""
        for name, value in joint_numbers(logs, self._accelerator).items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def write(self, state: TrainState, beside: Mapping[str, float]) -> str:
        """Write the means since the last call, and ``beside``; returns the means in short form for the progress bar."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        self._append(state, {**means, **beside})
        return " ".join(f"{name}={value:.4g}" for name, value in means.items())

    def write_diagnostics(self, state: TrainState, numbers: Mapping[str, float]) -> None:
        """Write a line of diagnostics."""
        if numbers:
            self._append(state, {f"diagnostics/{name}": value for name, value in numbers.items()})

    def close(self) -> None:
        """Flush the trackers; unlike ``end_training``, leave the processes connected: the policy is yet to be saved."""
        for tracker in self._accelerator.trackers:
            tracker.finish()

    def _append(self, state: TrainState, numbers: Mapping[str, float]) -> None:
        if self._accelerator.is_main_process:
            line = {"step": state.step, "seconds": round(state.seconds, 3), **numbers}
            try:
                with self._path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise TrainingError(
                    f"{self._path} could not be written at step {state.step}: {error}. Free some space; then continue "
                    f"with --resume {self._path.parent}."
                ) from error
        self._accelerator.log(dict(numbers), step=state.step)
