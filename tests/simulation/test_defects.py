"""The defects that are put back still fit the product: what they replace exists."""

import inspect
import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.simulation import costs, defects
from tests.simulation.defects import DEFECTS
from tests.simulation.reach import OUTSIDE

ROOT = Path(__file__).parents[2]
PATCHES = [
    pytest.param(target, value, id=f"{name}: {target.rpartition('.')[2]}")
    for name, patches in DEFECTS.items()
    for target, value in patches()
]


@pytest.mark.parametrize(("target", "value"), PATCHES)
def test_a_defect_replaces_something_of_the_product_that_is_called_alike(target, value):
    """Otherwise it would be put back in name only, and an invariant could be blind unseen."""
    real = resolve_name(target)
    assert real is not value
    if not inspect.isroutine(real):
        assert type(real) is type(value)
        return
    given = inspect.signature(real).parameters.values()
    required = [p for p in given if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    args = [p.name for p in required if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = {p.name: p.name for p in required if p.kind is p.KEYWORD_ONLY}
    inspect.signature(value).bind(*args, **named)


def test_every_replacement_belongs_to_a_defect():
    written = {
        name
        for name, value in vars(defects).items()
        if inspect.isfunction(value) and value.__module__ == defects.__name__
    }
    text = inspect.getsource(defects)
    unused = {name for name in written if len(re.findall(rf"\b{name}\b", text)) < 2}
    assert unused == {"patches_of"}


def test_the_page_and_the_night_know_every_defect():
    page = (ROOT / "docs" / "contributing" / "simulation.md").read_text()
    table = page.partition("Defects put back")[2].partition("```text\n")[2].partition("```")[0]
    lines = table.splitlines()
    assert [n for n in DEFECTS if sum(line.startswith(f"{n} ") for line in lines) != 1] == []
    floor = re.search(r"^DEFECTS_FLOOR \?= (\d+)$", (ROOT / "Makefile").read_text(), re.M)
    assert floor is not None and 0 < int(floor[1]) <= len(DEFECTS)
    nightly = (ROOT / ".github" / "workflows" / "nightly.yml").read_text()
    assert "run: make defects" in nightly


def test_the_page_says_what_is_not_claimed_and_what_may_be_spent():
    page = (ROOT / "docs" / "contributing" / "simulation.md").read_text()
    assert [r for r in OUTSIDE.values() if r not in page] == []
    assert [path for path in OUTSIDE if not (ROOT / path).exists()] == []
    for kind in ("driver", "worker", "ticket"):
        row = re.search(rf"^\| requests of a {kind} \| (.+) \|$", page, re.M)
        figures = [n for n in costs.REQUESTS[kind] if n]
        assert row is not None and [int(n) for n in re.findall(r"\d+", row[1])] == figures
    assert f"| {costs.END_S:,.0f} s and twice the work |" in page and costs.END_WORK == 2
    assert f"| {costs.IDLE_S:.0f} s, and {costs.IDLE_TICKET_S:.0f} s for each ticket" in page
    assert f"is used up | {costs.LATE_S:.0f} s |" in page
