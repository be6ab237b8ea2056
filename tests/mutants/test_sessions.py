"""A mistake is seen by the tests and their children, and the checkout stays as it is."""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.mutants.drawing import ROOT, Mutant, Place, find
from tests.mutants.reach import Reach
from tests.mutants.running import Results, Runner

pytestmark = pytest.mark.heavy
KEYS = "tests/unit/mailbox/test_files.py"
SEES = f"{KEYS}::test_an_allowed_name_is_its_own_key[a.b]"
BLIND = f"{KEYS}::test_two_names_have_two_keys"
PROGRAM = "from drillyard.mailbox.keys import decoded; assert decoded('a') == 'a'"
IN_A_CHILD = f"""
import subprocess, sys

def test_it():
    subprocess.run([sys.executable, "-c", {PROGRAM!r}], check=True)
"""


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    results = Results(tmp_path_factory.mktemp("mutants") / "results.jsonl")
    return Runner(find(packages=["mailbox"]), results, 2)


@pytest.fixture(scope="module")
def mutant(runner: Runner) -> Mutant:
    """``decoded`` returns None."""
    return next(m for m in runner.found if m.function == "decoded" and m.after == "None")


def test_it_is_killed_by_a_test_that_sees_it_and_by_no_other(
    runner: Runner, mutant: Mutant
) -> None:
    status = ["git", "status", "--porcelain", "--", "src", "backends", "flows", "tasks"]
    before = subprocess.check_output(status, cwd=ROOT)
    seconds = {BLIND: 0.5, SEES: 1.0}
    assert runner.tests(None, "quick", [BLIND, SEES], Reach(seconds, {})) == ("survived", None)
    place = runner.found[mutant]
    line = place.change.lines[0]
    blind = Reach({BLIND: 0.5}, {place.file: {line: {BLIND}}})
    runner.layer("quick", [mutant], blind, 0)
    assert runner.results.known["quick"][mutant.id]["result"] == "survived"
    both = Reach(seconds, {place.file: {line: {BLIND, SEES}}})
    runner.layer("test", [mutant], both, 0)
    assert runner.results.known["test"][mutant.id]["by"] == SEES
    assert runner.results.dead(mutant)
    assert subprocess.check_output(status, cwd=ROOT) == before


def test_what_is_known_is_not_run_again(runner: Runner, mutant: Mutant, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.add(mutant, "quick", "survived")
    after = Runner(runner.found, Results(results.path), 1)
    after.layer("quick", [mutant], Reach({}, {}), 0)
    assert after.results.known["quick"][mutant.id]["result"] == "survived"


def test_children_see_it(runner: Runner, mutant: Mutant) -> None:
    (ROOT / "build").mkdir(exist_ok=True)  # names of tests outside of the checkout are odd
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        file = Path(folder, "test_child.py")
        file.write_text(IN_A_CHILD)
        name = f"{file.relative_to(ROOT)}::test_it"
        order = {"do": "tests", "tests": [name], "limits": [60], "given": ["-p", "tests.conftest"]}
        assert runner.session(None, 120, **order) == ("survived", None)
        assert runner.session(mutant, 120, **order) == ("killed", name)


def test_one_that_cannot_be_imported_is_told_from_others(runner: Runner, mutant: Mutant) -> None:
    place = runner.found[mutant]
    broken = dataclasses.replace(mutant, after="nothing")
    change = dataclasses.replace(place.change, source="import no_such_module")
    own = Runner({**runner.found, broken: Place(place.file, change)}, runner.results, 2)
    assert own.importable([mutant, broken]) == [True, False]
