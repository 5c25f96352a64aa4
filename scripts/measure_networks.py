"""What the networks and encoders of the command line cost: weights, and one pass at batch 1 in PyTorch and exported.

python scripts/measure_networks.py --workspace /tmp/networks --prepare        # untrained policies, and their exports
python scripts/measure_networks.py --workspace /tmp/networks --out results/networks.json    # on an idle machine

All take turns in one process with one thread, so a slow minute of the machine hits all alike. The weights are random:
time does not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro

from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.evaluate.latency import TORCH, Timed, measure, timed_export
from onedp.evaluate.latency_torch import torch_threads
from onedp.evaluate.runner import hardware
from onedp.export.export import export_policy
from onedp.files import write_json
from onedp.machine import command_line
from onedp.nets.build import build_denoiser
from onedp.nets.config import NETWORK_SIZES, EncoderName
from onedp.nets.encoder_choice import named_encoder
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.tasks import PUSHT_KEYPOINTS
from onedp.types import FieldSpec, PolicySpec

STATE = PUSHT_KEYPOINTS.spec
POSE = FieldSpec("agent_pos", (2,), "px")
PICTURE = replace(STATE, observations=(FieldSpec("image", (96, 96, 3), "1", "uint8"), POSE))
POINTS = replace(STATE, observations=(FieldSpec("points", (512, 3), "m"), POSE))
CASES: dict[str, tuple[str, EncoderName, PolicySpec]] = {
    **{name: (name, "state", STATE) for name in NETWORK_SIZES if name != "unet-large"},
    "unet + light, 96 px": ("unet", "light", PICTURE),
    "unet + resnet18, 96 px": ("unet", "resnet18", PICTURE),
    "unet + points, 512 x 3": ("unet", "points", POINTS),
}
"""Label to network, encoder and observations (two steps of them)."""
RUNTIMES = ("onnxruntime", "openvino")
REFERENCE = "unet"


@dataclass(frozen=True)
class Options:
    """What to do."""

    workspace: Path
    prepare: bool = False
    """Make the policies and their exports; nothing is timed."""
    out: Path | None = None
    rounds: int = 60
    """Rounds; in each every policy answers once in every runtime."""


def make_policy(label: str) -> TorchPolicy:
    """An untrained policy with random weights."""
    network_name, encoder_name, spec = CASES[label]
    network, encoder = NETWORK_SIZES[network_name], named_encoder(encoder_name, spec)
    torch.manual_seed(0)
    denoiser = build_denoiser(network, spec, CosineDdpm(), "x0", encoder).requires_grad_(False).eval()
    for parameter in denoiser.parameters():
        parameter.add_(0.01 * torch.randn(parameter.shape))
    return TorchPolicy(
        name=label,
        spec=spec,
        task="",
        denoiser=denoiser,
        sampler=OneStep(noise_scale=0.0 if network_name == "act" else 1.0),
        normalizer=fit_normalizer(made_up(spec), spec),
        network=network,
        provenance={},
        device=torch.device("cpu"),
        encoder=encoder,
    )


def made_up(spec: PolicySpec) -> dict[str, np.ndarray]:
    """Random steps of every field."""
    rng = np.random.default_rng(0)
    return {field.name: field.fake((50, *field.shape), rng) for field in (*spec.observations, spec.action)}


def folder_of(workspace: Path, label: str) -> Path:
    """Where the policy lies; its export is beside it."""
    return workspace / label.replace(" ", "").replace(",", "-")


def prepare(workspace: Path) -> None:
    """Policies and exports, each export with its parity check."""
    for label in CASES:
        folder = folder_of(workspace, label)
        save_policy(folder, make_policy(label))
        export_policy(folder, "onnx", folder.with_suffix(".onnx"))
        print(label, flush=True)


def timed(workspace: Path, label: str) -> list[Timed]:
    """The policy in PyTorch and in the runtimes, one thread each."""
    folder = folder_of(workspace, label)
    exports = timed_export(folder.with_suffix(".onnx"), 1, RUNTIMES)
    eager = replace(exports[0], policy=load_policy(folder), runtime=TORCH, thread_setting=partial(torch_threads, 1))
    return [replace(each, label=label) for each in (eager, *exports)]


def main(options: Options) -> None:
    """Prepare, or time, print and write."""
    if options.prepare:
        prepare(options.workspace)
        return
    all_timed = [each for label in CASES for each in timed(options.workspace, label)]
    times = measure(all_timed, options.rounds)
    medians = {(each.label, each.runtime): float(np.median(own)) for each, own in zip(all_timed, times, strict=True)}
    rows = [
        {
            "network": each.label,
            "runtime": each.runtime,
            "parameters": each.parameters,
            "flops": each.flops,
            "p50_ms": round(medians[each.label, each.runtime], 3),
            "times_the_unet": round(medians[each.label, each.runtime] / medians[REFERENCE, each.runtime], 2),
        }
        for each in all_timed
    ]
    for row in rows:
        print(row)
    if options.out is not None:
        facts = {"command": command_line(), "hardware": hardware("cpu"), "batch": 1, "threads": 1}
        write_json(options.out, {**facts, "rounds": options.rounds, "reference": REFERENCE, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))
