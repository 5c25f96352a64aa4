"""Latency of image policies with untrained weights: batch 1, one thread, every runtime and precision, in one process.

python benchmarks/image_policy_latency.py --size paper --out results/image-policy-latency.json

One camera, two 96 px frames cropped to 84, ResNet-18 with GroupNorm; the U-Nets are those of Diffusion Policy (large),
of One-Step Diffusion Policy's real robots (paper), or the shipped Push-T student (shipped, no camera). Each call
measures one size and replaces its rows in the file, so that a call is short enough for a machine that must be idle.
``--prepare`` only exports into ``--workspace``, which later calls read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from onedp.backends.manifest import is_export, read_export
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.evaluate.latency import Timed, latency_rows, measure, timed_export
from onedp.evaluate.latency_torch import reduced_forms, torch_threads
from onedp.evaluate.machine_speed import measure_speed
from onedp.export.export import export_policy, write_reduced
from onedp.export.reference import Recorded
from onedp.files import replaced_folder, write_json
from onedp.machine import command_line, cpu_name, usable_cores
from onedp.nets.build import build_denoiser
from onedp.nets.config import ImageEncoderConfig, UnetConfig
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.types import FieldSpec, PolicySpec

CHANNELS = {"large": (512, 1024, 2048), "paper": (256, 512, 1024)}
SHIPPED = "pusht-keypoints-onedp-s"
SPEC = PolicySpec(
    observations=(FieldSpec("camera", (96, 96, 3), "1", "uint8"), FieldSpec("agent_pos", (2,), "px")),
    action=FieldSpec("action", (2,), "px"),
    action_low=(0.0, 0.0),
    action_high=(512.0, 512.0),
    rate_hz=10.0,
)


@dataclass(frozen=True)
class Options:
    """What to time."""

    size: Literal["large", "paper", "shipped"]
    out: Path = Path("results/image-policy-latency.json")
    workspace: Path = Path("image-policy-latency")
    """Folder for the policies and their exports."""
    prepare: bool = False
    """Only build and export."""
    rounds: int = 20


def main(options: Options) -> None:
    """Export, time, write."""
    folder = options.workspace / options.size
    policy = SHIPPED if options.size == "shipped" else str(folder / "policy")
    prepare(options.size, folder)
    if options.prepare:
        return
    loaded = load_policy(policy)
    exports = [part for part in sorted(folder.iterdir()) if part.name != "policy"]
    timed = [each for export in exports for each in timed_export(export, 1, ("onnxruntime", "openvino"))]
    eager = Timed(
        loaded, options.size, "torch", 1, timed[0].parameters, timed[0].flops, timed[0].inputs,
        thread_setting=lambda: torch_threads(1),
    )  # fmt: skip
    entries = [
        with_frames(each, options.size, known)
        for each in (eager, *timed)
        for known in ((False,) if options.size == "shipped" else (False, True))
    ]
    speeds = {1: measure_speed(1)}
    rows = latency_rows(entries, measure(entries, options.rounds), speeds)
    data = json.loads(options.out.read_text()) if options.out.exists() else {}
    kept = [row for row in data.get("rows", []) if row["size"] != options.size]
    facts = {"speed": {"bytes_per_s": speeds[1].bytes_per_s, "flops_per_s": speeds[1].flops_per_s}}
    fresh = [{"size": options.size, **vars(row), **facts, "rounds": options.rounds} for row in rows]
    for row in fresh:
        print(
            row["label"], row["runtime"], row["precision"], f"{row['p50_ms']:.2f} ms, {row['floor_ratio']:.2f} x floor"
        )
    about = {"command": command_line(), "cpu": cpu_name(), "cores": usable_cores(), "torch": torch.__version__}
    write_json(options.out, {"format": "onedp.image-policy-latency/1", **about, "batch": 1, "rows": [*kept, *fresh]})


def with_frames(each: Timed, size: str, older_is_known: bool) -> Timed:
    """The same entry with one or two frames that are new at every answer, under a label that says so."""
    label = size if size == "shipped" else f"{size}, {'one new frame' if older_is_known else 'two new frames'}"
    return replace(each, label=label, new_frames=1 if older_is_known else 2)


def prepare(size: str, folder: Path) -> None:
    """Save the untrained policy and every export that this machine can make."""
    name = SHIPPED if size == "shipped" else str(folder / "policy")
    if size != "shipped" and not (folder / "policy").exists():
        save_policy(folder / "policy", untrained(CHANNELS[size]))
    policy = load_policy(name)
    precisions = reduced_forms(policy, ("bfloat16", "int8"), ("onnxruntime", "openvino"))
    for target in ("onnx", "openvino"):
        if not is_export(folder / target):
            export_policy(name, target, folder / target)
    manifest = read_export(folder / "onnx")
    windows = manifest.example_inputs(8, seed=1)[0]
    for precision, target in precisions:
        if not (folder / precision).exists():
            with replaced_folder(folder / precision) as part:
                write_reduced(part, target, policy, Recorded("random", windows), precision)


def untrained(channels: tuple[int, ...]) -> TorchPolicy:
    """An image policy of one pass with random weights."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    arrays = {field.name: field.fake((20, *field.shape), rng) for field in (*SPEC.observations, SPEC.action)}
    network, encoder = UnetConfig(channels=channels, n_groups=8), ImageEncoderConfig(crop=(84, 84))
    denoiser = build_denoiser(network, SPEC, CosineDdpm(), "x0", encoder).requires_grad_(False).eval()
    return TorchPolicy(
        name="untrained", spec=SPEC, task="", denoiser=denoiser, sampler=OneStep(65.0), network=network,
        encoder=encoder, normalizer=fit_normalizer(arrays, SPEC), provenance={}, device=torch.device("cpu"),
    )  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options))
