"""PyTorch eager with and without 1-D convolutions as matrix products (``onedp.nets.conv1d``), taking turns.

python benchmarks/eager_convolutions.py --out results/eager-convolutions.json

One pass of a U-Net at batch 1, one thread: that of image policies (large, paper) and the shipped one. And a training
step (forward and backward) of the shipped U-Net at batch 256 and the paper's at 64, in float32 and under bf16 autocast,
with products whatever ``conv1d`` would choose on this processor. Medians.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import nn

from onedp.files import write_json
from onedp.machine import command_line, cpu_name
from onedp.nets import conv1d
from onedp.nets.unet1d import Unet1d

SIZES = {"large": ((512, 1024, 2048), 132), "paper": ((256, 512, 1024), 132), "shipped": ((64, 128, 256), 36)}
"""Name to channels and size of the condition."""


@dataclass(frozen=True)
class Options:
    """What to time."""

    out: Path
    rounds: int = 9


@contextmanager
def as_before() -> Iterator[None]:
    """PyTorch's own convolutions for every shape."""
    size = conv1d.MANY_WEIGHTS
    conv1d.MANY_WEIGHTS = sys.maxsize
    try:
        yield
    finally:
        conv1d.MANY_WEIGHTS = size


@contextmanager
def products_in_batches() -> Iterator[None]:
    """Products in training too, on every processor."""
    rule = conv1d._batches_gain
    conv1d._batches_gain = lambda weight: True
    try:
        yield
    finally:
        conv1d._batches_gain = rule


def timed(call: Callable[[], object], rounds: int) -> dict[str, float]:
    """Medians [ms] of the call without and with products, taking turns."""
    times: dict[str, list[float]] = {"before": [], "after": []}
    for turn in range(-1, rounds):
        for name, own in times.items():
            start = time.perf_counter()
            if name == "before":
                with as_before():
                    call()
            else:
                call()
            if turn >= 0:
                own.append(1000 * (time.perf_counter() - start))
    medians = {f"{name}_ms": round(float(np.median(own)), 3) for name, own in times.items()}
    return {**medians, "ratio": round(medians["before_ms"] / medians["after_ms"], 2)}


def inference(channels: tuple[int, ...], cond: int, rounds: int) -> dict[str, float]:
    """One pass at batch 1."""
    network = Unet1d(2, cond, channels).eval()
    inputs = torch.randn(1, 16, 2), torch.full((1,), 65.0), torch.randn(1, cond)
    weight_bytes = 4 * sum(p.numel() for p in network.parameters())
    with torch.inference_mode():
        return {"weight_bytes": weight_bytes, **timed(lambda: network(*inputs), rounds)}


def training(size: str, batch: int, bf16: bool, rounds: int) -> dict[str, float]:
    """Forward and backward."""
    channels, cond = SIZES[size]
    network: nn.Module = Unet1d(2, cond, channels)
    inputs = torch.randn(batch, 16, 2), torch.rand(batch) * 99, torch.randn(batch, cond)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network(*inputs).float().square().mean()
        loss.backward()

    with products_in_batches():
        return timed(step, rounds)


def main(options: Options) -> None:
    """Time, print, write."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = {f"{name}, batch 1": inference(*size, options.rounds) for name, size in SIZES.items()}
    for size, batch in (("shipped", 256), ("paper", 64)):
        for bf16 in (False, True):
            name = f"{size}, training step at batch {batch}{', bf16' if bf16 else ''}"
            rows[name] = training(size, batch, bf16, max(3, options.rounds // 3))
    for name, row in rows.items():
        print(name, row)
    about = {"command": command_line(), "cpu": cpu_name(), "threads": 1, "torch": torch.__version__}
    write_json(options.out, {**about, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))
