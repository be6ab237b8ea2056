"""Expressions in files: interpreted as a tree, never evaluated as code.

Allowed: names, numbers, texts, ``True`` and ``False``; ``+ - * / // % **``, comparisons (also
chained), ``in`` a list, ``and or not``, brackets, ``a if b else c``, and the functions
``min max abs round log exp sqrt sin cos tanh``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue

MAX_LENGTH = 500
ALLOWED = "names, numbers, texts, + - * / // % **, comparisons, and, or, not, in, if else"
_MAX_POWER = 64
Operator = Callable[[Any, Any], Any]
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "round": round,
    "log": math.log,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tanh": math.tanh,
}
_BINARY: dict[type[ast.operator], Operator] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Operator] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


@dataclass(frozen=True)
class Expression:
    """An expression that was read and checked.

    Attributes:
        text: As it was written.
        names: What it reads.
    """

    text: str
    names: frozenset[str]
    _tree: ast.expr

    def value(self, given: Mapping[str, Json]) -> Any:
        """Computes the value.

        Args:
            given: Name -> value; all of ``names``.

        Raises:
            TypeError, ValueError, OverflowError, ZeroDivisionError: There is no answer for these
                values.
        """
        return _value(self._tree, given)


def read_expression(text: str, what: str, example: str) -> Expression:
    """Reads an expression.

    Args:
        text: The user's text.
        what: Its name in messages: ``condition``, ``reward``.
        example: A valid one, for the hint.

    Raises:
        BadValue: It is not an expression, or contains something that is not in the list above.
    """
    if len(text) > MAX_LENGTH:
        raise BadValue(
            "is too long",
            value=text[:60] + "…",
            allowed=f"{MAX_LENGTH} characters",
            hint=f"write several, for example `{example}`",
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise BadValue(
            f"is not a {what}: {reason}",
            value=text,
            allowed=ALLOWED,
            hint=f"for example `{example}`",
        ) from None
    names: set[str] = set()
    _check(tree, text, names, what)
    return Expression(text, frozenset(names), tree)


def _check(node: ast.expr, text: str, names: set[str], what: str) -> None:
    """Refuses what is not in the list; collects names."""
    match node:
        case ast.Name(id=name):
            names.add(name)
        case ast.Constant(value=value) if isinstance(value, bool | int | float | str):
            pass
        case ast.BinOp(left=left, op=op, right=right) if type(op) in (*_BINARY, ast.Pow):
            _check(left, text, names, what)
            _check(right, text, names, what)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            _check(operand, text, names, what)
        case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
            for part in values:
                _check(part, text, names, what)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARE for op in ops
        ):
            for part in (left, *others):
                _check(part, text, names, what)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            for part in (test, body, orelse):
                _check(part, text, names, what)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            for part in args:
                _check(part, text, names, what)
        case _:
            text_of_part = ast.unparse(node)
            hint = "compare with ==" if "=" in text_of_part else "leave it out"
            raise BadValue(
                f"contains {text_of_part!r}, which is not allowed in a {what}",
                value=text,
                allowed=ALLOWED,
                hint=hint,
            )


def _value(node: ast.expr, given: Mapping[str, Json]) -> Any:
    match node:
        case ast.Name(id=name):
            return given[name]
        case ast.Constant(value=value):
            return value
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left, given), _value(right, given)
            if abs(power) > _MAX_POWER:  # 9**9**9 would take forever
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
