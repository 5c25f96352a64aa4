"""The artifact: a folder that is the policy. Torch-free; ``onedp.policy`` turns one into networks.

    spec.json            format version, policy spec, encoder, network, noise process, parameterization, sampler
    weights.safetensors  weights of one denoiser (the EMA ones), fp32 or fp16
    norm_stats.json      statistics of every field
    provenance.json      SHA-256 of the weights, command, data digest, versions, seeds, cost

Nothing is pickled; loading is strict.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from onedp.data.normalize import Normalizer
from onedp.errors import ArtifactError, OneDPError, unknown_choice
from onedp.files import is_ours, replaced_folder, write_json
from onedp.typed_json import read_json_object
from onedp.types import PolicySpec

FORMAT_VERSION = 2
"""2 has an encoder and options of imported policies; 1 had low-dimensional observations only and is still read."""
SPEC_KEYS = ("encoder", "format_version", "policy", "task", "network", "process", "parameterization", "sampler")

STATE_ENCODER = {"kind": "state"}
"""The encoder of format version 1."""


@dataclass(frozen=True)
class Manifest:
    """Everything in an artifact but the weights themselves."""

    spec: PolicySpec
    task: str
    """Name of the task it was trained on; empty for an imported policy without one."""
    network: Mapping[str, Any]
    process: Mapping[str, Any]
    parameterization: str
    sampler: Mapping[str, Any]
    """The sampler used unless another is asked for."""
    normalizer: Normalizer
    provenance: Mapping[str, Any]
    encoder: Mapping[str, Any] = field(default_factory=lambda: dict(STATE_ENCODER))


def save_artifact(path: Path, manifest: Manifest, weights: Mapping[str, ndarray]) -> str:
    """Write the folder ``path`` in one stroke (an existing artifact is replaced); returns the weights' digest.

    Raises ``ArtifactError`` when ``path`` is something else than an artifact, ``OneDPError`` when it is not writable.
    """
    ours = is_ours(path, "spec.json", "format_version")
    if path.exists() and not ours and (path.is_file() or any(path.iterdir())):
        raise ArtifactError(f"{path} exists and is not a policy folder; it is left alone. Choose another --out.")
    bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise ArtifactError(f"The weights {bad[:3]} are not finite; nothing was saved. Lower the learning rate.")
    with replaced_folder(path) as folder:
        save_file(
            {name: np.ascontiguousarray(value) for name, value in weights.items()}, folder / "weights.safetensors"
        )
        digest = file_digest(folder / "weights.safetensors")
        spec = {
            "format_version": FORMAT_VERSION,
            "policy": manifest.spec.to_json(),
            "task": manifest.task,
            "encoder": dict(manifest.encoder),
            "network": dict(manifest.network),
            "process": dict(manifest.process),
            "parameterization": manifest.parameterization,
            "sampler": dict(manifest.sampler),
        }
        write_json(folder / "spec.json", spec)
        write_json(folder / "norm_stats.json", manifest.normalizer.to_json())
        write_json(folder / "provenance.json", {**manifest.provenance, "weights_digest": digest})
    return digest


def resolve_artifact(name: str | Path) -> Path:
    """Folder of an artifact: a path (its own, or a run's that holds ``policy/``), a shipped name or hub:OWNER/NAME.

    Raises ``ArtifactError``, and ``HubError`` when the hub does not give it.
    """
    if str(name).startswith("hub:"):
        from onedp.hub import hub_folder  # brings the hub's client, which most callers do without

        folder = hub_folder(str(name).removeprefix("hub:"))
        if not (folder / "spec.json").is_file():
            raise ArtifactError(f"{name} is no policy folder; download it with: onedp pull {str(name)[4:]} --out DIR")
        return folder
    path = Path(name)
    for folder in (path, path / "policy"):
        if (folder / "spec.json").is_file():
            return folder
    shipped = shipped_artifacts()
    if str(name) in shipped:
        return shipped[str(name)]
    if path.exists():
        raise ArtifactError(
            f"{path} is not a policy folder: it has no spec.json. Expected what train or distill wrote to --out; an "
            "unfinished run is continued with --resume."
        )
    raise ArtifactError(unknown_choice("policy", str(name), shipped) + " Or give the path of a policy folder.")


def artifact_name(path: Path) -> str:
    """What a policy is called: its folder's name, the run's for ``RUN/policy``, the repository's in the hub's cache."""
    path = path.resolve()
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--"):
        return path.parent.parent.name.split("--")[-1]
    return path.parent.name if path.name == "policy" else path.name


def shipped_artifacts() -> dict[str, Path]:
    """Name to folder of the policies inside the package."""
    root = Path(str(resources.files("onedp"))) / "shipped"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/spec.json"))}


def read_manifest(path: Path) -> Manifest:
    """Read and check everything but the weights; raises ``ArtifactError`` saying which file and entry is wrong."""
    spec = read_json_object(path / "spec.json")
    version = spec.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has the format version {version!r}; this package reads up to {FORMAT_VERSION}. "
            "Update onedp: pip install --upgrade onedp"
        )
    if version == 1:
        spec.setdefault("encoder", dict(STATE_ENCODER))
    if set(spec) != set(SPEC_KEYS):
        missing, extra = sorted(set(SPEC_KEYS) - set(spec)), sorted(set(spec) - set(SPEC_KEYS))
        wrong_keys = [f"{what} entries {names}" for what, names in (("missing", missing), ("unknown", extra)) if names]
        raise ArtifactError(
            f"{path / 'spec.json'}: {', '.join(wrong_keys)}. Restore the file, or save or download the policy again."
        )
    wrong = [
        name for name in ("policy", "encoder", "network", "process", "sampler") if not isinstance(spec[name], dict)
    ]
    wrong += [name for name in ("task", "parameterization") if not isinstance(spec[name], str)]
    if wrong:
        raise ArtifactError(f"{path / 'spec.json'} is not readable: {wrong} have the wrong type. Restore the file.")
    try:
        policy_spec = PolicySpec.from_json(spec["policy"])
    except OneDPError as error:
        raise ArtifactError(f"{path / 'spec.json'}: {error} Restore the file.") from error
    return Manifest(
        spec=policy_spec,
        task=spec["task"],
        network=spec["network"],
        process=spec["process"],
        parameterization=spec["parameterization"],
        sampler=spec["sampler"],
        normalizer=Normalizer.from_json(read_json_object(path / "norm_stats.json"), policy_spec),
        provenance=read_json_object(path / "provenance.json"),
        encoder=spec["encoder"],
    )


def read_weights(path: Path, manifest: Manifest) -> dict[str, ndarray]:
    """Weights as float32, their digest checked against the provenance; raises ``ArtifactError``."""
    file = path / "weights.safetensors"
    if not file.is_file():
        raise ArtifactError(f"{file} is missing. Restore it or train again.")
    digest = file_digest(file)
    expected = manifest.provenance.get("weights_digest")
    if digest != expected:
        raise ArtifactError(
            f"{file} is not the file that was saved: its SHA-256 is {digest[:16]}..., provenance.json says "
            f"{str(expected)[:16]}.... It is truncated or was changed; restore it."
        )
    try:
        return {name: value.astype(np.float32) for name, value in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}.") from error


def weight_count(path: Path) -> int:
    """Number of weights of the artifact at ``path``, from the head of its file; raises ``ArtifactError``."""
    try:
        with safe_open(path / "weights.safetensors", framework="np") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path / 'weights.safetensors'} cannot be read: {error}.") from error


def check_keys(weights: Mapping[str, ndarray], expected: Mapping[str, tuple[int, ...]], where: Path) -> None:
    """Raise ``ArtifactError`` listing missing, extra and mis-shaped weights."""
    if problem := misfit({name: value.shape for name, value in weights.items()}, expected):
        raise ArtifactError(f"{where / 'weights.safetensors'} does not fit spec.json: {problem}.")


def misfit(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str:
    """Which weights are missing, not expected or of a wrong shape; empty when all fit."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    wrong = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in sorted(set(expected) & set(found))
        if found[name] != expected[name]
    ]
    if not (missing or extra or wrong):
        return ""
    return f"missing {_some(missing)}; not expected {_some(extra)}; wrong shape {_some(wrong)}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()  # Python 3.10 has no file_digest
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _some(names: list[str]) -> str:
    return (", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")) or "none"
