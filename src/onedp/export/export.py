"""A policy artifact to a folder that runs without torch: graph, manifest, parity report, model card."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onedp.backends.manifest import LARGEST_TOLERANCE_REDUCED, MANIFEST_FILE, ExportManifest
from onedp.backends.policy import ExportedPolicy, check_first_answer, open_export
from onedp.backends.runtimes import BFLOAT16, FLOAT32, INT8, RUNTIMES, processor_has_bfloat16, usable_runtimes
from onedp.errors import OneDPError, unknown_choice
from onedp.evaluate.latency import Timed, measure
from onedp.evaluate.scores import Scores
from onedp.export.gate import Gate, require_gate
from onedp.export.model_card import model_card
from onedp.export.model_files import TARGETS, write_models
from onedp.export.onnx_file import OPSET
from onedp.export.parity import WIDE, ParityRow, check_parity, parity_report, require_parity, tolerance
from onedp.export.quantize import Calibration
from onedp.export.reference import REFERENCE_SEED, Recorded, checked_scores, make_manifest, require_free
from onedp.files import replaced_folder, write_json, write_text
from onedp.policy import TorchPolicy, load_policy
from onedp.threads import one_thread
from onedp.types import episode_noise

CALIBRATION_WINDOWS = 64
TIMED_ROUNDS = 20


def export_policy(
    policy: str | Path,
    target: str,
    out: Path,
    sampler: str | None = None,
    recorded: Recorded | None = None,
    results: Scores | None = None,
    precision: str = FLOAT32,
    gate: Gate | None = None,
) -> ExportManifest:
    """Write ``out``; an earlier export there is replaced.

    ``results``: of this policy and sampler, for the model card; those of a shipped policy are known. ``precision``: a
    name of ``PRECISIONS``; all but float32 must pass ``gate``, which is given the folders of this export and of one in
    float32. Raises
    ``ArtifactError`` when the policy is damaged (the digest of its weights is checked), ``OneDPError`` when the float32
    graph does not answer as the policy does or the gate is shut; ``out`` is then left as it was.
    """
    _check_possible(target, precision, gate)
    require_free(out)
    reference = load_policy(policy, sampler).plain()
    results = checked_scores(results, reference)
    with replaced_folder(out) as folder, one_thread():
        if precision == FLOAT32:
            manifest, report = _write_checked(folder, target, reference, recorded)
        else:
            with tempfile.TemporaryDirectory() as full:
                _write_checked(Path(full), target, reference, recorded)
                manifest, report = write_reduced(folder, target, reference, recorded, precision)
                assert gate is not None  # _check_possible
                verdict = gate(folder, Path(full))
            require_gate(verdict, precision)
            manifest = dataclasses.replace(manifest, gate=verdict.to_json())
            write_json(folder / MANIFEST_FILE, manifest.to_json())
        write_json(folder / "parity.json", report)
        write_text(folder / "README.md", model_card(manifest, report, results))
    return manifest


def _check_possible(target: str, precision: str, gate: Gate | None) -> None:
    if target not in TARGETS:
        raise OneDPError(unknown_choice("export target", target, TARGETS))
    if not usable_runtimes(TARGETS[target].model, precision):
        raise OneDPError(
            f"No runtime is installed that could check a {target} export in {precision}: pip install 'onedp[all]'"
        )
    if precision != FLOAT32 and gate is None:
        raise OneDPError(f"An export in {precision} needs a gate: an evaluation, or held-out observations.")
    if precision == BFLOAT16 and not processor_has_bfloat16():
        raise OneDPError(
            "This processor does not compute in bf16 (OpenVINO would use float32), so there is nothing to judge. "
            "Export on one that does, or use --precision int8."
        )


def _write_checked(
    folder: Path, target: str, policy: TorchPolicy, recorded: Recorded | None
) -> tuple[ExportManifest, dict[str, Any]]:
    """A float32 export and its parity report; raises ``OneDPError`` when it does not answer as ``policy``."""
    manifest, exported, rows = _write(folder, target, policy, recorded, FLOAT32)
    require_parity(rows, manifest.tolerance)
    for each in exported:
        check_first_answer(each)
    return manifest, parity_report(rows, manifest, recorded.source if recorded else None, _latency_ms(exported))


def write_reduced(
    folder: Path, target: str, policy: TorchPolicy, recorded: Recorded | None, precision: str
) -> tuple[ExportManifest, dict[str, Any]]:
    """An export in reduced precision that no gate has judged yet, and its distances to ``policy``."""
    manifest, exported, rows = _write(folder, target, policy, recorded, precision)
    worst = max(row.distance for row in rows if row.inputs != WIDE)
    if not np.isfinite([row.distance for row in rows]).all():
        raise OneDPError(f"In {precision} the policy answers with NaN or infinity. Nothing was written.")
    # twice what was seen: the first answer at loading shall show a broken runtime, the gate judges the precision
    accepted = min(max(2 * worst, tolerance(policy.nfe)), LARGEST_TOLERANCE_REDUCED)
    manifest = dataclasses.replace(manifest, tolerance=accepted)
    write_json(folder / MANIFEST_FILE, manifest.to_json())
    for each in exported:
        check_first_answer(dataclasses.replace(each, manifest=manifest))
    return manifest, parity_report(rows, manifest, recorded.source if recorded else None, _latency_ms(exported))


def _write(
    folder: Path, target: str, policy: TorchPolicy, recorded: Recorded | None, precision: str
) -> tuple[ExportManifest, list[ExportedPolicy], list[ParityRow]]:
    calibration = _calibration(policy, recorded) if precision == INT8 else None
    written = write_models(folder, TARGETS[target], policy, precision, calibration)
    packages = ("onnx", *(name for name, runtime in RUNTIMES.items() if runtime.installed))
    manifest = make_manifest(policy, folder, written.files, packages, opset=OPSET)
    manifest = dataclasses.replace(
        manifest,
        encoders=written.encoders,
        precision=precision,
        gate=None if precision == FLOAT32 else {"passed": None},
    )
    write_json(folder / MANIFEST_FILE, manifest.to_json())
    names = usable_runtimes(manifest.model, precision)
    exported = {name: open_export(folder, manifest, name, threads=1) for name in names}
    rows = check_parity(exported, manifest, policy, recorded.windows if recorded else None)
    return manifest, list(exported.values()), rows


def _latency_ms(exported: Sequence[ExportedPolicy]) -> dict[str, float]:
    """Runtime to median time of one chunk, all taking turns; what the card says, until `onedp latency` says better."""
    timed = [
        Timed(each, each.name, each.runtime, 1, 0, 0, each.manifest.example_inputs(batch=1, seed=0))
        for each in exported
    ]
    times = measure(timed, TIMED_ROUNDS)
    return {each.runtime: float(np.median(own)) for each, own in zip(exported, times, strict=True)}


def _calibration(policy: TorchPolicy, recorded: Recorded | None) -> Calibration:
    """Recorded observations; raises ``OneDPError`` without them: ranges of random numbers are no policy's."""
    if recorded is None:
        raise OneDPError("int8 takes its ranges from real observations: give a data set with --data.")
    count = min(CALIBRATION_WINDOWS, len(next(iter(recorded.windows.values()))))
    rows = [
        (
            {name: values[row : row + 1] for name, values in recorded.windows.items()},
            episode_noise(REFERENCE_SEED, 2000 + row, policy.noise_shape)[None],
        )
        for row in range(count)
    ]
    return Calibration(rows, recorded.source)
