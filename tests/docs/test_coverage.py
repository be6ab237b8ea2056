"""Every command of the coverage table is run, literally, where a user would: beside the main job.

The table is docs/contributing/coverage.md.

The first of each kind gets a shell and a process of its own, as a user's does. The others of that
kind run in this process, which saves importing the same libraries a hundred times.

One that a page of the documents shows too is run by test_documents.py, and not twice.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers import documents as runner

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "contributing" / "coverage.md"
BACKENDS = ROOT / "backends" / "drillyard_backends"
CELL = re.compile(r"`(?P<command>[^`]+)`(?: \(exit (?P<code>\d+)\))?\Z")
PLACEHOLDER = re.compile(r"…|\b(?:FILE|NAME|URL|VENV|LEASE)\b|<\w+>")
BY_PYTEST = "python -m pytest "


@dataclass(frozen=True)
class Row:
    """One feature."""

    line: int
    feature: str
    cell: str
    tests: str

    @property
    def command(self) -> str:
        match = CELL.match(self.cell)
        return match["command"] if match else ""

    @property
    def code(self) -> int:
        match = CELL.match(self.cell)
        return int(match["code"] or 0) if match else 0


def rows() -> list[Row]:
    found = []
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        cells = [c.strip() for c in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and "tests/" in line:
            assert len(cells) == 3, f"coverage.md:{number}: a row has three cells"
            found.append(Row(number, *cells))
    return found


ROWS = rows()
OLDER = re.findall(r"(?m)^\| (\d+) \| (.+?) \| (.*?) ?\|$", PAGE.read_text())
"""(number, what, remark) of the list of what older systems did."""
SHOWN = {
    command.line
    for page in runner.pages(ROOT)
    for block in runner.blocks(page.read_text())
    if block.language == "console"
    for command in runner.commands(block.body)
}
RUN = {
    (r.command, r.code): r
    for r in reversed(ROWS)
    if not r.command.startswith(BY_PYTEST) and r.command not in SHOWN
}
COMMANDS = list(reversed(RUN))
"""In the page's order, each once."""
LONG = (
    "drillyard run experiments/comparison.yaml",
    "drillyard report comparison",
    "drillyard run experiments/corridor/corridor.yaml",
    "drillyard rehearse experiments/script.yaml",
)
"""How commands begin that compute for a quarter of a minute and more, or need one that does."""
LOOKS = (
    "drillyard check ",
    "drillyard explain ",
    "drillyard schema",
    "drillyard plan ",
    "drillyard list",
    "drillyard results ",
    "drillyard logs ",
    "drillyard cost",
    "find ",
    "ls ",
)
"""How commands begin that need no server, and leave everything as it was."""
FIRST = {
    next(c for c, n in COMMANDS if (c.split()[:2], n) == kind)
    for kind in [(command.split()[:2], code) for command, code in COMMANDS]
}
"""The first command of each kind: the same words in front, the same exit code."""


@pytest.mark.parametrize("row", ROWS, ids=lambda r: str(r.line))
def test_a_row_has_one_literal_command(row):
    assert CELL.match(row.cell), f"one command in backquotes, then perhaps `(exit 2)`: {row.cell}"
    assert not PLACEHOLDER.search(row.command), f"no placeholders: {row.command}"
    if row.command.startswith(BY_PYTEST):  # run by this suite, or the slow one: it must be there
        named = re.sub(r"^-m (slow|extended) ", "", row.command.removeprefix(BY_PYTEST))
        file, _, test = named.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).exists()


@pytest.mark.parametrize(
    "page", sorted(BACKENDS.rglob("ASSUMPTIONS.md")), ids=lambda p: p.parent.name
)
def test_the_tests_of_an_assumption_are_there(page):
    """A row whose test was removed would promise what nothing proves."""
    code = [p for part in ("tests", "src/drillyard/testing") for p in (ROOT / part).rglob("*.py")]
    there = {name for path in code for name in re.findall(r"def (test_\w+)", path.read_text())}
    named = re.findall(r"\b(test_\w+)\b(?![…/])", page.read_text())
    assert set(named) <= there | {path.stem for path in code}


def test_each_feature_has_one_row():
    """Git joins changes of this file line by line: a row that two changed would stay twice."""
    features = [re.sub(r"[^a-z ]", "", row.feature.lower()) for row in ROWS]
    starts = [feature[:60] for feature in features]
    assert [start for start in starts if starts.count(start) > 1] == []


def test_what_older_systems_did_is_shown_or_said_to_be_missing():
    """Each number of the list has a row or a remark, and `not there yet` has no row."""
    shown = {n for row in ROWS for n in re.findall(r"\d+", _numbers(row.feature))}
    listed = {n: remark for n, _, remark in OLDER}
    assert list(listed) == [str(n) for n in range(1, len(OLDER) + 1)]
    assert shown <= listed.keys()
    missing = {n for n, remark in listed.items() if remark.startswith("not there yet")}
    assert not shown & missing, "a row shows it now: empty its remark in the list"
    assert {n for n, remark in listed.items() if not remark} <= shown


def _numbers(feature: str) -> str:
    match = re.search(r"(?: \[[\d, ]+\])+\Z", feature)
    return match[0] if match else ""


@pytest.fixture(scope="module")
def workshop(finished_cstr, tmp_path_factory):
    """What lies in the repository's root after ``make demo``, as far as commands look at it."""
    folder = tmp_path_factory.mktemp("coverage")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    shutil.copytree(finished_cstr, folder / "drillyard-runs")
    return folder


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(*one, id=one[0], marks=pytest.mark.slow if one[0].startswith(LONG) else ())
        for one in COMMANDS
        if not one[0].startswith(LOOKS)
    ],
)
def test_a_command_of_the_page(command, code, workshop, server):
    """In the page's order: a later one may use what an earlier one made."""
    _runs(command, code, workshop)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("command", "code"),
    [pytest.param(*one, id=one[0]) for one in COMMANDS if one[0].startswith(LOOKS)],
)
def test_a_command_that_looks(command, code, workshop):
    _runs(command, code, workshop)


def _runs(command: str, code: int, workshop: Path) -> None:
    env = {"COLUMNS": "160", "HOME": os.environ["HOME"]}
    done = runner.run(command, workshop, env, shell=command in FIRST)
    said = done.stdout + done.stderr
    assert done.returncode == code, f"{command}\n{said}"
    assert said.strip() and "this is a bug in drillyard" not in said, said
    assert "Traceback" not in said, said
