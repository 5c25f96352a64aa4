"""A policy artifact, timed in PyTorch and exported on the spot for the other runtimes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from onedp.evaluate.latency import TORCH, Timed, timed_export
from onedp.export.export import export_policy
from onedp.policy import load_policy


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """PyTorch computes with so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed_artifact(
    policy: str, sampler: str | None, threads: Sequence[int], runtimes: Sequence[str], workspace: Path
) -> list[Timed]:
    """The artifact in PyTorch and, exported into ``workspace`` (with its parity check), in the other ``runtimes``."""
    loaded = load_policy(policy, sampler)
    folder = workspace / f"{loaded.name}@{loaded.sampler.label}".replace(":", "-")
    manifest = export_policy(policy, "onnx", folder, sampler)
    found: list[Timed] = []
    for count in threads:
        if TORCH in runtimes:
            found.append(
                Timed(
                    policy=loaded,
                    label=f"{manifest.name}@{manifest.sampler}",
                    runtime=TORCH,
                    threads=count,
                    parameters=manifest.parameters,
                    flops=manifest.flops,
                    inputs=manifest.example_inputs(batch=1, seed=0),
                    thread_setting=partial(torch_threads, count),
                )
            )
        found.extend(timed_export(folder, count, runtimes))
    return found
