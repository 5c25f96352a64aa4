"""Latency of policies in every runtime, and what of it is owed to distillation and what to the runtime."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.backends.manifest import ExportManifest, read_export
from onedp.backends.policy import load_backend, require_graph
from onedp.backends.runtimes import BFLOAT16, FLOAT32, INT8, usable_runtimes
from onedp.errors import OneDPError
from onedp.evaluate.machine_speed import MachineSpeed
from onedp.types import Policy

TORCH = "torch"
WEIGHT_BYTES = {FLOAT32: 4, BFLOAT16: 2, INT8: 1}
WARM_UP = 3


@dataclass(frozen=True)
class Timed:
    """One policy in one runtime with a number of threads, ready to be asked."""

    policy: Policy
    label: str
    """POLICY@SAMPLER."""
    runtime: str
    threads: int
    parameters: int
    flops: int
    inputs: tuple[dict[str, ndarray], ndarray]
    precision: str = FLOAT32
    """A name of ``onedp.backends.runtimes.PRECISIONS``."""
    thread_setting: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Entered around every answer: PyTorch's threads are a setting of the process."""
    new_frames: int | None = None
    """Newest frames of every camera that the policy has not seen before, at each answer; None: all of them, as when a
    robot executes at least To actions of a chunk."""


@dataclass(frozen=True)
class LatencyRow:
    """Times of one chunk at batch 1 [ms]."""

    label: str
    runtime: str
    precision: str
    threads: int
    nfe: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    hz: float
    """Chunks a second at the median."""
    floor_ms: float
    """Weights, in their precision, read once a pass, and float32 arithmetic, at the measured speed of the machine."""
    floor_ratio: float
    """Median over floor."""
    distillation_factor: float | None
    """Median of the first policy over this policy's, both in PyTorch with so many threads."""
    runtime_factor: float | None
    """Median of this policy in PyTorch over its median in this runtime, with so many threads."""


def timed_export(folder: Path, threads: int, runtimes: Sequence[str]) -> list[Timed]:
    """An exported folder in each installed runtime that reads it and is among ``runtimes``.

    Raises ``OneDPError`` when it is damaged, or a policy for LeRobot.
    """
    manifest = read_export(folder)
    require_graph(folder, manifest)
    inputs = manifest.example_inputs(batch=1, seed=0)
    return [
        Timed(
            policy=load_backend(folder, name, threads),
            label=_label(manifest),
            runtime=f"{name}{'' if manifest.model.endswith('.onnx') else ' (xml)'}",
            threads=threads,
            parameters=manifest.parameters,
            flops=manifest.flops,
            inputs=inputs,
            precision=manifest.precision,
        )
        for name in usable_runtimes(manifest.model, manifest.precision)
        if name in runtimes
    ]


def _label(manifest: ExportManifest) -> str:
    return f"{manifest.name}@{manifest.sampler}"


def measure(timed: Sequence[Timed], rounds: int, clock: Callable[[], float] = time.perf_counter) -> list[list[float]]:
    """Times [ms] of ``rounds`` answers each. All take turns, so a slow minute of the machine hits all alike."""
    if rounds < 1:
        raise OneDPError(f"rounds is {rounds}, expected 1 or more.")
    times: list[list[float]] = [[] for _ in timed]
    rng = np.random.default_rng(0)
    shown = [{name: values.copy() for name, values in each.inputs[0].items()} for each in timed]
    gc.collect()
    for turn in range(-WARM_UP, rounds):
        for each, obs, own in zip(timed, shown, times, strict=True):
            _show_new_frames(each, obs, rng)
            with each.thread_setting():
                start = clock()
                each.policy.infer(obs, each.inputs[1])
                seconds = clock() - start
            if turn >= 0:
                own.append(1000 * seconds)
    return times


def _show_new_frames(timed: Timed, obs: Mapping[str, ndarray], rng: np.random.Generator) -> None:
    """Move the pictures (1, To, H, W, C) on by the new frames: a policy does not encode those it remembers."""
    new = timed.policy.spec.n_obs_steps if timed.new_frames is None else timed.new_frames
    for field in timed.policy.spec.observations:
        if field.is_image and new:
            pictures = obs[field.name]
            pictures[:, :-new] = pictures[:, new:].copy()
            pictures[:, -new:] = field.fake(pictures[:, -new:].shape, rng)


def latency_rows(
    timed: Sequence[Timed], times_ms: Sequence[Sequence[float]], speeds: dict[int, MachineSpeed]
) -> list[LatencyRow]:
    """Percentiles, floors and factors. ``speeds``: number of threads to what the machine does with them."""
    medians = {(t.label, t.runtime, t.threads): float(np.median(own)) for t, own in zip(timed, times_ms, strict=True)}
    first = timed[0].label
    rows = []
    for each, own in zip(timed, times_ms, strict=True):
        p50, p95, p99 = (float(x) for x in np.percentile(own, [50, 95, 99]))
        floor = speeds[each.threads].floor_ms(
            WEIGHT_BYTES[each.precision] * each.parameters, each.flops, each.policy.nfe
        )
        eager = medians.get((each.label, TORCH, each.threads))
        eager_first = medians.get((first, TORCH, each.threads))
        rows.append(
            LatencyRow(
                label=each.label,
                runtime=each.runtime,
                precision=each.precision,
                threads=each.threads,
                nfe=each.policy.nfe,
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                max_ms=float(max(own)),
                hz=1000 / p50,
                floor_ms=floor,
                floor_ratio=p50 / floor,
                distillation_factor=eager_first / eager if eager and eager_first else None,
                runtime_factor=eager / p50 if eager else None,
            )
        )
    return rows


def recorded_name(number: int, row: LatencyRow) -> str:
    """Name of the file with the times of the row with this ``number``: two rows may have equal labels."""
    text = f"{number}--{row.label}--{row.runtime}--{row.precision}--{row.threads}"
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in text) + ".json"


def latency_json(rows: Sequence[LatencyRow], speeds: dict[int, MachineSpeed], facts: dict[str, Any]) -> dict[str, Any]:
    """What ``latency.json`` holds."""
    return {
        "format": "onedp.latency/2",
        "batch": 1,
        **facts,
        "machine_speed": [dataclasses.asdict(speed) for speed in speeds.values()],
        "rows": [dataclasses.asdict(row) for row in rows],
    }
