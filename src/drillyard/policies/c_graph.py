"""Reads an ONNX model of a policy for one observation: shapes, constants, what is needed.

Operators: https://onnx.ai/onnx/operators. Whatever depends on nothing that changes is computed
here, and not in the C program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, reference

from drillyard.errors import UserError

LARGEST = float(np.finfo(np.float32).max)
"""The network computes with 32 bits: beyond, nothing is finite."""
NOISE = "noise"
"""Input that is zero: the C program acts without randomness."""
_MOVES = {
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
}
"""Operators that only copy values to other places."""


@dataclass(frozen=True)
class Operation:
    """One operator with the attributes that it was given."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class Graph:
    """The model for one observation.

    Args:
        model: ONNX, as ``to_onnx`` writes it.

    Attributes:
        values: Tensor -> an array of its shape and type; of a constant, its value.
        constants: Tensors that are the same for every observation.
        operations: What is to be computed, in order.
        outputs: The action, then the memory.
    """

    def __init__(self, model: bytes) -> None:
        proto = onnx.load_from_string(model)
        self.outputs = [o.name for o in proto.graph.output]
        self._opsets = list(proto.opset_import)
        self.values = _values(proto)
        self.constants = {i.name for i in proto.graph.initializer} | {NOISE, ""}
        operations = [self._read(node) for node in proto.graph.node]
        self.operations = self._needed([o for o in operations if not self._constant(o)])

    def _read(self, node: onnx.NodeProto) -> Operation:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return Operation(node.op_type, tuple(node.input), tuple(node.output), attributes)

    def _constant(self, operation: Operation) -> bool:
        """Whether it is the same for every observation; then it is remembered as constant."""
        kind, inputs = operation.kind, operation.inputs
        zero = kind == "Mul" and any(
            name in self.constants and not self.values[name].any() for name in inputs
        )
        if zero:
            self.values[operation.outputs[0]] = np.zeros_like(self.values[operation.outputs[0]])
        if zero or kind in ("Shape", "Constant") or all(n in self.constants for n in inputs):
            self.constants.update(operation.outputs)
            return True
        return False

    def _needed(self, operations: Sequence[Operation]) -> list[Operation]:
        needed, kept = set(self.outputs), []
        for operation in reversed(operations):
            if needed & set(operation.outputs):
                kept.append(operation)
                needed.update(operation.inputs)
        return kept[::-1]

    def sources(self, operation: Operation, output: str) -> list[tuple[str, int]] | None:
        """Where each value of an output of an operator that only copies comes from.

        Returns:
            (tensor, index) of each value, flat; None for an operator that computes.
        """
        if operation.kind not in _MOVES:
            return None
        given = (n for n in operation.inputs if n)
        moved = [n for n in given if n not in self.constants or _is_data(operation, n)]
        places: list[tuple[str, int]] = []
        feed: dict[str, np.ndarray] = {}
        start = 0
        for name in operation.inputs:
            if name in moved and name not in feed:
                size = self.values[name].size
                feed[name] = np.arange(start, start + size).reshape(self.values[name].shape)
                places += [(name, index) for index in range(size)]
                start += size
            elif name:
                feed.setdefault(name, self.values[name])
        node = helper.make_node(
            operation.kind, operation.inputs, operation.outputs, **operation.attributes
        )
        alone = helper.make_graph(
            [node],
            "moved",
            [_info(n, v) for n, v in feed.items()],
            [_info(n, np.arange(1)) for n in operation.outputs],
        )
        model = helper.make_model(alone, opset_imports=self._opsets)
        order: Any = reference.ReferenceEvaluator(model).run([output], feed)
        return [places[index] for index in np.asarray(order[0]).ravel()]


def _is_data(operation: Operation, name: str) -> bool:
    """Whether an input of an operator that copies is copied, and is not the order of it."""
    return operation.kind == "Concat" or name == operation.inputs[0]


def _info(name: str, value: np.ndarray) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, None)


def _values(proto: Any) -> dict[str, np.ndarray]:
    """Every tensor of the model for one observation of zeros."""
    values = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    feed = {}
    for given in proto.graph.input:
        kind = given.type.tensor_type
        shape = [d.dim_value or 1 for d in kind.shape.dim]
        feed[given.name] = np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    names = [name for node in proto.graph.node for name in node.output if name]
    present = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    results = session.run(names, feed)
    return {**values, **feed, **dict(zip(names, results, strict=True)), "": np.zeros(0)}


def refused(kind: str) -> UserError:
    """Returns the error for an operator that is not written as C."""
    what = {"Conv": "images (a convolution)"}.get(kind, f"the operator {kind}")
    return UserError(f"{what} cannot be exported to C", hint="use --format onnx")
