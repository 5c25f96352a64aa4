"""A policy artifact to a folder that runs without torch: graph, manifest, parity report, model card."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy import ndarray
from torch.utils.flop_counter import FlopCounterMode

from onedp.artifact import file_digest, read_manifest, resolve_artifact
from onedp.backends.manifest import EXPORT_FORMAT, MANIFEST_FILE, ExportManifest, is_export
from onedp.backends.policy import ExportedPolicy, check_first_answer
from onedp.backends.runtimes import RUNTIMES, open_model, usable_runtimes
from onedp.errors import DataError, OneDPError, unknown_choice
from onedp.evaluate.results import EvaluationResult
from onedp.export.graph import PolicyGraph
from onedp.export.model_card import model_card
from onedp.export.onnx_file import OPSET, trace
from onedp.export.parity import check_parity, parity_report, require_parity, tolerance
from onedp.files import replaced_folder, require_writable, write_json, write_text
from onedp.machine import command_line
from onedp.policy import TorchPolicy, load_policy
from onedp.shipped import OBSERVATIONS, shipped_observations
from onedp.tasks import get_task
from onedp.tasks.demonstrations import load_observations

REFERENCE_SEED = 0
WINDOWS = 256
"""Recorded observations that the parity check draws from."""
LARGEST_LISTED_FIELD = 1024
"""Fields with more numbers a step (pictures) have one range for all of them in the manifest."""


@dataclass(frozen=True)
class Target:
    """One kind of export."""

    model: str
    fast_mish: bool
    """See ``onedp.export.layers``."""


TARGETS = {
    "onnx": Target("policy.onnx", fast_mish=True),
    "openvino": Target("policy.xml", fast_mish=False),
}
"""Names of ``--to``."""


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
) -> ExportManifest:
    """Write ``out``; an earlier export there is replaced.

    ``results``: an evaluation of this policy and sampler, for the model card. Raises ``ArtifactError`` when the policy
    is damaged (the digest of its weights is checked), ``OneDPError`` when the graph does not answer as the policy does;
    ``out`` is then left as it was.
    """
    if target not in TARGETS:
        raise OneDPError(unknown_choice("export target", target, TARGETS))
    if not usable_runtimes(TARGETS[target].model):
        raise OneDPError(f"No runtime is installed that could check a {target} export: pip install 'onedp[all]'")
    require_writable(out / MANIFEST_FILE)
    if out.exists() and not is_export(out) and (out.is_file() or any(out.iterdir())):
        raise OneDPError(f"{out} exists and is no exported policy; it is left alone. Choose another --out.")
    reference = load_policy(policy, sampler)
    if results is not None:
        _check_results(results, reference)
    with replaced_folder(out) as folder, _one_thread():
        graph = PolicyGraph(reference, TARGETS[target].fast_mish)
        files = _write_model(folder, target, graph, reference)
        manifest = _manifest(reference, target, folder, files)
        write_json(folder / MANIFEST_FILE, manifest.to_json())
        exported = [_open(folder, manifest, name) for name in usable_runtimes(manifest.model)]
        rows = check_parity(exported, reference, recorded.windows if recorded else None)
        require_parity(rows, manifest.tolerance)
        for each in exported:
            check_first_answer(each)
        report = parity_report(rows, manifest, recorded.source if recorded else None)
        write_json(folder / "parity.json", report)
        write_text(folder / "README.md", model_card(manifest, report, results))
    return manifest


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


def _open(folder: Path, manifest: ExportManifest, name: str) -> ExportedPolicy:
    return ExportedPolicy(manifest, name, 1, open_model(name, folder / manifest.model, threads=1))


def _write_model(folder: Path, target: str, graph: PolicyGraph, policy: TorchPolicy) -> list[str]:
    """Write the graph; returns the names of the files."""
    model = trace(graph)
    facts = {
        "onedp.format": EXPORT_FORMAT,
        "onedp.spec": json.dumps(policy.spec.to_json()),
        "onedp.sampler": policy.sampler.label,
        "onedp.weights_digest": str(policy.provenance["weights_digest"]),
    }
    onnx.helper.set_model_props(model, facts)
    if target == "onnx":
        onnx.save(model, folder / "policy.onnx")
        return ["policy.onnx"]
    import openvino

    converted = openvino.Core().read_model(model.SerializeToString(), b"")
    for name, value in facts.items():
        converted.set_rt_info(value, ["onedp", name.removeprefix("onedp.")])
    openvino.save_model(converted, str(folder / "policy.xml"), compress_to_fp16=False)
    return ["policy.xml", "policy.bin"]


def _manifest(policy: TorchPolicy, target: str, folder: Path, files: list[str]) -> ExportManifest:
    spec = policy.spec
    draft = ExportManifest(
        name=policy.name,
        task=policy.task,
        model=TARGETS[target].model,
        files={name: file_digest(folder / name) for name in files},
        spec=spec,
        sampler=policy.sampler.label,
        noise_shape=(policy.sampler.draws, spec.horizon, spec.action_dim),
        nfe=policy.nfe,
        precision="float32",
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
