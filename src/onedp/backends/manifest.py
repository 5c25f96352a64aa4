"""What an exported folder says of itself, ``manifest.json``. Torch-free: the exporter writes it, backends read it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from onedp import typed_json
from onedp.artifact import file_digest
from onedp.backends.runtimes import FLOAT32, PRECISIONS
from onedp.errors import ArtifactError, OneDPError
from onedp.typed_json import read_json_object
from onedp.types import PolicySpec, episode_noise

EXPORT_FORMAT = "onedp.export/2"
MANIFEST_FILE = "manifest.json"
LARGEST_TOLERANCE = 1e-3
"""Of float32, in units of half the action range: what ``onedp.export.parity`` accepts is rounding, and no more."""
LARGEST_TOLERANCE_REDUCED = 1.0
"""Of reduced precisions, which a gate has judged: half the action range; with all of it any answer would pass."""
LARGEST_INPUTS = 2**27
"""Numbers in the inputs of one chunk, noise included: 5 frames of full HD are a quarter of it."""


@dataclass(frozen=True)
class ExportManifest:
    """Everything about an exported policy but its graph."""

    name: str
    task: str
    model: str
    """File that a runtime opens: policy.onnx or policy.xml."""
    encoders: Mapping[str, str]
    """Camera field to the file that turns its pictures into features, which the model takes in their place."""
    files: Mapping[str, str]
    """File name to SHA-256, of every file that the runtime reads."""
    spec: PolicySpec
    sampler: str
    """Label of the sampler inside the graph, e.g. ``ddim:10``."""
    noise_shape: tuple[int, int, int]
    """(draws, Tp, Da); 0 draws: the graph has no input ``noise``."""
    nfe: int
    """Network passes per chunk."""
    precision: str
    """A name of ``onedp.backends.runtimes.PRECISIONS``."""
    gate: Mapping[str, Any] | None
    """What let a reduced precision pass (``onedp.export.gate``); None for float32."""
    weights_digest: str
    """SHA-256 of the weights of the policy that was exported."""
    parameters: int
    flops: int
    """Floating-point operations of one chunk at batch 1, a multiply-add counted as two."""
    input_ranges: Mapping[str, tuple[Any, Any]]
    """Field to its lowest and highest values in the training data, nested lists or (pictures) a number each: example
    inputs are drawn between them."""
    action_width: tuple[float, ...]
    """Half the range of each action dimension in the training data: differences of chunks are measured in it."""
    tolerance: float
    """Largest accepted difference of the first answer to the torch policy's, in units of ``action_width``."""
    reference_seed: int
    reference_chunk: tuple[tuple[float, ...], ...]
    """What the torch policy answers to ``example_inputs(batch=1, seed=reference_seed)``, (Tp - To + 1, Da)."""
    provenance: Mapping[str, Any]

    def example_inputs(self, batch: int, seed: int) -> tuple[dict[str, ndarray], ndarray]:
        """Observations drawn uniformly between the ``input_ranges``, in the fields' types, and normal noise."""
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, batch], dtype=np.uint64)))
        obs = {}
        for field in self.spec.observations:
            low, high = (np.asarray(end, dtype=np.float32) for end in self.input_ranges[field.name])
            unit = rng.random((batch, self.spec.n_obs_steps, *field.shape), dtype=np.float32)
            obs[field.name] = field.nearest(low + (high - low) * unit)
        noise = np.stack([episode_noise(seed, row, self.noise_shape) for row in range(batch)])
        return obs, noise

    def distance(self, chunk: ndarray, other: ndarray) -> float:
        """Largest difference of two chunks in units of ``action_width``; infinity when one is not finite."""
        difference = np.abs(chunk.astype(np.float64) - other) / np.asarray(self.action_width)
        return float(difference.max()) if np.isfinite(difference).all() else float("inf")

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``manifest.json``."""
        return {"format": EXPORT_FORMAT, **dataclasses.asdict(self), "spec": self.spec.to_json()}


def is_export(folder: Path) -> bool:
    """True when ``folder`` was written by ``onedp export``."""
    return (folder / MANIFEST_FILE).is_file()


def require_own_sampler(name: str | Path, sampler: str | None) -> None:
    """Raise ``OneDPError`` when the export ``name`` is asked for with a sampler."""
    if sampler:
        raise OneDPError(f"{name} is an export: its sampler is part of it. Export again with --sampler {sampler}.")


def read_export(folder: Path) -> ExportManifest:
    """Read and check ``manifest.json`` and the digest of every file; raises ``ArtifactError`` naming what is wrong."""
    manifest = read_export_manifest(folder)
    check_export_files(folder, manifest)
    return manifest


def read_export_manifest(folder: Path) -> ExportManifest:
    """Read and check ``manifest.json`` alone; raises ``ArtifactError`` naming what is wrong."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ArtifactError(f"{folder} is no exported policy: it has no {MANIFEST_FILE}. Make one with: onedp export")
    data = read_json_object(path)
    version = data.pop("format", None)
    if version != EXPORT_FORMAT:
        raise ArtifactError(f"{path} has the format {version!r}, this package reads '{EXPORT_FORMAT}'. Update onedp.")
    try:
        manifest = typed_json.from_json(ExportManifest, data, "The manifest")
        _check_consistent(manifest)
    except OneDPError as error:
        raise ArtifactError(f"{path} is not readable: {error} Export the policy again.") from error
    return manifest


def check_export_files(folder: Path, manifest: ExportManifest) -> None:
    """Raise ``ArtifactError`` unless every file is there and has the digest that the manifest gives."""
    for name, expected in manifest.files.items():
        _check_digest(folder / name, str(expected))


def _check_consistent(manifest: ExportManifest) -> None:
    spec = manifest.spec
    draws, *chunk = manifest.noise_shape
    if chunk != [spec.horizon, spec.action_dim] or manifest.nfe < 1 or not 0 <= draws <= manifest.nfe + 1:
        raise ArtifactError(f"noise_shape {manifest.noise_shape} does not fit the spec and {manifest.nfe} passes.")
    if manifest.model not in manifest.files or any(Path(name).name != name for name in manifest.files):
        raise ArtifactError(f"'files' must hold plain names, '{manifest.model}' among them; it holds {manifest.files}.")
    cameras = {field.name for field in spec.observations if field.is_image}
    if not set(manifest.encoders) <= cameras or not set(manifest.encoders.values()) <= set(manifest.files):
        raise ArtifactError(f"encoders {dict(manifest.encoders)} must name pictures {sorted(cameras)} and files.")
    if manifest.precision not in PRECISIONS or (manifest.precision == FLOAT32) != (manifest.gate is None):
        raise ArtifactError(f"precision '{manifest.precision}' is unknown, or its gate is missing.")
    if len(manifest.action_width) != spec.action_dim or min(manifest.tolerance, *manifest.action_width) <= 0:
        raise ArtifactError("tolerance or action_width does not fit the action, or is not above 0.")
    largest = LARGEST_TOLERANCE if manifest.precision == FLOAT32 else LARGEST_TOLERANCE_REDUCED
    if manifest.tolerance > largest:
        raise ArtifactError(
            f"tolerance is {manifest.tolerance:g}, at most {largest:g} is right for {manifest.precision}: the check of "
            "the first answer would be none."
        )
    numbers = sum(spec.n_obs_steps * math.prod(field.shape) for field in spec.observations)
    numbers += math.prod(manifest.noise_shape)
    if numbers > LARGEST_INPUTS:
        raise ArtifactError(f"one chunk would take {numbers:,} numbers, at most {LARGEST_INPUTS:,} are read.")
    _check_reference(manifest)


def _check_reference(manifest: ExportManifest) -> None:
    """The first answer can be asked for, and compared."""
    spec = manifest.spec
    rows = {len(row) for row in manifest.reference_chunk}
    if len(manifest.reference_chunk) != spec.chunk_length or rows != {spec.action_dim}:
        raise ArtifactError("reference_chunk does not fit the spec.")
    if not 0 <= manifest.reference_seed < 2**63:
        raise ArtifactError(f"reference_seed is {manifest.reference_seed}, expected 0 to 2**63 - 1.")
    for field in spec.observations:
        ends = [_numbers(end) for end in manifest.input_ranges.get(field.name, ())]
        shapes = {None if end is None else end.shape for end in ends}
        if len(ends) != 2 or len(shapes) != 1 or not shapes <= {(), field.stats_shape}:
            raise ArtifactError(f"input_ranges has no two ends of the shape {field.stats_shape} for '{field.name}'.")


def _numbers(nested: Any) -> ndarray | None:
    """Nested tuples of numbers as an array; None when they are anything else."""
    try:
        return np.asarray(nested, dtype=np.float32)
    except (TypeError, ValueError):
        return None


def _check_digest(file: Path, expected: str) -> None:
    if not file.is_file():
        raise ArtifactError(f"{file} is missing. Restore it or export the policy again.")
    digest = file_digest(file)
    if digest != expected:
        raise ArtifactError(
            f"{file} is not the file that was exported: its SHA-256 is {digest[:16]}..., {MANIFEST_FILE} says "
            f"{expected[:16]}.... It is truncated or was changed; restore it or export the policy again."
        )
