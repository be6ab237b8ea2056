"""`make stress` finds tests that fail now and then."""

import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers import extended, rules, stress
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
TESTS = f"""
import pathlib, psutil

def test_it_fails_at_its_third_time(tmp_path):
    count = pathlib.Path("count")
    count.write_text((count.read_text() if count.exists() else "") + "x")
    assert len(count.read_text()) != 3, "the third time"

def test_it_never_fails_beside_the_busy_processes():
    beside = [c.cmdline() for c in psutil.Process().children()]
    assert sum({stress.BUSY!r} in words for words in beside) == {stress.BUSY_PROCESSES}
"""


@pytest.mark.heavy
def test_a_test_that_fails_once_is_named_with_its_count_and_its_failure(tmp_path):
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.helpers.stress", "--times", "4"]
    done = run_process([*command, "--tb=no"], cwd=tmp_path, more={"PYTHONPATH": rules.path(ROOT)})
    assert done.returncode == 1, done.stdout
    name = "test_some.py::test_it_fails_at_its_third_time failed 1 of 4 times; the first failure:"
    assert name in done.stdout
    assert "the third time" in done.stdout and "7 passed" in done.stdout
    assert "test_it_never_fails_beside_the_busy_processes: 0 of 4 failed" in done.stdout
    assert "never_fails" not in done.stdout.partition("busy processes ===")[2]
    left = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(tmp_path)]
    assert not left, "the busy processes end with the session"


@pytest.mark.heavy
def test_the_same_command_goes_on_after_a_kill(tmp_path):
    """Also with the failures from before."""
    killed = "import os, pathlib\n" + TESTS.replace("assert len", "kill()\n    assert len", 1)
    killed += """
def kill():
    if len(pathlib.Path("count").read_text()) == 4 and not pathlib.Path("killed").exists():
        pathlib.Path("killed").touch()
        os.kill(os.getpid(), 9)
"""
    (tmp_path / "test_some.py").write_text(killed)
    command = [sys.executable, "-m", "pytest", "-p", "tests.helpers.stress", "--times", "6"]
    more = {"PYTHONPATH": rules.path(ROOT)}
    first = run_process([*command, "--tb=no"], cwd=tmp_path, more=more)
    assert first.returncode == -9, first.stdout
    done = run_process([*command, "--tb=no"], cwd=tmp_path, more=more)
    assert done.returncode == 1, done.stdout
    assert "goes on after 3 repetitions" in done.stdout and "9 passed" in done.stdout
    assert "at_its_third_time: 1 of 6 failed" in done.stdout
    assert "at_its_third_time failed 1 of 6 times; the first failure:" in done.stdout
    again = run_process([*command, "--tb=no"], cwd=tmp_path, more=more)
    assert again.returncode == 0 and "goes on" not in again.stdout, again.stdout


def test_each_listed_test_exists_and_is_part_of_the_default_tests():
    names = (ROOT / "tests" / "stress.txt").read_text().split()
    assert len(set(names)) == len(names) == 20
    for name in names:
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(), name
    assert not set(names) & set(extended.listed())
