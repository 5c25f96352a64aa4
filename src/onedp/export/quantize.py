"""int8 graphs: static quantisation by ONNX Runtime, ranges taken from real observations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy import ndarray
from onnx import ModelProto

from onedp.backends.policy import FEATURES
from onedp.errors import OneDPError

QUANTIZED = ("Conv", "MatMul", "Gemm")
"""Operators that compute in int8; all others stay in float32."""


@dataclass(frozen=True)
class Calibration:
    """Inputs of the policy, one batch of 1 each."""

    inputs: Sequence[tuple[Mapping[str, ndarray], ndarray]]
    """Observations ``{name: (1, To, *shape)}`` and noise ``(1, *noise_shape)``."""
    source: str


def quantize(
    models: Mapping[str, ModelProto], policy_model: str, encoders: Mapping[str, str], calibration: Calibration
) -> dict[str, ModelProto]:
    """The same graphs with weights and activations of ``QUANTIZED`` in 8 bits; raises ``OneDPError`` for loops.

    ``models``: file name to model; ``encoders``: camera to the file name of its encoder.
    """
    if any(node.op_type == "Loop" for node in models[policy_model].graph.node):
        raise OneDPError("int8 is for policies of one network pass: rounding would add up over the passes. Distil it.")
    feeds = {camera: _pictures(calibration, camera) for camera in encoders}
    quantized = {name: _quantized(models[name], feeds[camera]) for camera, name in encoders.items()}
    features = {camera: _run(models[name], feeds[camera]) for camera, name in encoders.items()}
    rows = []
    for number, (obs, noise) in enumerate(calibration.inputs):
        row = {name: np.asarray(values, dtype=np.float32) for name, values in obs.items() if name not in encoders}
        row |= {FEATURES + camera: values[number] for camera, values in features.items()}
        if noise.shape[1]:
            row["noise"] = np.asarray(noise, dtype=np.float32)
        rows.append(row)
    return {policy_model: _quantized(models[policy_model], rows), **quantized}


def _pictures(calibration: Calibration, camera: str) -> list[dict[str, ndarray]]:
    return [{"pictures": np.asarray(obs[camera][0], dtype=np.float32)} for obs, _ in calibration.inputs]


def _run(model: ModelProto, feeds: Sequence[Mapping[str, ndarray]]) -> list[ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(None, dict(feed))[0][None] for feed in feeds]  # (1, To, F) each


def _quantized(model: ModelProto, feeds: Sequence[Mapping[str, ndarray]]) -> ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows: Iterator[Mapping[str, ndarray]] = iter(feeds)

        def get_next(self) -> dict[str, ndarray] | None:
            row = next(self.rows, None)
            return None if row is None else dict(row)

    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            str(source),
            str(result),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            reduce_range=True,  # without VNNI a pair of 8-bit products overflows 16 bits
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(str(result))
