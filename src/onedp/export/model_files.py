"""The model files of an export: graphs to ONNX or OpenVINO's format, in full or reduced precision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto

from onedp.backends.manifest import EXPORT_FORMAT
from onedp.backends.runtimes import BFLOAT16, INT8
from onedp.export.graph import PolicyGraph
from onedp.export.inputs import CameraGraph
from onedp.export.layers import FOR_ONNXRUNTIME, FOR_OPENVINO, FOR_OPENVINO_BF16, Form
from onedp.export.onnx_file import trace, trace_camera
from onedp.export.quantize import Calibration, quantize
from onedp.policy import TorchPolicy


@dataclass(frozen=True)
class Target:
    """One kind of export."""

    model: str
    form: Form
    """Of its graph in float32 and int8."""

    @property
    def suffix(self) -> str:
        """Of its model files."""
        return Path(self.model).suffix


TARGETS = {
    "onnx": Target("policy.onnx", FOR_ONNXRUNTIME),
    "openvino": Target("policy.xml", FOR_OPENVINO),
}
"""Names of ``--to``."""


@dataclass(frozen=True)
class ModelFiles:
    """What was written."""

    encoders: dict[str, str]
    """Camera to the file of its encoder."""
    files: list[str]
    """Every file, the policy's model first."""


def write_models(
    folder: Path, target: Target, policy: TorchPolicy, precision: str, calibration: Calibration | None
) -> ModelFiles:
    """Write the graph of the policy and one for each camera into ``folder``.

    ``calibration``: inputs of the policy that int8 takes its ranges from. bfloat16 is a setting of OpenVINO; its file
    holds float32, in the form that is fastest with that setting.
    """
    graph = PolicyGraph(policy, FOR_OPENVINO_BF16 if precision == BFLOAT16 else target.form)
    encoders = {name: f"encoder-{number}{target.suffix}" for number, name in enumerate(graph.cameras)}
    models = {target.model: trace(graph)}
    models |= {encoders[name]: trace_camera(CameraGraph(policy, name)) for name in graph.cameras}
    if precision == INT8:
        assert calibration is not None
        models = quantize(models, target.model, encoders, calibration)
    facts = {
        "onedp.format": EXPORT_FORMAT,
        "onedp.spec": json.dumps(policy.spec.to_json()),
        "onedp.sampler": policy.sampler.label,
        "onedp.weights_digest": str(policy.provenance["weights_digest"]),
    }
    files: list[str] = []
    for name, model in models.items():
        onnx.helper.set_model_props(model, facts)
        files.extend(_write(folder / name, model, list(facts.items())))
    return ModelFiles(encoders, files)


def _write(path: Path, model: ModelProto, facts: Sequence[tuple[str, str]]) -> list[str]:
    if path.suffix == ".onnx":
        onnx.save(model, path)
        return [path.name]
    import openvino

    converted = openvino.Core().read_model(model.SerializeToString(), b"")
    for name, value in facts:
        converted.set_rt_info(value, ["onedp", name.removeprefix("onedp.")])
    openvino.save_model(converted, str(path), compress_to_fp16=False)
    return [path.name, path.with_suffix(".bin").name]
