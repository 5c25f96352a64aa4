"""A policy artifact to a folder that runs without torch: graph, manifest, parity report, model card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import onnx

from onedp.backends.manifest import EXPORT_FORMAT, MANIFEST_FILE, ExportManifest
from onedp.backends.policy import ExportedPolicy, check_first_answer
from onedp.backends.runtimes import RUNTIMES, open_model, usable_runtimes
from onedp.errors import OneDPError, unknown_choice
from onedp.evaluate.results import EvaluationResult
from onedp.export.graph import PolicyGraph
from onedp.export.model_card import model_card
from onedp.export.onnx_file import OPSET, trace
from onedp.export.parity import check_parity, parity_report, require_parity
from onedp.export.reference import Recorded, check_results, make_manifest, one_thread, require_free
from onedp.files import replaced_folder, write_json, write_text
from onedp.policy import TorchPolicy, load_policy


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
    require_free(out)
    reference = load_policy(policy, sampler)
    if results is not None:
        check_results(results, reference)
    with replaced_folder(out) as folder, one_thread():
        graph = PolicyGraph(reference, TARGETS[target].fast_mish)
        files = _write_model(folder, target, graph, reference)
        packages = ("onnx", *(name for name, runtime in RUNTIMES.items() if runtime.installed))
        manifest = make_manifest(reference, folder, files, packages, opset=OPSET)
        write_json(folder / MANIFEST_FILE, manifest.to_json())
        exported = {name: _open(folder, manifest, name) for name in usable_runtimes(manifest.model)}
        rows = check_parity(exported, manifest, reference, recorded.windows if recorded else None)
        require_parity(rows, manifest.tolerance)
        for each in exported.values():
            check_first_answer(each)
        report = parity_report(rows, manifest, recorded.source if recorded else None)
        write_json(folder / "parity.json", report)
        write_text(folder / "README.md", model_card(manifest, report, results))
    return manifest


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
