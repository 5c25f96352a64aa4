"""How long a run will take and how much memory it needs, said before its first step.

One update of every kind that the run will make is timed on the real networks with real batches; their weights, buffers
and draws are left as they were, so a run with a forecast trains to the very same policy.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import keyed_generator
from onedp.methods.method import Batch, Method
from onedp.train.config import LoopConfig
from onedp.train.processes import share_of
from onedp.train.windows import WindowTensors

SHORTEST_RUN = 100
"""Steps below which nothing is forecast: the answer would come about as soon as the result."""
ROUNDS = 2
"""Timed updates of each kind, after one that is not: the quickest counts."""


@dataclass(frozen=True)
class Phase:
    """Steps of a run that make the same updates."""

    updates: tuple[str, ...]
    """Losses of a step, in order."""
    first_step: int
    steps: int

    @property
    def text(self) -> str:
        """Its updates: "2 tracker + generator"."""
        runs = [(name, len(list(same))) for name, same in itertools.groupby(self.updates)]
        return " + ".join(name if count == 1 else f"{count} {name}" for name, count in runs)


@dataclass(frozen=True)
class Forecast:
    """Of what is left of a run."""

    phases: tuple[tuple[Phase, float], ...]
    """With the seconds of one step each, diagnostics and checkpoints left out."""
    memory_bytes: int
    """The process's memory (of the GPU, where there is one) at its largest."""
    preparation: float = 0.0
    """Seconds before the first step, for the teacher's solutions."""

    @property
    def seconds(self) -> float:
        """Of all that is yet to come."""
        return self.preparation + sum(phase.steps * each for phase, each in self.phases)

    def text(self) -> str:
        """One sentence for people."""
        parts = ", ".join(f"{phase.steps:,} x {phase.text}" for phase, _ in self.phases)
        if self.preparation > 0:
            parts = f"the teacher's solutions ({in_words(self.preparation)}), {parts}"
        return (
            f"Forecast: {in_words(self.seconds)} for {parts}, diagnostics not counted; "
            f"{self.memory_bytes / 1e9:.1f} GB of memory."
        )


def phases_of(method: Method, steps: range) -> list[Phase]:
    """The kinds of steps that a run makes, in the order of their first ones."""
    found: dict[tuple[str, ...], list[int]] = {}
    for step in steps:
        found.setdefault(tuple(method.updates(step)), []).append(step)
    return [Phase(updates, own[0], len(own)) for updates, own in found.items()]


def forecast(
    method: Method,
    data: WindowTensors,
    config: LoopConfig,
    accelerator: Accelerator,
    first_step: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    preparation: float = 0.0,
) -> Forecast:
    """Time and memory of the steps from ``first_step`` to the end, and of ``preparation`` [s] before them.

    ``method`` must be prepared, or have forecast its preparation.

    Memory: what the process has now, gradients and moments of every optimizer, and what the largest update keeps for
    its backward pass. Only the last of these depends on the batch. Solutions yet to be made are a few MB more.
    """
    phases = phases_of(method, range(first_step, config.steps))
    probe = _Probe(method, data, config, accelerator)
    with _untouched(method):
        seconds = [probe.seconds(phase, clock) for phase in phases]
    kept = {role.network for role in method.optimizers.values()}
    trained = sum(_bytes(method.networks[name].parameters()) for name in kept)
    moments = sum(2 * _bytes(method.networks[role.network].parameters()) for role in method.optimizers.values())
    in_use = torch.cuda.memory_allocated() if accelerator.device.type == "cuda" else psutil.Process().memory_info().rss
    method.begin_step(first_step)
    memory = in_use + trained + moments + probe.activations
    return Forecast(tuple(zip(phases, seconds, strict=True)), memory, preparation)


class _Probe:
    """Runs updates without taking them."""

    def __init__(self, method: Method, data: WindowTensors, config: LoopConfig, accelerator: Accelerator):
        self.method, self.data, self.config, self.accelerator = method, data, config, accelerator
        self.activations = 0
        """Bytes that the largest update kept for its backward pass."""

    def seconds(self, phase: Phase, clock: Callable[[], float]) -> float:
        """Of one step of the phase, making its batches included."""
        self.method.begin_step(phase.first_step)
        total = 0.0
        for name in phase.updates:
            self._update(name, phase.first_step, count=True)
            times = []
            for _ in range(ROUNDS):
                start = clock()
                self._update(name, phase.first_step)
                times.append(clock() - start)
            total += min(times) + self._optimizer_seconds(
                self.method.networks[self.method.optimizers[name].network], clock
            )
        return total

    def _update(self, name: str, step: int, count: bool = False) -> None:
        share = share_of(self.accelerator)
        generator = keyed_generator(self.config.seed, -3, self.accelerator.device, share=share)
        batch = self._batch()
        seen: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with self.accelerator.autocast():
            if count:
                with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                    loss, _ = self.method.loss(name, batch, step, generator)
                weights = {
                    p.untyped_storage().data_ptr() for n in self.method.networks.values() for p in n.parameters()
                }
                self.activations = max(self.activations, sum(b for at, b in seen.items() if at not in weights))
            else:
                loss, _ = self.method.loss(name, batch, step, generator)
        self.accelerator.backward(loss)
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        for network in self.method.networks.values():
            network.zero_grad(set_to_none=True)

    def _batch(self) -> Batch:
        share = share_of(self.accelerator)
        rng = np.random.default_rng((self.config.seed, 0, 0, 0))
        picks = rng.integers(0, len(self.data.training), self.config.batch_size)
        return self.data.batch(self.data.training[share.of(picks)], self.accelerator.device, rng, share)

    def _optimizer_seconds(self, network: nn.Module, clock: Callable[[], float]) -> float:
        """Of an AdamW step on copies of the weights: the real ones are not to move."""
        copies = [nn.Parameter(torch.zeros_like(parameter)) for parameter in network.parameters()]
        for each in copies:
            each.grad = torch.zeros_like(each)
        optimizer = torch.optim.AdamW(copies, fused=self.accelerator.device.type in ("cpu", "cuda"))
        optimizer.step()
        start = clock()
        optimizer.step()
        return clock() - start


@contextmanager
def _untouched(method: Method) -> Iterator[None]:
    """Buffers (statistics of batch norms) and torch's own generator are afterwards what they were."""
    networks: list[Denoiser] = list(method.networks.values())
    before = [[buffer.clone() for buffer in network.buffers()] for network in networks]
    with torch.random.fork_rng():
        try:
            yield
        finally:
            with torch.no_grad():
                for network, buffers in zip(networks, before, strict=True):
                    for buffer, value in zip(network.buffers(), buffers, strict=True):
                        buffer.copy_(value)


def _bytes(parameters: Iterator[nn.Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def in_words(seconds: float) -> str:
    """A duration: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
