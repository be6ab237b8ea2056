"""Each operator makes the mistake that it is named after, and no other."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.operators import OPERATORS, changes

CASES = {
    "comparison": [("x = a < b", "x = a <= b"), ("x = a is None", "x = a is not None")],
    "arithmetic": [("x = a + b", "x = a - b"), ("x += a", "x -= a"), ("x = -a", "x = a")],
    "boolean": [
        ("x = a and b", "x = a or b"),
        ("x = not a", "x = a"),
        ("if a:\n    x = b", "if not a:\n    x = b"),
        ("x = [y for y in z if y]", "x = [y for y in z if not y]"),
    ],
    "constant": [("x = 3", "x = 4"), ("x = True", "x = False"), ("x = 0.5", "x = 1.5")],
    "removed": [("f(a)", "pass"), ("x.y = a", "pass"), ("raise a", "pass"), ("del x", "pass")],
    "swapped": [("x = f(a, b, c)", "x = f(b, a, c)")],
    "return None": [("def f():\n    return a", "def f():\n    return None")],
    "dropped except": [
        ("try:\n    x = a\nexcept E:\n    x = b", "try:\n    x = a\nexcept ():\n    x = b"),
        ("with suppress(E):\n    x = a", "with suppress():\n    x = a"),
    ],
}


@pytest.mark.parametrize(
    ("operator", "source", "mutant"),
    [(name, *case) for name, cases in CASES.items() for case in cases],
)
def test_an_operator(operator: str, source: str, mutant: str) -> None:
    made = [ast.unparse(ast.parse(c.source)) for c in changes(source) if c.operator == operator]
    assert made == [mutant]


def test_each_operator_has_a_case() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""\nx = "a"\ny = f"{a + 1}"\nz = "a" + b',
        "log.info('%d', 3)\nlogging.getLogger(__name__)",
        "x: Annotated[int, 3]\ndef f(a: Literal[3]) -> Literal[4]: ...",
        "if TYPE_CHECKING:\n    x = 3",
    ],
)
def test_texts_logs_and_annotations_are_left_alone(source: str) -> None:
    assert [c.after for c in changes(source)] == []


def test_functions_with_decorators_and_their_arguments_are_included() -> None:
    made = changes("class A:\n    @cached(3)\n    def f(self, a=1):\n        return a\n")
    names = [(c.function, c.runs, c.operator, c.after) for c in made]
    assert ("A.f", True, "return None", "None") in names
    assert ("A", False, "constant", "4") in names and ("A", False, "constant", "2") in names


def test_other_lines_keep_their_numbers_and_columns_are_of_bytes() -> None:
    source = 'x = "ü", f(\n    a,\n    b,\n) + 1\ng(\n    a\n)\nlast = a\n'
    for made in changes(source):
        assert made.source.splitlines()[-1] == "last = a"
        ast.parse(made.source)
    assert "pass" in {made.after for made in changes(source)}


def test_the_lines_that_lead_to_a_mistake() -> None:
    lines = {
        c.after: c.lines for c in changes("if (\n    a\n    and b == c\n):\n    f(\n        3)\n")
    }
    assert lines["b != c"] == (1, 3)
    assert lines["4"] == (5, 6)
