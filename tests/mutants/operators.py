"""The mistakes that can be put into a source: one ``Change`` each."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
REMOVED = (ast.AugAssign, ast.Delete, ast.Raise, ast.Continue, ast.Break, ast.Assert)
LOGS = ("log", "logger", "logging", "warnings")
Place = tuple[ast.AST, str]
"""What is replaced, and by which text."""


@dataclass(frozen=True)
class Change:
    """One mistake in one source.

    Attributes:
        function: Qualified name of the function, or the class; empty in a module's body.
        runs: Whether it runs when a function is called; otherwise, when the module is imported.
        statement: The statement, or the head of a compound one, whatever its layout.
        operator: The kind of mistake.
        before: What is replaced.
        after: What replaces it.
        lines: The first and the last line of the source that lead to it.
        source: The source with the mistake; other lines keep their numbers.
    """

    function: str
    runs: bool
    statement: str
    operator: str
    before: str
    after: str
    lines: tuple[int, int]
    source: str


def _with(node: ast.AST, **fields: object) -> str:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return ast.unparse(new)


def _comparison(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, ast.Compare):
        for n, kind in enumerate(node.ops):
            ops = [*node.ops[:n], COMPARED[type(kind)](), *node.ops[n + 1 :]]
            yield node, _with(node, ops=ops)


def _arithmetic(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        sides = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
        if not any(_text(side) for side in sides):
            yield node, _with(node, op=COMPUTED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node, ast.unparse(node.operand)


def _boolean(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, ast.BoolOp):
        yield node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, ast.unparse(node.operand)
    tests = [node.test] if isinstance(node, (ast.If, ast.While, ast.IfExp)) else []
    for test in [*tests, *(node.ifs if isinstance(node, ast.comprehension) else [])]:
        inverted = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        if not inverted and not isinstance(test, (ast.Compare, ast.BoolOp, ast.Constant)):
            yield test, ast.unparse(ast.UnaryOp(ast.Not(), test))


def _constant(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        boolean = isinstance(node.value, bool)
        yield node, repr(not node.value if boolean else node.value + 1)


def _removed(node: ast.AST) -> Iterator[Place]:
    called = isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await))
    kept = isinstance(node, ast.Assign) and not isinstance(node.targets[0], (ast.Name, ast.Tuple))
    if called or kept or isinstance(node, REMOVED):
        yield node, "pass"


def _swapped(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, ast.Call) and len(node.args) > 1:
        one, other, *rest = node.args
        starred = any(isinstance(given, ast.Starred) for given in (one, other))
        if not starred and ast.unparse(one) != ast.unparse(other):
            yield node, _with(node, args=[other, one, *rest])


def _returned(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
        yield node.value, "None"


def _dropped(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, ast.ExceptHandler) and node.type:
        yield node.type, "()"
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") and node.args:
        yield node, f"{ast.unparse(node.func)}()"


OPERATORS: dict[str, Callable[[ast.AST], Iterator[Place]]] = {
    "comparison": _comparison,
    "arithmetic": _arithmetic,
    "boolean": _boolean,
    "constant": _constant,
    "removed": _removed,
    "swapped": _swapped,
    "return None": _returned,
    "dropped except": _dropped,
}


def changes(source: str) -> list[Change]:
    """All mistakes that can be put into a source, in its order.

    Args:
        source: Of a module.
    """
    return list(_Finder(source).visit(ast.parse(source), "", False, ""))


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    )


def _left_out(node: ast.AST) -> bool:
    """Texts, logs, and what only a type checker reads."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    call = node.value if isinstance(node, ast.Expr) else node
    if isinstance(call, ast.Call):
        return ast.unparse(call.func).split(".")[0] in LOGS
    return _text(node)


class _Finder:
    def __init__(self, source: str) -> None:
        self._bytes = source.encode()
        self._starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def visit(self, node: ast.AST, function: str, runs: bool, head: str) -> Iterator[Change]:
        if _left_out(node):
            return
        if isinstance(node, (ast.stmt, ast.ExceptHandler)):
            self._line, head = node.lineno, _head(node)
        for name, operator in OPERATORS.items():
            for place, text in operator(node):
                yield self._change(function, runs, head, name, place, text)
        defined = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "type_comment"):
                continue
            inner, within = function, runs
            if defined and field == "body":
                inner = f"{function}.{node.name}".lstrip(".")  # type: ignore[attr-defined]
                within = not isinstance(node, ast.ClassDef)
            line = getattr(self, "_line", 0)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.visit(child, inner, within, head)
                    self._line = line

    def _change(
        self, function: str, runs: bool, head: str, operator: str, place: ast.AST, text: str
    ) -> Change:
        assert isinstance(place, (ast.expr, ast.stmt)) and place.end_lineno is not None
        start = self._starts[place.lineno - 1] + place.col_offset
        end = self._starts[place.end_lineno - 1] + (place.end_col_offset or 0)
        gap = "\n" * (place.end_lineno - place.lineno)
        new = f"({text}{gap})" if isinstance(place, ast.expr) else text + gap
        whole = self._bytes[:start] + new.encode() + self._bytes[end:]
        lines = min(self._line, place.lineno), place.end_lineno
        before = ast.unparse(place)
        return Change(function, runs, head, operator, before, text, lines, whole.decode())


def _head(node: ast.stmt | ast.ExceptHandler) -> str:
    """A statement, or what comes before the block of a compound one."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return f"def {node.name}"
    text = ast.unparse(node)
    return text.split("\n")[0] if hasattr(node, "body") else text
