"""Every command, experiment and link in README and docs is tried."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers import documents as runner
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
DOCUMENTS = runner.pages(ROOT)
"""What users read."""
FOR_CONTRIBUTORS = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/contributing").rglob("*.md"))]
"""Their links are tried; the commands are those of test_coverage.py."""
GO_ON = {"answers.md": "studies.md"}
"""Page -> the page that it goes on with, in the same folder: nothing is made twice."""
PAGES = [
    [page, *(other for other in DOCUMENTS if GO_ON.get(other.name) == page.name)]
    for page in DOCUMENTS
    if page.name not in GO_ON
]
LONG = ("opc-ua.md", "own-flow.md", "python.md", "rehearse.md", "studies.md", "tutorial.md")
"""Pages whose commands train for minutes of a core, and whose features have tests of their own."""
NEEDS = {"energyplus.md": "pyenergyplus", "opc-ua.md": "asyncua"}
"""Page -> a package that it needs and that not every environment of developers has."""
# `make …` is what runs these tests: running it from here would never end.
ELSEWHERE = {
    "make demo": ".ci/run and a fresh clone",
    "make test": "this very run",
    "make slow": "CI, each night",
    "make check": ".ci/run",
    "make audit": ".ci/run",
    "make sbom": "tests/supply_chain",
}


def test_there_are_documents():
    assert len(DOCUMENTS) > 5


def test_the_long_tests_run_each_night():
    planned = (ROOT / ".github/workflows/nightly.yml").read_text()
    assert "schedule:" in planned and "target: [extended, slow]" in planned
    assert "make ${{ matrix.target }}" in planned


def test_the_build_runs_the_test_command_of_the_readme():
    """What the README tells you to run is what the build runs, and both commands exist."""
    named = re.findall(r"^\| `(make \w+)` \|", (ROOT / "README.md").read_text(), re.M)
    assert named == ["make demo", "make test"]
    build = (ROOT / ".ci/run").read_text().splitlines()
    assert any(re.split(r"\s*(?:\|\||&&|;)\s*", line)[0] == named[1] for line in build)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {name.removeprefix("make ") for name in named} <= set(targets)


def test_every_page_for_contributors_is_listed():
    """CONTRIBUTING.md leads to the folder, and its list to each page and each decision."""
    folder = ROOT / "docs" / "contributing"
    for index in (folder / "README.md", folder / "decisions" / "README.md"):
        listed = {(index.parent / target).resolve() for target in runner.links(index.read_text())}
        assert {p for p in index.parent.glob("*.md") if p != index} <= listed, index
    assert "docs/contributing/README.md" in runner.links((ROOT / "CONTRIBUTING.md").read_text())


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, *FOR_CONTRIBUTORS], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_lead_somewhere(document):
    for target in runner.links(document.read_text()):
        assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.heavy
@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(pages, marks=pytest.mark.slow if pages[0].name in LONG else ())
        for pages in PAGES
    ],
    ids=lambda pages: "+".join(p.name for p in pages),
)
def test_what_is_documented_works(pages, finished_cstr, server, tmp_path):
    for document in pages:
        if document.name in NEEDS:
            pytest.importorskip(NEEDS[document.name])
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    shutil.copytree(finished_cstr, tmp_path / "drillyard-runs")
    for document in pages:
        _works(document, tmp_path)


def _works(document: Path, folder: Path) -> None:
    text = document.read_text()
    for block in runner.blocks(text):
        where = f"{document.name}:{block.line}"
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body)
        if block.language == "console":
            for command in runner.commands(block.body):
                if command.line in ELSEWHERE:
                    continue
                done = runner.run(command.line, folder, {"COLUMNS": "160"})
                output = done.stdout + done.stderr
                assert "Traceback" not in output, f"{where}: {command.line}\n{output}"
                lost = runner.missing(command.expected, output)
                assert lost is None, f"{where}: {command.line}\nnot seen: {lost}\n{output}"
                said = any(line.startswith("exit code") for line in command.expected)
                assert done.returncode == 0 or said, f"{where}: {command.line}\n{output}"
        elif block.language == "yaml" and block.body.startswith("schema:"):
            path = folder / "experiments" / "documented.yaml"
            path.write_text(block.body)
            done = runner.run(f"drillyard explain {path} --json", folder, {})
            assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"
            path.unlink()
        elif block.language == "python" and not block.file:
            done = run_process([sys.executable, "-c", block.body], cwd=folder)
            assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"


def test_coverage_table_names_tests_that_exist():
    """A row is ``| feature | command | tests/file.py::test |``."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in (ROOT / "docs" / "contributing" / "coverage.md").read_text().splitlines()
        if line.startswith("|") and "tests/" in line
    ]
    assert rows
    for row in rows:
        for name in row[-1].replace("`", "").split(","):
            file, _, test = name.strip().partition("::")
            source = ROOT / file
            assert source.exists(), name
            assert not test or test.split("[")[0].split("::")[-1] in source.read_text(), name
