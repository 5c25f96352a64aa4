"""Everything that training changes, in safetensors and JSON; nothing else is needed to continue a run exactly.

Data order and random draws are functions of (seed, step), so the step stands for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from onedp.errors import TrainingError
from onedp.files import replaced_folder, write_json
from onedp.methods.config import EmaConfig
from onedp.train.stopping import BestSoFar


class Ema:
    """Exponential moving average of a network's weights (Diffusion Policy's warm-up)."""

    def __init__(self, network: nn.Module, config: EmaConfig):
        self.config = config
        self.updates = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @property
    def decay(self) -> float:
        """Decay of the next update: 0 at the first, rising to ``max_decay``."""
        return min(self.config.max_decay, 1 - (1 + self.updates) ** -self.config.power)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network's present weights."""
        state = network.state_dict()
        floating = [name for name in self.weights if self.weights[name].is_floating_point()]
        torch._foreach_lerp_(
            [self.weights[name] for name in floating], [state[name] for name in floating], 1 - self.decay
        )
        self.updates += 1


@dataclass
class TrainState:
    """Step, networks, averages and optimizers of one run."""

    step: int
    networks: Mapping[str, nn.Module]
    averages: Mapping[str, Ema]
    optimizers: Mapping[str, torch.optim.Optimizer]
    """By loss name."""
    seconds: float = 0.0
    """Wall-clock spent in training steps so far [s]."""
    best: BestSoFar | None = None
    """Of a run that stops by itself."""

    def save(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Write ``state.safetensors`` and ``state.json`` in one stroke; ``run`` identifies the run's configuration."""
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= {f"network/{name}/{key}": value for key, value in network.state_dict().items()}
        for name, average in self.averages.items():
            tensors |= {f"ema/{name}/{key}": value for key, value in average.weights.items()}
        for name, optimizer in self.optimizers.items():
            for index, entry in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{name}/{index}/{key}": torch.as_tensor(value) for key, value in entry.items()}
        if self.best is not None:
            tensors |= {f"best/{name}": value for name, value in self.best.weights.items()}
        numbers = {
            "step": self.step,
            "seconds": self.seconds,
            "ema_updates": {name: average.updates for name, average in self.averages.items()},
            "run": dict(run),
        } | ({} if self.best is None else {"best": self.best.to_json()})
        with replaced_folder(folder) as temporary:
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                temporary / "state.safetensors",
            )
            write_json(temporary / "state.json", numbers)

    def load(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Restore what ``save`` wrote; raises ``TrainingError`` when it is another run's or damaged."""
        try:
            numbers = json.loads((folder / "state.json").read_text())
            tensors = load_file(folder / "state.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise TrainingError(
                f"The checkpoint {folder} cannot be read: {error}. Start again without --resume."
            ) from error
        saved = numbers.get("run", {})
        differing = sorted(key for key in {*saved, *run} if not _agree(saved.get(key), run.get(key)))
        if differing:
            raise TrainingError(
                f"The checkpoint {folder} belongs to another run: {', '.join(differing)} differ. Resume with the "
                "same options and data, or start again in another folder."
            )
        self.step, self.seconds = int(numbers["step"]), float(numbers["seconds"])
        if self.best is not None:
            self.best.load(numbers["best"], _group(tensors, "best/"))
        for name, network in self.networks.items():
            network.load_state_dict(_group(tensors, f"network/{name}/"), strict=True)
        for name, average in self.averages.items():
            average.updates = int(numbers["ema_updates"][name])
            for key, value in _group(tensors, f"ema/{name}/").items():
                average.weights[key].copy_(value)
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _group(tensors, f"optimizer/{name}/").items():
                index, entry = key.split("/")
                state.setdefault(int(index), {})[entry] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _agree(saved: Any, now: Any) -> bool:
    """Equal, but for options that did not exist yet when the run was begun: they have their defaults, which change
    nothing."""
    if isinstance(saved, dict) and isinstance(now, dict):
        return all(key in now and _agree(value, now[key]) for key, value in saved.items())
    return saved == now


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
