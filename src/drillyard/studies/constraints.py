"""Constraints between tunables: expressions that are walked as a tree, never evaluated as code.

Allowed: names of tunables, numbers, texts, ``True`` and ``False``; ``+ - * / // % **``,
comparisons (also chained), ``in`` a list, ``and or not``, brackets, ``a if b else c``, and the
functions ``min max abs round log sqrt``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drillyard.errors import BadValue, ConfigError
from drillyard.registry import nearest

MAX_LENGTH = 500
_MAX_POWER = 64
_ALLOWED = "names of tunables, numbers, texts, + - * / // % **, comparisons, and, or, not, in"
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min, "max": max, "abs": abs, "round": round, "log": math.log, "sqrt": math.sqrt,
}  # fmt: skip
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip


@dataclass(frozen=True)
class Constraint:
    """A condition on an assignment.

    Attributes:
        text: As it was written.
        names: Tunables that it reads.
    """

    text: str
    names: frozenset[str]
    _tree: ast.expr

    def holds(self, assignment: Mapping[str, Any]) -> bool:
        """Is it fulfilled?

        Args:
            assignment: Name -> value; all of ``names``.

        Raises:
            ConfigError: It cannot be computed for these values (a text plus a number).
        """
        try:
            return bool(_value(self._tree, assignment))
        except ZeroDivisionError:
            return False
        except (TypeError, ValueError, OverflowError) as error:
            read = {name: assignment[name] for name in sorted(self.names)}
            raise ConfigError(
                f"cannot be computed for {read}: {error}", field="study.constraints",
                value=self.text, allowed="a condition that every assignment has an answer to",
                hint="compare numbers with numbers and texts with texts",
            ) from None  # fmt: skip


def parse(text: str) -> Constraint:
    """Read a condition.

    Raises:
        BadValue: It is none, or holds more than names, numbers and comparisons.
    """
    if len(text) > MAX_LENGTH:
        raise BadValue("is too long", value=text[:60] + "…", allowed=f"{MAX_LENGTH} characters",
                       hint="write several constraints")  # fmt: skip
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise BadValue(f"is no condition: {said}", value=text, allowed=_ALLOWED,
                       hint="for example `n_steps % batch == 0`") from None  # fmt: skip
    names: set[str] = set()
    _check(tree, text, names)
    if not names:
        raise BadValue("names no tunable", value=text, allowed=_ALLOWED,
                       hint="it would hold always or never: delete it")  # fmt: skip
    return Constraint(text, frozenset(names), tree)


def parse_all(texts: Sequence[str], known: Sequence[str]) -> list[Constraint]:
    """Read conditions on known tunables.

    Args:
        texts: The conditions.
        known: Names of the active tunables.

    Raises:
        ConfigError: One names something else.
    """
    found = []
    for number, text in enumerate(texts):
        constraint = parse(text)
        for name in sorted(constraint.names - set(known)):
            raise ConfigError(
                f"{name!r} is no active tunable", field=f"study.constraints[{number}]",
                value=text, allowed=", ".join(sorted(known)) or "no tunable is active",
                hint=nearest(name, sorted(known)),
            )  # fmt: skip
        found.append(constraint)
    return found


def _check(node: ast.expr, text: str, names: set[str]) -> None:
    """Refuse what is not on the list; collects names."""
    match node:
        case ast.Name(id=name):
            names.add(name)
        case ast.Constant(value=value) if isinstance(value, bool | int | float | str):
            pass
        case ast.BinOp(left=left, op=op, right=right) if type(op) in (*_BINARY, ast.Pow):
            _check(left, text, names)
            _check(right, text, names)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            _check(operand, text, names)
        case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
            for part in values:
                _check(part, text, names)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARE for op in ops
        ):
            for part in (left, *others):
                _check(part, text, names)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            for part in (test, body, orelse):
                _check(part, text, names)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            for part in args:
                _check(part, text, names)
        case _:
            shown = ast.unparse(node)
            hint = "compare with ==" if "=" in shown else "leave it out"
            raise BadValue(f"holds {shown!r}, which no condition may", value=text,
                           allowed=_ALLOWED, hint=hint)  # fmt: skip


def _value(node: ast.expr, given: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return given[name]
        case ast.Constant(value=value):
            return value
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left, given), _value(right, given)
            if abs(power) > _MAX_POWER:  # 9**9**9 would take for ever
                raise OverflowError(f"the power {power} is above {_MAX_POWER}")
            return base**power
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _value(left, given), _value(right, given)
            if isinstance(a, str) or isinstance(b, str):
                raise TypeError("texts can only be compared")
            return _BINARY[type(op)](a, b)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, given)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, given)
        case ast.UnaryOp(operand=operand):
            return +_value(operand, given)
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(v, given) for v in values)
        case ast.BoolOp(values=values):
            return any(_value(v, given) for v in values)
        case ast.List(elts=values) | ast.Tuple(elts=values):
            return [_value(v, given) for v in values]
        case ast.Compare(left=left, ops=ops, comparators=others):
            before = _value(left, given)
            for sign, other in zip(ops, others, strict=True):
                now = _value(other, given)
                if not _COMPARE[type(sign)](before, now):
                    return False
                before = now
            return True
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _value(test, given) else orelse, given)
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_value(a, given) for a in args))
    raise AssertionError(f"unchecked {node!r}")
