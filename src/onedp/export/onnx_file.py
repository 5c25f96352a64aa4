"""From a policy to an ONNX model: traced, constants folded, no float64 left."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from onedp.export.graph import PolicyGraph
from onedp.export.inputs import CameraGraph
from onedp.types import PolicySpec

OPSET = 17
"""Taken by ONNX Runtime from 1.12 on, TensorRT from 8.6 on, and OpenVINO."""


def trace(graph: PolicyGraph) -> ModelProto:
    """The ONNX model: inputs named as the spec's fields and ``noise``, output ``chunk``, any batch size.

    Several passes are one ``Loop`` whose body holds the network once.
    """
    inputs = graph.example_inputs()
    if graph.passes == 1:
        model = _trace(graph, inputs, ["chunk"])
    else:
        history, *prepared = graph.prepare(*inputs.values())
        names = [f"prepared_{number}" for number in range(len(prepared))]
        passed_on = dict(zip(names, prepared, strict=True))
        start = _trace(_Part(graph, "prepare"), inputs, ["history", *names])
        level = {"level": torch.tensor(0), "history": history}
        step = _trace(_Part(graph, "step"), level | passed_on, ["next_history"])
        finish = _trace(_Part(graph, "finish"), {"full_history": history}, ["chunk"])
        model = loop_model(start, step, finish, graph.passes)
    _declare_chunk(model, graph.spec)
    onnx.checker.check_model(model)
    return model


def _declare_chunk(model: ModelProto, spec: PolicySpec) -> None:
    """Say the chunk's shape in the file: the trace leaves the length of a slice open."""
    (chunk,) = model.graph.output
    dims = chunk.type.tensor_type.shape.dim
    del dims[1:]
    dims.add().dim_value = spec.chunk_length
    dims.add().dim_value = spec.action_dim


def trace_camera(graph: CameraGraph) -> ModelProto:
    """The ONNX model from ``pictures`` to ``features``, any number of them."""
    model = _trace(graph, graph.example_inputs(), ["features"])
    onnx.checker.check_model(model)
    return model


class _Part(nn.Module):
    """One method of the graph as a module of its own."""

    def __init__(self, graph: PolicyGraph, method: str):
        super().__init__()
        self.graph, self.method = graph, method

    def forward(self, *inputs: Tensor) -> object:
        return getattr(self.graph, self.method)(*inputs)


def _trace(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> ModelProto:
    """``module`` with the first axis of every input and output, but for scalars, free."""
    file = io.BytesIO()
    batched = [name for name, value in inputs.items() if value.dim()]
    # Sizes that the samplers take from len() become constants: at batch 1 they broadcast over any other.
    with warnings.catch_warnings(), torch.inference_mode():
        # The other exporter of PyTorch needs 23 s where this takes 3, and fixes the batch size.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            file,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in [*batched, *outputs]},
        )
    model = onnx.load_from_string(file.getvalue())
    fold_constants(model)
    drop_float64(model)
    return model


def loop_model(start: ModelProto, step: ModelProto, finish: ModelProto, passes: int) -> ModelProto:
    """``start``, then ``step`` so many times, then ``finish``, as one model.

    ``start`` gives a history and other values; ``step`` takes a level (0, 1, ...), the history and those values and
    gives the next history; ``finish`` makes the output of the last one. The weights of ``step`` are stored inside the
    loop's body: OpenVINO takes constants from outside for inputs that may change, and would not pack them.
    """
    parts = [onnx.compose.add_prefix(part, prefix) for part, prefix in ((step, "step/"), (finish, "finish/"))]
    body, end = (part.graph for part in parts)
    first = start.graph
    _rename(body, dict(zip([i.name for i in body.input[2:]], [o.name for o in first.output[1:]], strict=True)))
    level, history = body.input[:2]
    flags = [onnx.helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("step/go", "step/go_on")]
    flag = onnx.helper.make_node("Identity", ["step/go"], ["step/go_on"])
    loop_body = onnx.helper.make_graph(
        [flag, *body.node], "one_pass", [level, flags[0], history], [flags[1], body.output[0]], list(body.initializer)
    )
    loop = onnx.helper.make_node(
        "Loop", ["passes", "", first.output[0].name], [end.input[0].name], name="passes_loop", body=loop_body
    )
    names = [item.name for item in end.output]
    _rename(end, {name: name.removeprefix("finish/") for name in names})
    trips = numpy_helper.from_array(np.array(passes, dtype=np.int64), "passes")
    whole = onnx.helper.make_graph(
        [*first.node, loop, *end.node],
        "policy",
        list(first.input),
        list(end.output),
        [*first.initializer, *end.initializer, trips],
    )
    return onnx.helper.make_model(whole, opset_imports=list(start.opset_import), ir_version=start.ir_version)


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                values[place] = names.get(name, name)
    for item in (*graph.input, *graph.output):
        item.name = names.get(item.name, item.name)


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
