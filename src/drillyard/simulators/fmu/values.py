"""Reads and writes variables of a running model, those of one type in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drillyard.simulators.fmu.description import Variable

_TWO = {"Real": ctypes.c_double, "Integer": ctypes.c_int, "Boolean": ctypes.c_int}
_THREE = {
    "Float64": ctypes.c_double,
    "Float32": ctypes.c_float,
    "Boolean": ctypes.c_bool,
    **{f"Int{bits}": getattr(ctypes, f"c_int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UInt{bits}": getattr(ctypes, f"c_uint{bits}") for bits in (8, 16, 32, 64)},
}


class _Group:
    """The variables of one type, and one buffer for all of their elements.

    Args:
        fmu: FMPy's object.
        version: 2 or 3.
        type_name: The type in the names of FMI's functions.
        variables: What is read or written; of arrays, the elements.
    """

    def __init__(
        self, fmu: Any, version: int, type_name: str, variables: Sequence[Variable]
    ) -> None:
        sizes = {v.reference: v.size for v in variables}
        offsets, total = {}, 0
        for reference, size in sizes.items():
            offsets[reference] = total
            total += size
        self.places = [offsets[v.reference] + v.element for v in variables]
        self.in_order = self.places == list(range(total))
        self.whole = sorted(self.places) == list(range(total))
        types: Mapping[str, Any] = _TWO if version == 2 else _THREE
        self.buffer = (types[type_name] * total)()
        self.whole_numbers = type_name not in ("Real", "Float64", "Float32")
        references = (ctypes.c_uint * len(sizes))(*sizes)
        args: tuple[Any, ...] = (fmu.component, references, len(sizes), self.buffer)
        self._args = args if version == 2 else (*args, total)
        self._get: Callable[..., int] = getattr(fmu, f"fmi{version}Get{type_name}")
        self._set: Callable[..., int] = getattr(fmu, f"fmi{version}Set{type_name}")

    def get(self) -> None:
        self._get(*self._args)

    def set(self) -> None:
        self._set(*self._args)


class Values:
    """Some variables of one running model, in a fixed order.

    Args:
        fmu: FMPy's object, instantiated.
        version: 2 or 3.
        variables: Numbers of the model.
    """

    def __init__(self, fmu: Any, version: int, variables: Sequence[Variable]) -> None:
        by_type: dict[str, list[int]] = {}
        for position, variable in enumerate(variables):
            by_type.setdefault(_type(version, variable), []).append(position)
        self._size = len(variables)
        self._groups = [
            (_Group(fmu, version, name, [variables[p] for p in positions]), positions)
            for name, positions in by_type.items()
        ]
        only = self._groups[0][0] if len(self._groups) == 1 else None
        self._only = only if only is not None and only.in_order else None

    def read(self) -> list[float]:
        """The values now."""
        if self._only is not None:  # the usual case, and the fastest
            self._only.get()
            return list(self._only.buffer)
        values = [0.0] * self._size
        for group, positions in self._groups:
            group.get()
            for position, place in zip(positions, group.places, strict=True):
                values[position] = group.buffer[place]
        return values

    def write(self, values: Sequence[float]) -> None:
        """Sets them."""
        for group, positions in self._groups:
            if not group.whole:
                group.get()  # the other elements of the arrays stay as they are
            for position, place in zip(positions, group.places, strict=True):
                value = values[position]
                group.buffer[place] = round(value) if group.whole_numbers else value
            group.set()


def _type(version: int, variable: Variable) -> str:
    """The type in the names of FMI's functions; an enumeration is a whole number."""
    whole = {2: "Integer", 3: "Int64"}[version]
    return whole if variable.type == "Enumeration" else variable.type
