"""A policy that runs from an exported folder, and the check that it answers as the policy that was exported."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from onedp.backends.manifest import ExportManifest, read_export
from onedp.backends.runtimes import RUNTIMES, Run, open_model, usable_runtimes
from onedp.errors import OneDPError, unknown_choice
from onedp.types import PolicySpec

WARM_UP = 3
"""Answers before the first one that counts: runtimes choose kernels and allocate memory in them."""


@dataclass(frozen=True)
class ExportedPolicy:
    """A policy in a runtime. Implements the ``Policy`` protocol; may be called from several threads."""

    manifest: ExportManifest
    runtime: str
    threads: int
    run: Run = field(repr=False)

    @property
    def name(self) -> str:
        """Name of the policy that was exported."""
        return self.manifest.name

    @property
    def spec(self) -> PolicySpec:
        """What goes in and what comes out."""
        return self.manifest.spec

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(draws, Tp, Da): standard normal noise that one chunk consumes."""
        return self.manifest.noise_shape

    @property
    def nfe(self) -> int:
        """Network passes per chunk."""
        return self.manifest.nfe

    def infer(self, obs: Mapping[str, Any], noise: Any) -> Float32[ndarray, "b tc da"]:
        """Action chunk from now on, ``(B, Tp - To + 1, Da)``, physical units, inside the action limits.

        ``obs``: the last To observations, physical units, ``(B, To, *shape)`` a field. ``noise``: standard normal
        ``(B, *noise_shape)``. Raises ``SpecError`` when names or shapes differ from the spec or an input is not finite.
        """
        arrays, noise = self.spec.checked_inputs(obs, noise, self.noise_shape, self.manifest.sampler)
        inputs = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in arrays.items()}
        if self.noise_shape[0]:
            inputs["noise"] = np.ascontiguousarray(noise, dtype=np.float32)
        return self.run(inputs)


def load_backend(folder: str | Path, runtime: str = "auto", threads: int = 1) -> ExportedPolicy:
    """Open an exported folder, warm it up and check its first answer.

    ``runtime``: a name of ``RUNTIMES``, or ``auto`` for the first one that is installed and answers as the exported
    policy did; each that does not is passed over with a ``RuntimeWarning``. ``threads``: of the runtime, for one chunk.
    Raises ``ArtifactError`` when the folder is damaged or was changed, ``OneDPError`` when no runtime is left.
    """
    folder = Path(folder)
    manifest = read_export(folder)
    if runtime not in ("auto", *RUNTIMES):
        raise OneDPError(unknown_choice("runtime", runtime, ("auto", *RUNTIMES)))
    names = usable_runtimes(manifest.model) if runtime == "auto" else [runtime]
    if not names:
        fitting = {r.extra for r in RUNTIMES.values() if Path(manifest.model).suffix in r.suffixes}
        if not fitting:
            raise OneDPError(
                f"{folder} is no graph for a runtime but a policy for LeRobot: run it there, or make a policy of it "
                f"with: onedp import {folder} --out DIR"
            )
        raise OneDPError(
            f"No installed runtime reads {manifest.model}. Install one with: pip install 'onedp[{sorted(fitting)[-1]}]'"
        )
    problems = []
    for name in names:
        try:
            policy = ExportedPolicy(manifest, name, threads, open_model(name, folder / manifest.model, threads))
            check_first_answer(policy)
        except OneDPError as error:
            problems.append(str(error))
            if name != names[-1]:
                warnings.warn(f"{error} Trying the next runtime.", RuntimeWarning, stacklevel=2)
        else:
            return policy
    raise OneDPError(f"{folder} cannot be run: {' '.join(problems)}")


def check_first_answer(policy: ExportedPolicy) -> None:
    """Warm up; raise ``OneDPError`` unless the answer to the stored inputs is the stored one within the tolerance."""
    manifest = policy.manifest
    obs, noise = manifest.example_inputs(batch=1, seed=manifest.reference_seed)
    try:
        for _ in range(WARM_UP):
            chunk = policy.infer(obs, noise)
    except Exception as error:  # each runtime has exceptions of its own
        raise OneDPError(f"The runtime '{policy.runtime}' fails at its first answer: {error}.") from error
    expected = np.asarray(manifest.reference_chunk, dtype=np.float32)[None]
    distance = manifest.distance(chunk, expected) if chunk.shape == expected.shape else float("inf")
    if not distance <= manifest.tolerance:
        raise OneDPError(
            f"The first answer of the runtime '{policy.runtime}' differs from the exported policy's by {distance:.2g} "
            f"of half the action range; at most {manifest.tolerance:g} is rounding. It would not act as it was tested."
        )
