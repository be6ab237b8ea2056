"""Which tests reach which line, measured once for a commit by ``coverage``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import coverage

from tests.mutants.drawing import PACKAGES, ROOT, Place
from tests.mutants.recording import FOLDER, WITHOUT

_DRIVER = [f"tests/contract/driver/test_{name}.py" for name in ("session", "tickets")]
QUICK = ["--quick", "tests/unit", "tests/docs", "tests/contract/test_stores.py", *_DRIVER]
LAYERS: dict[str, list[str]] = {"quick": QUICK, "test": []}
"""What pytest is given, as in the Makefile."""
# The simulation of fresh seeds is a layer of its own.
NEVER = "tests/simulation/test_simulation.py::test_schedules_from_a_fresh_seed_hold_all_invariants"
SETTINGS = """[run]
parallel = true
data_file = {folder}/coverage
context = ${{PYTEST_CURRENT_TEST-}}
patch = _exit
sigterm = true
include = {include}
"""


@dataclass
class Reach:
    """What the tests of a layer reach.

    Attributes:
        seconds: How long each test that passed takes.
        files: File -> line -> the tests that reach it.
    """

    seconds: dict[str, float]
    files: dict[str, dict[int, set[str]]]

    def tests(self, place: Place) -> list[str]:
        """Those that reach a mutant, shortest first.

        What runs when a module is imported counts as reached by all tests that reach the file.
        """
        lines = self.files.get(place.file, {})
        first, last = place.change.lines
        wanted = range(first, last + 1) if place.change.runs else list(lines)
        reached = set().union(*(lines.get(line, set()) for line in wanted))
        return sorted(reached & self.seconds.keys(), key=lambda name: (self.seconds[name], name))


def reach(folder: Path, layer: str, workers: int) -> Reach:
    """Read what was measured for this commit, or measure it.

    Args:
        folder: Of this commit.
        layer: A key of ``LAYERS``.
        workers: Processes of pytest.
    """
    path = folder / f"reach-{layer}.json"
    if not path.exists():
        without = [NEVER, *(reach(folder, "quick", workers).seconds if layer == "test" else [])]
        part = path.with_suffix(".part")
        part.write_text(json.dumps(_measured(folder / layer, layer, without, workers)))
        part.rename(path)
    kept = json.loads(path.read_text())
    names = list(kept["seconds"])
    files = {
        file: {int(line): {names[n] for n in tests} for line, tests in lines.items()}
        for file, lines in kept["files"].items()
    }
    return Reach(kept["seconds"], files)


def simulated(folder: Path, first: int) -> dict[str, dict[int, int]]:
    """File -> line -> how many schedules reach it: read for this commit, or measured.

    Args:
        folder: Of this commit.
        first: First seed of the simulation.
    """
    path = folder / f"reach-simulation-{first}.json"
    if not path.exists():
        print("which line is reached by the simulation: measured now", flush=True)
        # About as many as run in the time of a mutant.
        words = ["--lines", "--json", "--schedules", "150", "--seed-from", str(first)]
        command = [sys.executable, "-m", "tests.simulation", *words]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        path.write_text(done.stdout.splitlines()[-1])
    files = json.loads(path.read_text())
    return {file: {int(line): n for line, n in lines.items()} for file, lines in files.items()}


def _measured(folder: Path, layer: str, without: list[str], workers: int) -> object:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    include = ",".join(f"{ROOT}/src/drillyard/{package}/*" for package in PACKAGES)
    (folder / "settings").write_text(SETTINGS.format(folder=folder, include=include))
    (folder / WITHOUT).write_text(json.dumps(without))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.recording"]
    variables = {FOLDER: str(folder), "COVERAGE_PROCESS_START": str(folder / "settings")}
    print(f"which line is reached by which test of the layer `{layer}`: measured now", flush=True)
    with open(folder / "log", "w") as log:
        subprocess.run(
            [*command, "-p", "no:cacheprovider", "-n", str(workers), *LAYERS[layer]],
            cwd=ROOT,
            # Not what measures these tests themselves.
            env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")} | variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    lines = [line for p in folder.glob("tests-*.jsonl") for line in p.read_text().splitlines()]
    noted = [json.loads(line) for line in lines]
    assert noted, f"no test ran: {folder / 'log'}"
    seconds = {name: took for name, took, passed in noted if passed}
    for name in sorted(name for name, _, passed in noted if not passed):
        print(f"  left out, for it fails without a mistake: {name}", flush=True)
    numbers = {name: n for n, name in enumerate(seconds)}
    data = coverage.CoverageData(str(folder / "combined"))
    for part in folder.glob("coverage.*"):
        one = coverage.CoverageData(str(part))
        try:
            one.read()
            data.update(one)
        except coverage.exceptions.CoverageException:
            continue  # a process was killed while it wrote
    files: dict[str, dict[int, list[int]]] = {}
    for file in data.measured_files():
        by_line = data.contexts_by_lineno(file)
        files[str(Path(file).relative_to(ROOT))] = {
            line: sorted({numbers[n] for c in names if (n := _name(c)) in numbers})
            for line, names in by_line.items()
        }
    data.close()
    return {"seconds": seconds, "files": files}


def _name(context: str) -> str:
    """The test's, of a process of pytest or of a child."""
    for phase in (" (setup)", " (call)", " (teardown)"):
        context = context.partition(phase)[0]
    return context.strip("|")
