"""A policy artifact, timed in PyTorch and exported on the spot for the other runtimes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from onedp.backends.runtimes import BFLOAT16, INT8, processor_has_bfloat16, usable_runtimes
from onedp.evaluate.latency import TORCH, Timed, timed_export
from onedp.export.export import export_policy, write_reduced
from onedp.export.model_files import TARGETS
from onedp.export.reference import Recorded
from onedp.policy import TorchPolicy, load_policy

OPENVINO = "openvino"
RANGES_FROM = 32


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
    policy: str,
    sampler: str | None,
    threads: Sequence[int],
    runtimes: Sequence[str],
    precisions: Sequence[str],
    workspace: Path,
) -> list[Timed]:
    """The artifact in PyTorch and, exported into ``workspace`` with its parity check, in the other ``runtimes``.

    Reduced precision is timed without a gate: how fast it would be, not whether it may be used. What a processor or a
    policy does not allow (bfloat16, int8 of many passes) is left out.
    """
    loaded = load_policy(policy, sampler).plain()
    place = workspace / f"{loaded.name}@{loaded.sampler.label}".replace(":", "-")
    folders = [place / "onnx"]
    manifest = export_policy(policy, "onnx", place / "onnx", sampler)
    if OPENVINO in runtimes and usable_runtimes(TARGETS["openvino"].model):
        folders.append(place / "openvino")
        export_policy(policy, "openvino", place / "openvino", sampler)
    for precision, target in reduced_forms(loaded, precisions, runtimes):
        folders.append(place / precision)
        folders[-1].mkdir()
        windows = manifest.example_inputs(RANGES_FROM, seed=1)[0]  # ranges of random numbers will do for timing
        write_reduced(folders[-1], target, loaded, Recorded("random", windows), precision)
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
        for folder in folders:
            found.extend(timed_export(folder, count, runtimes))
    return found


def reduced_forms(policy: TorchPolicy, precisions: Sequence[str], runtimes: Sequence[str]) -> list[tuple[str, str]]:
    """Reduced precision and export target of all that policy, processor and ``runtimes`` allow."""
    forms = []
    if BFLOAT16 in precisions and OPENVINO in runtimes and usable_runtimes(TARGETS["openvino"].model, BFLOAT16):
        forms += [(BFLOAT16, "openvino")] if processor_has_bfloat16() else []
    if INT8 in precisions and policy.nfe == 1 and set(usable_runtimes(TARGETS["onnx"].model, INT8)) & set(runtimes):
        forms.append((INT8, "onnx"))
    return forms
