"""The policy that is exported: what the export says of it, and the observations that the result is checked on."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from torch.utils.flop_counter import FlopCounterMode

from onedp.artifact import file_digest, read_manifest, resolve_artifact
from onedp.backends.manifest import MANIFEST_FILE, ExportManifest
from onedp.backends.runtimes import FLOAT32
from onedp.errors import ArtifactError, DataError, OneDPError
from onedp.evaluate.scores import Scores, shipped_scores
from onedp.export.parity import tolerance
from onedp.files import is_ours, require_writable
from onedp.machine import command_line
from onedp.policy import TorchPolicy
from onedp.shipped import OBSERVATIONS, shipped_observations
from onedp.tasks.demonstrations import load_observations
from onedp.tasks.recorded import reading_task
from onedp.train.windows import heldout_episodes
from onedp.typed_json import read_json_object

REFERENCE_SEED = 0
WINDOWS = 256
"""Recorded observations that the parity check draws from."""
LARGEST_LISTED_FIELD = 1024
"""Fields with more numbers a step (pictures) have one range for all of them in the manifest."""


@dataclass(frozen=True)
class Recorded:
    """Real observations for the parity check."""

    source: str
    windows: Mapping[str, ndarray]
    """``{name: (N, To, *shape)}``."""
    of_all_episodes: bool = True
    """False: the episodes that training holds out were left aside, so they can judge what is made with these."""
    path: Path | None = None
    """Where ``source`` is."""


def require_free(out: Path) -> None:
    """Raise ``OneDPError`` unless an export may be written to ``out``: new, empty, or an export to be replaced."""
    require_writable(out / MANIFEST_FILE)
    if out.exists() and not is_ours(out, MANIFEST_FILE, "weights_digest") and (out.is_file() or any(out.iterdir())):
        raise OneDPError(f"{out} exists and is no exported policy; it is left alone. Choose another --out.")
    if out.is_dir() and (foreign := sorted({each.name for each in out.iterdir()} - _written_names(out))):
        raise OneDPError(
            f"{out} would be replaced, but holds what no export wrote: {', '.join(foreign[:5])}. Move it, or choose "
            "another --out."
        )


def _written_names(out: Path) -> set[str]:
    """What an earlier export left in ``out``."""
    try:
        files = read_json_object(out / MANIFEST_FILE).get("files", ())
    except ArtifactError:
        files = ()
    return {MANIFEST_FILE, "parity.json", "README.md", *files}


def checked_scores(given: Scores | None, policy: TorchPolicy) -> Scores | None:
    """``given``, or what the package ships for this ``policy``: its weights and its sampler.

    Raises ``OneDPError`` when ``given`` are of another one.
    """
    label, digest = policy.sampler.label, str(policy.provenance["weights_digest"])
    if given is None:
        return shipped_scores(digest, label)
    if (given.sampler, given.weights_digest) != (label, digest):
        raise OneDPError(
            f"The result is of {given.label} with weights {given.weights_digest[:12]}..., the export of "
            f"{policy.name}@{label} with weights {digest[:12]}...: its scores would not be this file's. Evaluate it."
        )
    return given


def make_manifest(
    policy: TorchPolicy, folder: Path, files: list[str], packages: Iterable[str] = (), **facts: Any
) -> ExportManifest:
    """What ``manifest.json`` says of the float32 ``files`` in ``folder``, the first of which a runtime opens.

    ``packages`` made them, beside onedp and torch: their versions, and ``facts``, go into the provenance.
    """
    spec = policy.spec
    draft = ExportManifest(
        name=policy.name,
        task=policy.task,
        model=files[0],
        encoders={},
        files={name: file_digest(folder / name) for name in files},
        spec=spec,
        sampler=policy.sampler.label,
        noise_shape=(policy.sampler.draws, spec.horizon, spec.action_dim),
        nfe=policy.nfe,
        precision=FLOAT32,
        gate=None,
        weights_digest=str(policy.provenance["weights_digest"]),
        parameters=sum(p.numel() for p in policy.denoiser.parameters()),
        flops=0,
        input_ranges={field.name: _range(policy, field.name, field.size) for field in spec.observations},
        action_width=tuple(policy.normalizer.centre_width(spec.action.name)[1].tolist()),
        tolerance=tolerance(policy.nfe),
        reference_seed=REFERENCE_SEED,
        reference_chunk=(),
        provenance={**policy.provenance, "export": {"command": command_line(), **facts} | _versions(packages)},
    )
    obs, noise = draft.example_inputs(batch=1, seed=REFERENCE_SEED)
    with FlopCounterMode(display=False) as counter:
        chunk = policy.infer(obs, noise)
    return dataclasses.replace(
        draft, flops=int(counter.get_total_flops()), reference_chunk=tuple(map(tuple, chunk[0].tolist()))
    )


def _range(policy: TorchPolicy, name: str, size: int) -> tuple[Any, Any]:
    stats = policy.normalizer.stats[name]
    if size > LARGEST_LISTED_FIELD:
        return float(stats.min.min()), float(stats.max.max())
    return stats.min.tolist(), stats.max.tolist()


def _versions(packages: Iterable[str]) -> dict[str, Any]:
    names = ("onedp", "torch", *packages)
    return {"versions": {name: importlib.metadata.version(name) for name in names}}


def recorded_observations(policy: str | Path, data: Path | None) -> Recorded | None:
    """Windows of real observations: of ``data``, else of what the package ships for the task; None when it ships none.

    Episodes that training holds out are left aside, where there are enough. Raises ``DataError`` when ``data`` does
    not fit the policy's task.
    """
    manifest = read_manifest(resolve_artifact(policy))
    if data is None and manifest.task not in OBSERVATIONS:
        return None
    source = data or shipped_observations(str(policy))
    task = reading_task(manifest.task, manifest.spec, manifest.provenance)
    episodes = load_observations(source, task)
    if missing := sorted({field.name for field in manifest.spec.observations} - set(episodes.arrays)):
        raise DataError(
            f"{source} has no {missing} for the check, only {sorted(episodes.arrays)}. Give another --data."
        )
    apart = heldout_episodes(len(episodes))
    episode = np.searchsorted(episodes.ends, np.arange(episodes.n_steps), side="right")
    newest = np.random.default_rng(0).choice(np.flatnonzero(~apart[episode]), WINDOWS)
    starts = episodes.starts[episode[newest]]
    steps = np.maximum(newest[:, None] + np.arange(1 - manifest.spec.n_obs_steps, 1), starts[:, None])
    windows = {field.name: np.asarray(episodes.arrays[field.name][steps]) for field in manifest.spec.observations}
    return Recorded(Path(source).name, windows, not apart.any(), Path(source))
