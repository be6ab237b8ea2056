"""The last lines of a build, as `.ci/run` makes them: a full run, then what failed once more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import rules
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
TESTS = """
from pathlib import Path
import pytest

def test_good(): pass

def test_flaky():
    seen = Path("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError

def test_broken(): assert not Path("seen").exists() and False

@pytest.mark.skipif(True, reason="no npm here")
def test_azurite(): pass
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_process(
        [sys.executable, "-m", "pytest", "-q", *words],
        cwd=folder,
        more={"PYTHONPATH": rules.path(ROOT)},
    )


def test_what_was_skipped_and_what_is_flaky_is_said_last(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.helpers.summary import pytest_unconfigure\n")
    file = tmp_path / "test_some.py"
    file.write_text(TESTS)

    full = run(tmp_path, "-n", "2")
    assert full.returncode == 1
    assert full.stdout.rstrip().splitlines()[-2:] == [
        "Skipped on this machine:",
        "  1 x no npm here",
    ]

    again = run(tmp_path, "--last-failed")
    assert again.returncode == 1, "a test that fails twice breaks the build"
    assert again.stdout.rstrip().splitlines()[-2:] == [
        "Flaky: failed in the full run, passed when repeated alone:",
        "  test_some.py::test_flaky",
    ]

    file.write_text(TESTS.replace("assert not", "assert True or not"))
    fine = run(tmp_path, "--last-failed")
    assert fine.returncode == 0
    assert fine.stdout.rstrip().splitlines()[-1] == "  test_some.py::test_broken"
