"""One C statement for each operator of a policy's network, for arrays of fixed size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from drillyard.policies.c_graph import LARGEST, Graph, Operation, refused

_ONE = {
    "Exp": "exp({0})",
    "Log": "log({0})",
    "Neg": "-{0}",
    "Tanh": "tanh({0})",
    "Sigmoid": "1.0 / (1.0 + exp(-{0}))",
    "Softplus": "log1p(exp(-fabs({0}))) + ({0} > 0 ? {0} : 0)",
    "Relu": "{0} > 0 ? {0} : 0",
    "Elu": "{0} > 0 ? {0} : alpha * expm1({0})",
    "LeakyRelu": "{0} > 0 ? {0} : alpha * {0}",
    "PRelu": "{0} > 0 ? {0} : {1} * {0}",
    "Selu": "gamma * ({0} > 0 ? {0} : alpha * expm1({0}))",
    "Celu": "{0} > 0 ? {0} : alpha * expm1({0} / alpha)",
    "HardSigmoid": "fmin(fmax(alpha * {0} + beta, 0.0), 1.0)",
    "HardSwish": "{0} * fmin(fmax({0} / 6.0 + 0.5, 0.0), 1.0)",
    "Erf": "erf({0})",
    "Abs": "fabs({0})",
    "Cast": "{0}",
    "Add": "{0} + {1}",
    "Sub": "{0} - {1}",
    "Mul": "{0} * {1}",
    "Div": "{0} / {1}",
    "Max": "{0} > {1} ? {0} : {1}",
    "Min": "{0} < {1} ? {0} : {1}",
    "Greater": "{0} > {1}",
    "Where": "{0} ? {1} : {2}",
    "Clip": "{0} < {1} ? {1} : {0} > {2} ? {2} : {0}",
}
"""Operator -> value of one element."""
_DEFAULTS = {
    "Elu": {"alpha": 1.0},
    "LeakyRelu": {"alpha": 0.01},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "Celu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
}
"""Operator -> its attributes, and their values where the model has none."""


def statement(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    """Returns the C code of an operator.

    Args:
        graph: The model.
        operation: The operator; its outputs are declared before.
        name: Gives the C name of a tensor.

    Raises:
        UserError: The operator cannot be written as C.
    """
    kind = operation.kind
    if kind in _ONE:
        return _each(graph, operation, name)
    special = {
        "Gemm": _gemm,
        "MatMul": _matmul,
        "ArgMax": _argmax,
        "ReduceLogSumExp": _log_sum_exp,
        "ReduceMean": _mean,
        "OneHot": _one_hot,
        "LSTM": _lstm,
    }.get(kind)
    if special is None:
        raise refused(kind)
    return special(graph, operation, name)


def _each(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    shape = graph.values[operation.outputs[0]].shape
    inputs = [i for i in operation.inputs if i] or [operation.inputs[0]]
    terms = [f"{name(i)}[{_index(graph.values[i].shape, shape)}]" for i in inputs]
    value = _ONE[operation.kind]
    for key, default in _DEFAULTS.get(operation.kind, {}).items():
        value = value.replace(key, repr(float(operation.attributes.get(key, default))))
    text = f"{name(operation.outputs[0])}[i] = {value.format(*terms)};"
    return _loop(int(np.prod(shape)), text)


def _index(given: Sequence[int], wanted: Sequence[int]) -> str:
    """Index of the element of a tensor that is spread over a larger one."""
    size = int(np.prod(given))
    spread = np.broadcast_to(np.arange(size).reshape(tuple(given)), tuple(wanted)).ravel()
    if size == 1:
        return "0"
    if np.array_equal(spread, np.arange(spread.size)):
        return "i"
    if np.array_equal(spread, np.arange(spread.size) % size):
        return f"i % {size}"
    repeated = spread.size // size
    if np.array_equal(spread, np.arange(spread.size) // repeated):
        return f"i / {repeated}"
    raise refused(f"broadcast from {tuple(given)} to {tuple(wanted)}")


def _loop(count: int, body: str) -> str:
    return f"for (i = 0; i < {count}; i++) {body}"


def _gemm(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    given = operation.attributes
    if given.get("transA") or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
        raise refused("Gemm with factors")
    seen, weights, *bias = operation.inputs
    rows, columns = graph.values[weights].shape
    out, width = (rows, columns) if given.get("transB") else (columns, rows)
    at = "i * {w} + j" if given.get("transB") else "j * {n} + i"
    start = f"{name(bias[0])}[{_index(graph.values[bias[0]].shape, (1, out))}]" if bias else "0.0"
    place = at.format(w=width, n=out)
    return _loop(
        out,
        f"{{ sum = {start}; for (j = 0; j < {width}; j++) sum += (double){name(weights)}[{place}]"
        f" * {name(seen)}[j]; if (!(fabs(sum) <= {LARGEST!r})) return POLICY_OBSERVATIONS + 1; "
        f"{name(operation.outputs[0])}[i] = (float)sum; }}",
    )


def _matmul(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    seen = graph.values[operation.inputs[0]]
    if seen.size != seen.shape[-1] or graph.values[operation.inputs[1]].ndim != 2:
        raise refused("MatMul of more than one row")
    return _gemm(graph, Operation("Gemm", operation.inputs, operation.outputs, {}), name)


def _rows(graph: Graph, operation: Operation, axis: int) -> tuple[int, int, int]:
    """(outer, length, inner) of an operator along one axis."""
    shape = graph.values[operation.inputs[0]].shape
    axis %= len(shape)
    return int(np.prod(shape[:axis])), shape[axis], int(np.prod(shape[axis + 1 :]))


def _along(
    graph: Graph, operation: Operation, name: Callable[[str], str], axis: int, body: str
) -> str:
    outer, length, inner = _rows(graph, operation, axis)
    place = f"i / {inner} * {length * inner} + j * {inner} + i % {inner}"
    if inner == 1:
        place = f"i * {length} + j"
    value = f"{name(operation.inputs[0])}[{place}]"
    text = body.replace("VALUE", value).replace("OUT", f"{name(operation.outputs[0])}[i]")
    return _loop(outer * inner, f"{{ {text.replace('LENGTH', str(length))} }}")


def _axis(graph: Graph, operation: Operation) -> int:
    if len(operation.inputs) > 1:
        axes = graph.values[operation.inputs[1]].ravel()
    else:
        axes = np.atleast_1d(operation.attributes.get("axes", -1))
    if len(axes) != 1:
        raise refused(f"{operation.kind} along {len(axes)} axes")
    return int(axes[0])


def _argmax(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    axis = int(operation.attributes.get("axis", 0))
    body = (
        "j = 0; sum = VALUE; OUT = 0; for (j = 1; j < LENGTH; j++) if (VALUE > sum) "
        "{ sum = VALUE; OUT = j; }"
    )
    return _along(graph, operation, name, axis, body)


def _log_sum_exp(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    body = (
        "j = 0; top = VALUE; for (j = 1; j < LENGTH; j++) if (VALUE > top) top = VALUE; "
        "sum = 0.0; for (j = 0; j < LENGTH; j++) sum += exp(VALUE - top); "
        "OUT = (float)(top + log(sum));"
    )
    return _along(graph, operation, name, _axis(graph, operation), body)


def _mean(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    body = "sum = 0.0; for (j = 0; j < LENGTH; j++) sum += VALUE; OUT = (float)(sum / LENGTH);"
    return _along(graph, operation, name, _axis(graph, operation), body)


def _one_hot(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    out = operation.outputs[0]
    depth = int(graph.values[operation.inputs[1]].ravel()[0])
    seen = f"{name(operation.inputs[0])}[i / {depth}]"
    return _loop(graph.values[out].size, f"{name(out)}[i] = {seen} == i % {depth};")


def _lstm(graph: Graph, operation: Operation, name: Callable[[str], str]) -> str:
    """One step; gates in the order of ONNX: input, output, forget, cell."""
    seen, weights, again, bias, _, hidden, cell = operation.inputs[:7]
    directions, rows, width = graph.values[weights].shape
    if directions != 1 or graph.values[seen].shape[:2] != (1, 1):
        raise refused("LSTM of several steps or directions")
    n, gates = rows // 4, f"gates_{name(operation.outputs[1])}"
    parts = [
        f"double {gates}[{rows}];",
        _loop(
            rows,
            f"{{ sum = (double){name(bias)}[i] + {name(bias)}[{rows} + i]; "
            f"for (j = 0; j < {width}; j++) sum += (double){name(weights)}[i * {width} + j] * "
            f"{name(seen)}[j]; for (j = 0; j < {n}; j++) sum += (double){name(again)}[i * {n} + j]"
            f" * {name(hidden)}[j]; {gates}[i] = i < {3 * n} ? 1.0 / (1.0 + exp(-sum)) : "
            "tanh(sum); }",
        ),
    ]
    outputs, last, remembered = (*operation.outputs, "", "")[:3]
    body = f"sum = {gates}[{2 * n} + i] * {name(cell)}[i] + {gates}[i] * {gates}[{3 * n} + i]; "
    body += f"{name(remembered)}[i] = (float)sum; " if remembered else ""
    for out in filter(None, (outputs, last)):
        body += f"{name(out)}[i] = (float)({gates}[{n} + i] * tanh(sum)); "
    return " ".join(["{", *parts, _loop(n, f"{{ {body}}}"), "}"])
