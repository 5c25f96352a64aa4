"""A policy artifact to a folder that runs without torch: graph, manifest, parity report, model card."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch.utils.flop_counter import FlopCounterMode

from onedp.artifact import file_digest, read_manifest, resolve_artifact
from onedp.backends.manifest import MANIFEST_FILE, ExportManifest, is_export
from onedp.backends.policy import ExportedPolicy, check_first_answer, open_export
from onedp.backends.runtimes import BFLOAT16, FLOAT32, INT8, RUNTIMES, processor_has_bfloat16, usable_runtimes
from onedp.errors import DataError, OneDPError, unknown_choice
from onedp.evaluate.results import EvaluationResult
from onedp.export.gate import Gate, require_gate
from onedp.export.model_card import model_card
from onedp.export.model_files import TARGETS, write_models
from onedp.export.onnx_file import OPSET
from onedp.export.parity import ParityRow, check_parity, parity_report, require_parity, tolerance
from onedp.export.quantize import Calibration
from onedp.files import replaced_folder, require_writable, write_json, write_text
from onedp.machine import command_line
from onedp.policy import TorchPolicy, load_policy
from onedp.shipped import OBSERVATIONS, shipped_observations
from onedp.tasks import get_task
from onedp.tasks.demonstrations import load_observations
from onedp.types import episode_noise

REFERENCE_SEED = 0
CALIBRATION_WINDOWS = 64
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


def export_policy(
    policy: str | Path,
    target: str,
    out: Path,
    sampler: str | None = None,
    recorded: Recorded | None = None,
    results: EvaluationResult | None = None,
    precision: str = FLOAT32,
    gate: Gate | None = None,
) -> ExportManifest:
    """Write ``out``; an earlier export there is replaced.

    ``results``: an evaluation of this policy and sampler, for the model card. ``precision``: a name of ``PRECISIONS``;
    all but float32 must pass ``gate``, which is given the folders of this export and of one in float32. Raises
    ``ArtifactError`` when the policy is damaged (the digest of its weights is checked), ``OneDPError`` when the float32
    graph does not answer as the policy does or the gate is shut; ``out`` is then left as it was.
    """
    if target not in TARGETS:
        raise OneDPError(unknown_choice("export target", target, TARGETS))
    if not usable_runtimes(TARGETS[target].model, precision):
        raise OneDPError(
            f"No runtime is installed that could check a {target} export in {precision}: pip install 'onedp[all]'"
        )
    require_writable(out / MANIFEST_FILE)
    if out.exists() and not is_export(out) and (out.is_file() or any(out.iterdir())):
        raise OneDPError(f"{out} exists and is no exported policy; it is left alone. Choose another --out.")
    if precision != FLOAT32 and gate is None:
        raise OneDPError(f"An export in {precision} needs a gate: an evaluation, or held-out observations.")
    if precision == BFLOAT16 and not processor_has_bfloat16():
        raise OneDPError(
            "This processor does not compute in bf16 (OpenVINO would use float32), so there is nothing to judge. "
            "Export on one that does, or use --precision int8."
        )
    reference = load_policy(policy, sampler)
    if results is not None:
        _check_results(results, reference)
    with replaced_folder(out) as folder, _one_thread():
        if precision == FLOAT32:
            manifest, report = _write_checked(folder, target, reference, recorded)
        else:
            with tempfile.TemporaryDirectory() as full:
                _write_checked(Path(full), target, reference, recorded)
                manifest, report = write_reduced(folder, target, reference, recorded, precision)
                assert gate is not None
                verdict = gate(folder, Path(full))
            require_gate(verdict, precision)
            manifest = dataclasses.replace(manifest, gate=verdict.to_json())
            write_json(folder / MANIFEST_FILE, manifest.to_json())
        write_json(folder / "parity.json", report)
        write_text(folder / "README.md", model_card(manifest, report, results))
    return manifest


def _write_checked(
    folder: Path, target: str, policy: TorchPolicy, recorded: Recorded | None
) -> tuple[ExportManifest, dict[str, Any]]:
    """A float32 export and its parity report; raises ``OneDPError`` when it does not answer as ``policy``."""
    manifest, exported, rows = _write(folder, target, policy, recorded, FLOAT32)
    require_parity(rows, manifest.tolerance)
    for each in exported:
        check_first_answer(each)
    return manifest, parity_report(rows, manifest, recorded.source if recorded else None)


def write_reduced(
    folder: Path, target: str, policy: TorchPolicy, recorded: Recorded | None, precision: str
) -> tuple[ExportManifest, dict[str, Any]]:
    """An export in reduced precision that no gate has judged yet, and its distances to ``policy``."""
    manifest, exported, rows = _write(folder, target, policy, recorded, precision)
    worst = max(row.distance for row in rows)
    if not np.isfinite(worst):
        raise OneDPError(f"In {precision} the policy answers with NaN or infinity. Nothing was written.")
    # twice what was seen: the first answer at loading shall show a broken runtime, the gate judges the precision
    manifest = dataclasses.replace(manifest, tolerance=max(2 * worst, tolerance(policy.nfe)))
    write_json(folder / MANIFEST_FILE, manifest.to_json())
    for each in exported:
        check_first_answer(dataclasses.replace(each, manifest=manifest))
    return manifest, parity_report(rows, manifest, recorded.source if recorded else None)


def _write(
    folder: Path, target: str, policy: TorchPolicy, recorded: Recorded | None, precision: str
) -> tuple[ExportManifest, list[ExportedPolicy], list[ParityRow]]:
    draft = _draft(policy, target, precision)
    calibration = _calibration(draft, recorded) if precision == INT8 else None
    written = write_models(folder, TARGETS[target], policy, precision, calibration)
    digests = {name: file_digest(folder / name) for name in written.files}
    manifest = dataclasses.replace(draft, encoders=written.encoders, files=digests)
    write_json(folder / MANIFEST_FILE, manifest.to_json())
    names = usable_runtimes(manifest.model, precision)
    exported = [open_export(folder, manifest, name, threads=1) for name in names]
    return manifest, exported, check_parity(exported, policy, recorded.windows if recorded else None)


def _calibration(manifest: ExportManifest, recorded: Recorded | None) -> Calibration:
    """Recorded observations; raises ``OneDPError`` without them: ranges of random numbers are no policy's."""
    if recorded is None:
        raise OneDPError("int8 takes its ranges from real observations: give a data set with --data.")
    count = min(CALIBRATION_WINDOWS, len(next(iter(recorded.windows.values()))))
    rows = [
        (
            {name: values[row : row + 1] for name, values in recorded.windows.items()},
            episode_noise(REFERENCE_SEED, 2000 + row, manifest.noise_shape)[None],
        )
        for row in range(count)
    ]
    return Calibration(rows, recorded.source)


def _check_results(results: EvaluationResult, policy: TorchPolicy) -> None:
    ours = (policy.sampler.label, str(policy.provenance["weights_digest"]))
    if (results.sampler, results.weights_digest) != ours:
        raise OneDPError(
            f"The result is of {results.label} with weights {results.weights_digest[:12]}..., the export of "
            f"{policy.name}@{ours[0]} with weights {ours[1][:12]}...: its scores would not be this file's. Evaluate it."
        )


class _one_thread:
    """The reference answers with one thread of PyTorch, so that a file does not depend on the machine's cores."""

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.threads)


def _draft(policy: TorchPolicy, target: str, precision: str) -> ExportManifest:
    """The manifest without its files."""
    spec = policy.spec
    draft = ExportManifest(
        name=policy.name,
        task=policy.task,
        model=TARGETS[target].model,
        encoders={},
        files={},
        spec=spec,
        sampler=policy.sampler.label,
        noise_shape=(policy.sampler.draws, spec.horizon, spec.action_dim),
        nfe=policy.nfe,
        precision=precision,
        gate=None if precision == FLOAT32 else {"passed": None},
        weights_digest=str(policy.provenance["weights_digest"]),
        parameters=sum(p.numel() for p in policy.denoiser.parameters()),
        flops=0,
        input_ranges={field.name: _range(policy, field.name, field.size) for field in spec.observations},
        action_width=tuple(policy.normalizer.centre_width(spec.action.name)[1].tolist()),
        tolerance=tolerance(policy.nfe),
        reference_seed=REFERENCE_SEED,
        reference_chunk=[],
        provenance={**policy.provenance, "export": {"command": command_line(), "opset": OPSET} | _versions()},
    )
    obs, noise = draft.example_inputs(batch=1, seed=REFERENCE_SEED)
    with FlopCounterMode(display=False) as counter:
        chunk = policy.infer(obs, noise)
    return dataclasses.replace(draft, flops=int(counter.get_total_flops()), reference_chunk=chunk[0].tolist())


def _range(policy: TorchPolicy, name: str, size: int) -> tuple[Any, Any]:
    stats = policy.normalizer.stats[name]
    if size > LARGEST_LISTED_FIELD:
        return float(stats.min.min()), float(stats.max.max())
    return stats.min.tolist(), stats.max.tolist()


def _versions() -> dict[str, Any]:
    names = ("onedp", "torch", "onnx", *(name for name, runtime in RUNTIMES.items() if runtime.installed))
    return {"versions": {name: importlib.metadata.version(name) for name in names}}


def recorded_observations(policy: str | Path, data: Path | None, task: str | None = None) -> Recorded | None:
    """Windows of real observations: of ``data``, else of what the package ships for the task; None when it ships none.

    Raises ``DataError`` when ``data`` does not fit the policy's task.
    """
    manifest = read_manifest(resolve_artifact(policy))
    if data is None and manifest.task not in OBSERVATIONS:
        return None
    source = data or shipped_observations(str(policy))
    episodes = load_observations(source, get_task(task or manifest.task))
    if missing := sorted({field.name for field in manifest.spec.observations} - set(episodes.arrays)):
        raise DataError(
            f"{source} has no {missing} for the check, only {sorted(episodes.arrays)}. Give another --data."
        )
    newest = np.random.default_rng(0).integers(0, episodes.n_steps, WINDOWS)
    starts = episodes.starts[np.searchsorted(episodes.ends, newest, side="right")]
    steps = np.maximum(newest[:, None] + np.arange(1 - manifest.spec.n_obs_steps, 1), starts[:, None])
    windows = {field.name: np.asarray(episodes.arrays[field.name])[steps] for field in manifest.spec.observations}
    return Recorded(Path(source).name, windows)
