"""Schedules from fresh seeds hold all invariants; the same seed gives the same schedule."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRESH_S = 10
"""How long schedules run that nobody has seen; ten minutes each night."""


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, because it replaces the clock and more."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.heavy
def test_schedules_from_a_fresh_seed_hold_all_invariants():
    """The seed is printed with a failure; ``tests.simulation --seed N`` replays the schedule."""
    done = simulate("--seconds", str(FRESH_S))
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    assert re.match(r"first seed: \d+\n[1-9]\d* schedules, ", done.stdout), done.stdout


@pytest.mark.slow
def test_ten_minutes_of_schedules_on_two_cores():
    done = simulate("--seconds", "600", "--cores", "2")
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"


@pytest.mark.heavy
def test_what_has_failed_before_holds_now():
    done = simulate("--regressions")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"


@pytest.mark.heavy
def test_what_is_rare_is_counted():
    done = simulate("--reached", "--schedules", "2", "--seed-from", "7")
    assert re.search(r"^a damaged object +\d$", done.stdout, re.M), done.stdout + done.stderr


@pytest.mark.heavy
def test_a_seed_is_replayed_exactly():
    first, second = simulate("--seed", "7", "--trace"), simulate("--seed", "7", "--trace")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    assert first.stdout == second.stdout
    assert "all invariants hold" in first.stdout


@pytest.mark.heavy
@pytest.mark.parametrize("backend", ["sim", "gcp", "azure"])
def test_a_defect_is_found_and_cut_down(backend):
    defect = "the manifest comes after its acceptance"
    done = simulate("--defect", defect, "--seed", "1", "--backend", backend)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "its manifest is missing" in done.stdout
    shortest = done.stdout.partition("shortest schedule that fails:")[2]
    assert shortest.startswith("\nPlan(seed=1"), done.stdout
    assert "  die-" not in shortest.partition("its last lines")[0], "it needs no fault"


@pytest.mark.heavy
def test_the_reach_tells_lines_that_run_from_those_that_never_do():
    done = simulate("--lines", "--json", "--schedules", "2", "--seed-from", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = json.loads(done.stdout.splitlines()[-1])
    assert max(lines["src/drillyard/mailbox/mailbox.py"].values()) == 2
    assert set(lines["src/drillyard/mailbox/temporary_files.py"].values()) == {0}  # a real disk's
    # What one fiber does is not counted in the function that another one is in.
    for file in lines:
        for function, first, others in bodies((ROOT / file).read_text()):
            counts = [lines[file].get(str(n), 0) for n in others]
            assert max(counts, default=0) <= lines[file].get(str(first), 2), f"{file}: {function}"


def bodies(source: str) -> Iterator[tuple[str, int, set[int]]]:
    """Each function without inner ones: its name, the line where it begins, its other lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        within = [part for statement in body[1:] for part in ast.walk(statement)]
        if body and not any(isinstance(part, kinds) for part in within):
            yield node.name, body[0].lineno, {n.lineno for n in within if isinstance(n, ast.stmt)}
