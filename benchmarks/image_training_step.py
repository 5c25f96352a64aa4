"""Processor seconds of a training step with a camera, before and after each thing that makes it cheaper.

    OMP_NUM_THREADS=1 python benchmarks/image_training_step.py --out results/image-training-step.json

All variants take turns in one process, one thread, on the same random pictures of ``pusht-image``. A step is what
``onedp train`` does with a batch that is there already: losses, gradients, optimizer, moving average. Counted is the
processor time of the training thread, which other work on the machine delays but does not count into.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.state import AcceleratorState

from onedp.data.episodes import Episodes
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.schedule import CosineDdpm
from onedp.files import write_json
from onedp.machine import command_line, cpu_name
from onedp.methods.config import DenoisingConfig
from onedp.methods.denoising import Denoising
from onedp.nets.build import build_denoiser
from onedp.nets.config import NETWORK_SIZES
from onedp.nets.encoder_choice import named_encoder
from onedp.tasks import get_task
from onedp.train.config import LoopConfig
from onedp.train.loop import initial_state, make_accelerator, make_loader, train_step
from onedp.train.windows import window_tensors

TASK, STEPS, WARM_UP = "pusht-image", 1_000_000, 1


@dataclass(frozen=True)
class Variant:
    """One way to take the step."""

    encoder: Literal["resnet18", "light"]
    precision: Literal["no", "bf16"]
    noise_draws: int = 1
    channels_last: bool = False
    network: Literal["unet", "unet-slim"] = "unet-slim"


VARIANTS = {
    "resnet18": Variant("resnet18", "no"),
    "resnet18, bf16": Variant("resnet18", "bf16"),
    "light": Variant("light", "no"),
    "light, bf16": Variant("light", "bf16"),
    "light, bf16, encoder channels last": Variant("light", "bf16", channels_last=True),
    "light, bf16, 2 draws": Variant("light", "bf16", 2),
    "light, bf16, 4 draws": Variant("light", "bf16", 4),
    "light, bf16, 8 draws": Variant("light", "bf16", 8),
    "light, bf16, unet": Variant("light", "bf16", network="unet"),
}
"""Channels last is no option of the command line; measured to see whether it should be one."""


def recording(steps: int) -> Episodes:
    """One episode of noise in the shapes of the task."""
    spec, rng = get_task(TASK).spec, np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"action": rng.uniform(0, 512, (steps, 2)).astype(np.float32)}
    for field in spec.observations:
        shape = (steps, *field.shape)
        if field.is_image:
            arrays[field.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            arrays[field.name] = rng.uniform(0, 512, shape).astype(np.float32)
    return Episodes(arrays, np.array([steps]), "random")


def step_of(variant: Variant, batch: int, folder: Path) -> Callable[[], float]:
    """A function that takes one step, and gives the processor seconds of this thread."""
    spec = get_task(TASK).spec
    torch.manual_seed(0)
    encoder = named_encoder(variant.encoder, spec)
    denoiser = build_denoiser(NETWORK_SIZES[variant.network], spec, CosineDdpm(), "eps", encoder)
    if variant.channels_last:
        denoiser.encoder.to(memory_format=torch.channels_last)
    episodes = recording(4 * batch)
    data = window_tensors(episodes, spec, fit_normalizer(episodes.arrays, spec), encoder.training_crop)
    method = Denoising(DenoisingConfig(noise_draws=variant.noise_draws), denoiser.train(), STEPS)
    config = LoopConfig(
        STEPS, batch_size=batch, cpu=True, threads=1, loader_threads=1, mixed_precision=variant.precision
    )
    AcceleratorState._reset_state(reset_partial_state=True)  # one precision a process otherwise
    accelerator = make_accelerator(config, folder)
    state = initial_state(method, accelerator)
    loader = make_loader(method, data, config, accelerator, range(STEPS))

    def step() -> float:
        with accelerator.autocast():  # accelerate keeps parts of its state for the whole process
            assert torch.is_autocast_enabled("cpu") == (variant.precision == "bf16")
        start = time.thread_time()
        logs = train_step(method, state, loader, config, accelerator)
        float(logs["loss"])
        state.step += 1
        return time.thread_time() - start

    return step


def summary(variant: Variant, seconds: list[float], before: list[float], batch: int) -> dict[str, Any]:
    """Medians, and how many times less than ``before`` in the same turns."""
    ratios = sorted(first / each for first, each in zip(before, seconds, strict=True))
    median = statistics.median(seconds)
    return {
        "processor_s": round(median, 4),
        "noised_chunks_per_s": round(batch * variant.noise_draws / median, 1),
        "times_cheaper": round(statistics.median(ratios), 2),
        "times_cheaper_range": [round(ratios[0], 2), round(ratios[-1], 2)],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = {name: step_of(each, options.batch, options.out.parent) for name, each in VARIANTS.items()}
    turns = [{name: step() for name, step in steps.items()} for _ in range(options.rounds + WARM_UP)][WARM_UP:]
    taken = {name: [turn[name] for turn in turns] for name in VARIANTS}
    before = taken[next(iter(VARIANTS))]
    rows = {name: summary(each, taken[name], before, options.batch) for name, each in VARIANTS.items()}
    for name, row in rows.items():
        print(f"{name:36} {row}")
    facts = {"batch": options.batch, "rounds": options.rounds, "threads": 1, "network": "unet-slim if none is named"}
    write_json(
        options.out,
        {
            "what": f"a training step of {TASK}, processor seconds of the training thread, variants in turns",
            "command": command_line(),
            "cpu": cpu_name(),
            "torch": torch.__version__,
            **facts,
            "variants": rows,
        },
    )


if __name__ == "__main__":
    main()
