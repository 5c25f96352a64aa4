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
from onedp.backends.runtimes import RUNTIMES, Run, check_threads, open_model, usable_runtimes
from onedp.errors import OneDPError, unknown_choice
from onedp.observations import checked_inputs
from onedp.seen_frames import SeenFrames
from onedp.types import PolicySpec

FEATURES = "features."
"""Before a camera's name: the model's input of its features."""
WARM_UP = 3
"""Answers before the first one that counts: runtimes choose kernels and allocate memory in them."""


@dataclass(frozen=True)
class ExportedPolicy:
    """A policy in a runtime. Implements the ``Policy`` protocol; may be called from several threads."""

    manifest: ExportManifest
    runtime: str
    threads: int
    run: Run = field(repr=False)
    encoders: Mapping[str, Run] = field(default_factory=dict, repr=False)
    """Camera to what turns its pictures (N, H, W, C) into features (N, F)."""
    seen: SeenFrames = field(default_factory=SeenFrames, repr=False, compare=False)

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
        arrays, noise = checked_inputs(self.spec, obs, noise, self.noise_shape, self.manifest.sampler)
        inputs = {
            name: np.ascontiguousarray(values, dtype=np.float32)
            for name, values in arrays.items()
            if name not in self.encoders
        }
        for camera, encoder in self.encoders.items():

            def encode(pictures: ndarray, encoder: Run = encoder) -> ndarray:
                return encoder({"pictures": np.ascontiguousarray(pictures, dtype=np.float32)})

            inputs[FEATURES + camera] = self.seen.features(camera, arrays[camera], encode)
        if self.noise_shape[0]:
            inputs["noise"] = np.ascontiguousarray(noise, dtype=np.float32)
        return self.run(inputs)


def open_export(folder: Path, manifest: ExportManifest, runtime: str, threads: int) -> ExportedPolicy:
    """The policy in one runtime, unchecked; raises ``OneDPError`` when the runtime cannot open its files."""
    opened = {
        name: open_model(runtime, folder / name, threads, manifest.precision)
        for name in dict.fromkeys([manifest.model, *manifest.encoders.values()])
    }
    encoders = {camera: opened[name] for camera, name in manifest.encoders.items()}
    return ExportedPolicy(manifest, runtime, threads, opened[manifest.model], encoders)


def load_backend(folder: str | Path, runtime: str = "auto", threads: int = 1) -> ExportedPolicy:
    """Open an exported folder, warm it up and check its first answer.

    ``runtime``: a name of ``RUNTIMES``, or ``auto`` for the first one that is installed and answers as the exported
    policy did; each that does not is passed over with a ``RuntimeWarning``. ``threads``: of the runtime, for one chunk.
    Raises ``ArtifactError`` when the folder is damaged or was changed, ``OneDPError`` when no runtime is left.
    """
    folder, threads = Path(folder), check_threads(threads)
    manifest = read_export(folder)
    if runtime not in ("auto", *RUNTIMES):
        raise OneDPError(unknown_choice("runtime", runtime, ("auto", *RUNTIMES)))
    names = usable_runtimes(manifest.model, manifest.precision) if runtime == "auto" else [runtime]
    if not names:
        require_graph(folder, manifest)
        reading = {name: r for name, r in RUNTIMES.items() if Path(manifest.model).suffix in r.suffixes}
        fitting = {r.extra for r in reading.values() if manifest.precision in r.precisions}
        raise OneDPError(
            f"No installed runtime reads {manifest.model} in {manifest.precision}. Install one with: pip install "
            f"'onedp[{sorted(fitting)[-1]}]'"
        )
    problems = []
    for name in names:
        try:
            policy = open_export(folder, manifest, name, threads)
            check_first_answer(policy)
        except OneDPError as error:
            problems.append(str(error))
            if name != names[-1]:
                warnings.warn(f"{error} Trying the next runtime.", RuntimeWarning, stacklevel=2)
        else:
            return policy
    raise OneDPError(f"{folder} cannot be run: {' '.join(problems)}")


def require_graph(folder: Path, manifest: ExportManifest) -> None:
    """Raise ``OneDPError`` when no runtime of the table could ever run the export: it is LeRobot's."""
    if not any(Path(manifest.model).suffix in runtime.suffixes for runtime in RUNTIMES.values()):
        raise OneDPError(
            f"{folder} is no graph for a runtime but a policy for LeRobot, which runs it; or make a policy of it with: "
            f"onedp import {folder} --out DIR"
        )


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
