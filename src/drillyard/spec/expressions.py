"""Expressions in files: read as a tree, never evaluated as code.

Allowed: names, numbers, texts, ``True`` and ``False``; ``+ - * / // % **``, comparisons (also
chained), ``in`` a list, ``and or not``, brackets, ``a if b else c``, and the functions
``min max abs round log exp sqrt sin cos tanh``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue

MAX_LENGTH = 500
ALLOWED = "names, numbers, texts, + - * / // % **, comparisons, and, or, not, in, if else"
_MAX_POWER = 64
Operator = Callable[[Any, Any], Any]
Compute = Callable[[Mapping[str, Json]], Any]
"""Gives the value of a part for the values of the names."""
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


def _power(base: Any, power: Any) -> Any:
    if abs(power) > _MAX_POWER:  # 9**9**9 would take forever
        raise OverflowError(f"the power {power} is above {_MAX_POWER}")
    return base**power


def _of_numbers(compute: Operator) -> Operator:
    def computed(a: Any, b: Any) -> Any:
        if isinstance(a, str) or isinstance(b, str):
            raise TypeError("texts can only be compared")
        return compute(a, b)

    return computed


_BINARY: dict[type[ast.operator], Operator] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
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
    _compute: Compute = field(compare=False, repr=False)

    def value(self, given: Mapping[str, Json]) -> Any:
        """Computes the value.

        Args:
            given: Name -> value; all of ``names``.

        Raises:
            TypeError, ValueError, OverflowError, ZeroDivisionError: There is no answer for these
                values.
        """
        return self._compute(given)


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
    compute = _compiled(tree, text, names, what)
    return Expression(text, frozenset(names), compute)


def _compiled(node: ast.expr, text: str, names: set[str], what: str) -> Compute:
    """The function of a part; collects names, and refuses what is not in the list."""

    def inner(part: ast.expr) -> Compute:
        return _compiled(part, text, names, what)

    match node:
        case ast.Name(id=name):
            names.add(name)
            return operator.itemgetter(name)
        case ast.Constant(value=value) if isinstance(value, bool | int | float | str):
            return lambda given: value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            first, second, binary = inner(left), inner(right), _BINARY[type(op)]
            return lambda given: binary(first(given), second(given))
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            only, unary = inner(operand), _UNARY[type(sign)]
            return lambda given: unary(only(given))
        case ast.BoolOp(op=word, values=values):
            parts, joined = [*map(inner, values)], all if isinstance(word, ast.And) else any
            return lambda given: joined(part(given) for part in parts)
        case ast.List(elts=values) | ast.Tuple(elts=values):
            items = [*map(inner, values)]
            return lambda given: [item(given) for item in items]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARE for op in ops
        ):
            return _chain([_COMPARE[type(op)] for op in ops], [*map(inner, (left, *others))])
        case ast.IfExp(test=test, body=body, orelse=orelse):
            condition, then, other = inner(test), inner(body), inner(orelse)
            return lambda given: (then if condition(given) else other)(given)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            arguments, function = [*map(inner, args)], _FUNCTIONS[name]
            return lambda given: function(*(each(given) for each in arguments))
    unparsed = ast.unparse(node)
    raise BadValue(
        f"contains {unparsed!r}, which is not allowed in a {what}",
        value=text,
        allowed=ALLOWED,
        hint="compare with ==" if "=" in unparsed else "leave it out",
    )


def _chain(signs: Sequence[Operator], operands: Sequence[Compute]) -> Compute:
    """``a < b <= c``, which computes no more operands than it needs."""

    def holds(given: Mapping[str, Json]) -> bool:
        before = operands[0](given)
        for sign, operand in zip(signs, operands[1:], strict=True):
            now = operand(given)
            if not sign(before, now):
                return False
            before = now
        return True

    return holds
