"""From a policy to an ONNX model: traced, constants folded, no float64 left."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from onedp.export.graph import PolicyGraph

OPSET = 17
"""Taken by ONNX Runtime from 1.12 on, TensorRT from 8.6 on, and OpenVINO."""


def trace(graph: PolicyGraph) -> ModelProto:
    """The ONNX model: inputs named as the spec's fields and ``noise``, output ``chunk``, any batch size."""
    spec = graph.spec
    inputs = {field.name: torch.zeros(1, spec.n_obs_steps, *field.shape) for field in spec.observations}
    if graph.draws:
        inputs["noise"] = torch.zeros(1, graph.draws, spec.horizon, spec.action_dim)
    file = io.BytesIO()
    # Sizes that the samplers take from len() become constants: at batch 1 they broadcast over any other.
    with warnings.catch_warnings(), torch.inference_mode():
        # The other exporter of PyTorch needs 23 s where this takes 3, and fixes the batch size.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            file,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["chunk"],
            dynamic_axes={name: {0: "batch"} for name in [*inputs, "chunk"]},
        )
    model = onnx.load_from_string(file.getvalue())
    fold_constants(model)
    drop_float64(model)
    onnx.checker.check_model(model)
    return model


def fold_constants(model: ModelProto) -> None:
    """Compute, in place, every node whose inputs are constants, in the precision it was written in.

    Samplers do their sums in float64; what follows from the noise grid alone keeps that precision.
    """
    graph = model.graph
    known = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    own = set(known)
    kept: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Constant" or (node.input and all(name in known for name in node.input if name)):
            known.update(zip(node.output, _evaluate(node, known), strict=True))
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    fresh = [numpy_helper.from_array(known[name], name) for name in sorted(used & (set(known) - own))]
    stored = [item for item in graph.initializer if item.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend([*stored, *fresh])


def _evaluate(node: NodeProto, known: dict[str, np.ndarray]) -> list[np.ndarray]:
    if node.op_type == "Constant":
        (attribute,) = node.attribute
        return [numpy_helper.to_array(attribute.t)]
    evaluator = ReferenceEvaluator(node)
    return [np.asarray(value) for value in evaluator.run(None, {name: known[name] for name in node.input if name})]


def drop_float64(model: ModelProto) -> None:
    """Turn what is left of float64 into float32, in place: TensorRT takes none, and OpenVINO computes none on CPUs."""
    for item in model.graph.initializer:
        if item.data_type == TensorProto.DOUBLE:
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float32), item.name))
    types = {
        item.name: item.type.tensor_type.elem_type for item in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    types |= {item.name: item.type.tensor_type.elem_type for item in model.graph.input}
    floats = {name for name, kind in types.items() if kind in (TensorProto.FLOAT, TensorProto.DOUBLE)}
    renamed: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in model.graph.node:
        source = node.input[0] if node.input else ""
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        to = next((a for a in node.attribute if node.op_type == "Cast" and a.name == "to"), None)
        if to is not None and to.i == TensorProto.DOUBLE:
            to.i = TensorProto.FLOAT
        if to is not None and to.i == TensorProto.FLOAT and source in floats:  # both ends are float32 now
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    outputs = {item.name for item in model.graph.output}
    kept.extend(onnx.helper.make_node("Identity", [renamed[name]], [name]) for name in sorted(outputs & set(renamed)))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(kept)
