"""Writes a policy as one C99 file and its header: no library, no allocation, no global state.

The network is computed as its ONNX model says, for one observation, without randomness.
Normalisation, action scaling and limits are inside. Sums are kept in double precision.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from drillyard.errors import UserError
from drillyard.policies.act import shape_of
from drillyard.policies.bundles import Described
from drillyard.policies.c_graph import LARGEST, Graph
from drillyard.policies.c_operators import statement
from drillyard.simulators.channels import ChannelJson

SOURCE, HEADER = "policy.c", "policy.h"
_WORDS = (
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch typedef "
    "union unsigned void volatile while "
    "alignas alignof and asm bool catch class constexpr delete explicit export false friend "
    "mutable namespace new not nullptr operator or private protected public template this "
    "thread_local throw true try typeid typename typeof using virtual wchar_t xor"
)
"""What cannot be a name in C99, C23 or C++, which may include the header."""
_KINDS = {"float32": "float", "float64": "double"}


def c_files(model: bytes, described: Described, about: str) -> dict[str, bytes]:
    """Returns ``policy.c`` and ``policy.h``.

    Args:
        model: The policy's ONNX.
        described: ``spaces.json``.
        about: One sentence: which policy it is.

    Raises:
        UserError: A part of the network, or an observation without names, cannot be written as C.
    """
    if not described["channels"]["observation"] or not described["channels"]["action"]:
        raise UserError(
            "more than 64 values without names, such as an image, cannot be exported to C",
            hint="name them in the simulator's channels(), or use --format onnx",
        )
    program = _Program(Graph(model), described)
    return {
        HEADER: program.header(about).encode(),
        SOURCE: program.source(about).encode(),
    }


class _Program:
    """The two files of one policy."""

    def __init__(self, graph: Graph, described: Described) -> None:
        self._graph, self._described = graph, described
        self._names: dict[str, str] = {}
        self._tables: list[str] = []
        self._seen = _fields(described["channels"]["observation"])
        self._done = _fields(described["channels"]["action"])
        self._memory = described.get("memory") is not None
        self._masks = described.get("masks")

    def header(self, about: str) -> str:
        """``policy.h``: names, units and ranges."""
        memory = int(np.prod(self._described["memory"] or (0,)))
        remembered = (
            f"/* What the policy remembers. Call policy_begin when an episode begins. */\n"
            f"typedef struct {{ float hidden[{memory}]; float cell[{memory}]; }} policy_memory;\n"
            "void policy_begin(policy_memory *memory);\n\n"
        )
        return (
            f"/* {about}\n   Made by drillyard. It allocates nothing and has no global state. "
            "*/\n#ifndef DRILLYARD_POLICY_H\n#define DRILLYARD_POLICY_H\n\n"
            '#ifdef __cplusplus\nextern "C" {\n#endif\n\n'
            f"#define POLICY_OBSERVATIONS {len(self._seen)}\n"
            f"#define POLICY_ACTIONS {len(self._done)}\n\n"
            f"{_struct('observation', self._seen)}{_struct('action', self._done)}"
            f"{remembered if self._memory else ''}"
            "/* Writes the action for an observation, both in the units above.\n"
            "   Returns 0 if it acted inside the ranges above;\n"
            "   n > 0 if the n-th observation is not a finite number of 32 bits, or, for\n"
            "   POLICY_OBSERVATIONS + 1, the network's answer: it writes and remembers nothing;\n"
            "   -n if the n-th observation is outside its range: the action is written. */\n"
            f"{self._signature()};\n\n#ifdef __cplusplus\n}}\n#endif\n\n#endif\n"
        )

    def _signature(self) -> str:
        more = ", policy_memory *memory" if self._memory else ""
        more += f", const unsigned char possible[{self._masks}]" if self._masks else ""
        return (
            f"int policy_act(const policy_observation *observation, policy_action *action{more})"
        )

    def source(self, about: str) -> str:
        """``policy.c``."""
        body = "\n".join(f"    {line}" for line in self._body())
        begin = (
            "void policy_begin(policy_memory *memory) { memset(memory, 0, sizeof *memory); }\n\n"
        )
        return (
            f'/* {about} */\n#include <math.h>\n#include <string.h>\n\n#include "{HEADER}"\n\n'
            + "\n".join(self._tables)
            + f"\n\n{begin if self._memory else ''}{self._signature()}\n{{\n{body}\n}}\n"
        )

    def _body(self) -> Iterator[str]:
        graph = self._graph
        yield "double sum = 0.0, top = 0.0; int i, j, outside = 0;"
        yield from self._observed()
        if self._memory:
            for part in ("hidden", "cell"):
                self._names[part] = f"memory->{part}"
        if self._masks:
            yield f"float masks[{self._masks}];"
            self._names["masks"] = "masks"
            yield f"for (i = 0; i < {self._masks}; i++) masks[i] = possible[i] ? 1.0f : 0.0f;"
        for operation in graph.operations:
            outputs = {o: graph.sources(operation, o) for o in operation.outputs if o}
            for output, sources in outputs.items():
                if sources is None:
                    yield self._declared(output)
                else:
                    yield from self._moved(output, sources)
            if None in outputs.values():
                yield statement(graph, operation, self._name)
        for part, output in zip(("hidden", "cell"), graph.outputs[1:], strict=False):
            yield f"memcpy(memory->{part}, {self._name(output)}, sizeof memory->{part});"
        yield from self._acted(graph.outputs[0])
        yield "(void)sum; (void)top; (void)j;"
        yield "return outside;"

    def _name(self, tensor: str) -> str:
        """The C name of a tensor; a constant becomes a table."""
        if tensor not in self._names:
            name = self._names[tensor] = f"t{len(self._names)}"
            value = self._graph.values[tensor]
            numbers = _numbers(list(value.ravel()))
            kind = _KINDS.get(str(value.dtype), "int")
            self._tables.append(f"static const {kind} {name}[{value.size}] = {{{numbers}}};")
        return self._names[tensor]

    def _declared(self, tensor: str) -> str:
        self._names[tensor] = name = f"t{len(self._names)}"
        value = self._graph.values[tensor]
        return f"{_KINDS.get(str(value.dtype), 'int')} {name}[{value.size}];"

    def _moved(self, tensor: str, sources: Sequence[tuple[str, int]]) -> Iterator[str]:
        """Copies a tensor in as few loops as possible; not at all where it is the same."""
        first, start = sources[0]
        whole = [(first, index) for index in range(self._graph.values[first].size)]
        if list(sources) == whole and not first.startswith(("hidden", "cell")):
            self._names[tensor] = self._name(first)
            return
        yield self._declared(tensor)
        begin = 0
        for end in range(1, len(sources) + 1):
            first, start = sources[begin]
            if end == len(sources) or sources[end] != (first, start + end - begin):
                yield (
                    f"for (i = 0; i < {end - begin}; i++) "
                    f"{self._name(tensor)}[{begin} + i] = {self._name(first)}[{start} + i];"
                )
                begin = end

    def _observed(self) -> Iterator[str]:
        """Checks the observation, and brings it from its units to those of the network."""
        space: Any = self._described["observation"]
        parts = space["spaces"] if space["kind"] == "Dict" else {"": space}
        number = 0
        for key, part in parts.items():
            tensor = f"observation.{key}".rstrip(".")
            value = self._graph.values[tensor]
            yield self._declared(tensor)
            for index in range(value.size):
                field, channel = self._seen[number]
                number += 1
                seen = f"observation->{field}"
                yield f"if (!(fabs({seen}) <= {LARGEST!r})) return {number};"
                if channel["low"] is not None:
                    low, high = _number(channel["low"]), _number(channel["high"])
                    beyond = f"{seen} < {low} || {seen} > {high}"
                    yield f"if (!outside && ({beyond})) outside = -{number};"
                inner = _rescaled(seen, channel, part, index, inwards=True)
                kind = _KINDS.get(str(value.dtype), "int")
                yield f"{self._name(tensor)}[{index}] = ({kind})({inner});"

    def _acted(self, tensor: str) -> Iterator[str]:
        space: Any = self._described["action"]
        for index, (field, channel) in enumerate(self._done):
            done = f"{self._name(tensor)}[{index}]"
            if numeric(channel):
                numbers = _numbers(channel["values"] or [])
                yield f"{{ static const double values[] = {{{numbers}}};"
                yield f"  action->{field} = values[{done}]; }}"
            elif space["kind"] != "Box":
                yield f"action->{field} = {done};"
            else:
                value = _rescaled(done, channel, space, index, inwards=False)
                named: Any = (channel["low"], channel["high"])
                ends = sorted(_own(space, index) if channel["low"] is None else named)
                low, high = map(_number, ends)  # rounding may lead beyond them
                yield f"action->{field} = fmin(fmax({value}, {low}), {high});"


def _rescaled(value: str, channel: ChannelJson, space: Any, index: int, *, inwards: bool) -> str:
    """A value between its unit and the policy's own bounds, as ``act.py`` does it."""
    if space["kind"] != "Box" or channel["low"] is None:
        return value
    ends: Any = ([channel["low"], channel["high"]], _own(space, index))
    (a, b), (c, d) = ends if inwards else ends[::-1]
    if (a, b) == (c, d):
        return value
    return f"{_number(c)} + ({value} - {_number(a)}) / {_number(b - a)} * {_number(d - c)}"


def _own(space: Any, index: int) -> list[float]:
    """The bounds of a value in the policy's own space."""
    return [
        float(np.broadcast_to(np.array(space[end], float), shape_of(space)).ravel()[index])
        for end in ("low", "high")
    ]


def _fields(channels: Sequence[ChannelJson]) -> list[tuple[str, ChannelJson]]:
    """Channels with their C names, which differ from each other."""
    fields: list[tuple[str, ChannelJson]] = []
    taken = set(_WORDS.split())
    for channel in channels:
        name = re.sub(r"\W", "_", channel["name"], flags=re.ASCII)
        name = f"_{name}" if name[:1].isdigit() else name
        while name in taken:
            name += "_"
        taken.add(name)
        fields.append((name, channel))
    return fields


def _struct(kind: str, fields: Sequence[tuple[str, ChannelJson]]) -> str:
    lines = []
    for name, channel in fields:
        words = [channel["name"]] if name != channel["name"] else []
        words += [channel["unit"] or "no unit"]
        if channel["values"]:
            start = "one of " if numeric(channel) else "number of one of "
            words.append(start + ", ".join(map(str, channel["values"])))
        elif channel["low"] is not None:
            words.append(f"{channel['low']:g} to {channel['high']:g}")
        text = "; ".join(words).replace("*/", "* /")
        lines.append(f"    double {name}; /* {text} */\n")
    return f"typedef struct {{\n{''.join(lines)}}} policy_{kind};\n\n"


def numeric(channel: ChannelJson) -> bool:
    """Whether an action's values are numbers: a program writes these, and not their place."""
    return bool(channel["values"]) and all(
        isinstance(value, int | float) for value in channel["values"] or ()
    )


def _numbers(values: Sequence[Any]) -> str:
    """Numbers for a table; a compiler need not read lines of more than 4,095 characters."""
    texts = [_number(value) for value in values]
    return ",\n".join(",".join(texts[i : i + 16]) for i in range(0, len(texts), 16))


def _number(value: Any) -> str:
    """The shortest number that C reads as the same value of its type."""
    if isinstance(value, bool | int | np.bool_ | np.integer):
        return str(int(value))
    if np.isinf(value):
        return "HUGE_VAL" if value > 0 else "-HUGE_VAL"
    text = str(value) if isinstance(value, np.float32) else repr(float(value))
    return (
        text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") and text != "0.0" else text
    )
