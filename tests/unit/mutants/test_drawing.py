"""What is drawn, what is found again, and what is kept."""

from __future__ import annotations

from pathlib import Path

from tests.mutants import report
from tests.mutants.drawing import Mutant, again, draw, find, order
from tests.mutants.reach import Reach
from tests.mutants.running import Results

SOURCE = """
LIMIT = 3

def first(a, b):
    if a < b:
        return a
    return a + b

def second(a):
    return a < 1
"""


def checkout(root: Path, source: str = SOURCE, name: str = "one.py") -> Path:
    folder = root / "src" / "drillyard" / "mailbox"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source)
    return root


def usable(mutants: list[Mutant]) -> list[bool]:
    return [True for _ in mutants]


def test_the_same_seed_draws_the_same_and_another_one_does_not(tmp_path: Path) -> None:
    found = find(checkout(tmp_path), ["mailbox"])
    assert draw(5, order(found, "abc"), usable) == draw(5, order(found, "abc"), usable)
    assert order(found, "abc") != order(found, "abd")
    assert len({m.id for m in found}) == len(found) == 8


def test_what_cannot_be_imported_is_not_counted(tmp_path: Path) -> None:
    found = find(checkout(tmp_path), ["mailbox"])
    drawn = draw(5, order(found, "1"), lambda some: [m.operator != "constant" for m in some])
    assert len(drawn) == 5 and "constant" not in {m.operator for m in drawn}


def test_a_mutant_is_found_again_in_another_place(tmp_path: Path) -> None:
    drawn = order(find(checkout(tmp_path / "old"), ["mailbox"]), "1")
    moved = SOURCE.replace("return a + b", "return (\n        a + b\n    )").replace(
        "LIMIT = 3", ""
    )
    found = find(checkout(tmp_path / "new", f"import os\n\n{moved}", "two.py"), ["mailbox"])
    kept = again(drawn, found, "1", usable)
    assert {m.statement for m in drawn if m not in kept} == {"LIMIT = 3"}


def test_what_is_gone_is_replaced_by_as_many_of_its_package(tmp_path: Path) -> None:
    drawn = [m for m in find(checkout(tmp_path), ["mailbox"]) if m.function == "first"]
    renamed = SOURCE.replace("first", "third")
    found = find(checkout(tmp_path, renamed), ["mailbox"])
    kept = again(drawn, found, "1", usable)
    assert len(kept) == len(set(kept)) == len(drawn)
    assert not set(kept) & set(drawn) and kept == again(drawn, found, "1", usable)


def test_equal_statements_are_told_apart(tmp_path: Path) -> None:
    source = "def f(a):\n    g(a)\n    g(a)\n"
    found = find(checkout(tmp_path, source), ["mailbox"])
    assert [(m.operator, m.nth) for m in found] == [("removed", 0), ("removed", 1)]


def test_only_tests_that_reach_the_line_shortest_first(tmp_path: Path) -> None:
    found = find(checkout(tmp_path), ["mailbox"])
    lines = {5: {"long", "short"}, 7: {"long"}, 10: {"other"}}
    files = {"src/drillyard/mailbox/one.py": lines}
    reach = Reach({"long": 2.0, "short": 1.0, "other": 3.0}, files)
    tests = {(m.function, m.operator): reach.tests(place) for m, place in found.items()}
    assert tests["first", "comparison"] == ["short", "long"]
    assert tests["first", "arithmetic"] == ["long"]
    assert tests["", "constant"] == ["short", "long", "other"], "it runs at the import"


def test_results_survive_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    one, two, *_ = find(checkout(tmp_path), ["mailbox"])
    results = Results(tmp_path / "results.jsonl")
    results.add(one, "import", "survived")
    results.add(one, "quick", "killed", "a test")
    with open(results.path, "a") as file:
        file.write('{"id": "' + two.id)
    for _ in range(2):
        after = Results(results.path)
        assert after.importable == {one.id: True} and after.dead(one) and not after.dead(two)
        after.add(two, "quick", "survived")
    assert Results(results.path).known["quick"].keys() == {one.id, two.id}


def test_a_draw_with_its_results_is_kept_and_read(tmp_path: Path) -> None:
    one, two, three, *_ = find(checkout(tmp_path), ["mailbox"])
    results = Results(tmp_path / "results.jsonl")
    results.add(one, "quick", "hung")
    results.add(two, "quick", "unreached")
    report.save(tmp_path / "kept.json", {"seed": "1"}, [one, two, three], results)
    head, kept = report.load(tmp_path / "kept.json")
    assert head == {"seed": "1"}
    assert kept == {one: {"quick": "hung"}, two: {"quick": "unreached"}, three: {}}
    later = Results(tmp_path / "later.jsonl")
    later.take(kept)
    assert later.dead(one) and not later.dead(two)
    assert later.importable[three.id] and three.id not in later.known["quick"]
    rows = [row for row in report.table(kept).splitlines() if row.startswith("| mailbox")]
    assert rows[0].startswith("| mailbox | 3 | 1 of 2 | 0 of 0 | 0 of 0 |")
    assert rows[0].endswith("| 0, 2 pending |")


def test_the_share_of_those_that_were_tried_stands_for_all() -> None:
    said = [{"quick": "killed"}] * 50 + [{"quick": "survived", "test": "killed"}] * 10
    over = [*said, *[{"quick": "survived", "test": "survived", "simulation": "survived"}] * 40]
    assert report.estimate(over) == (0.6, 0.6, 0.6)
    low, share, high = report.estimate([*over, *[{"quick": "survived"}] * 50])
    assert 0.33 < low < share < high < 1
