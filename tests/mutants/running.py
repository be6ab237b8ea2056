"""Runs the layers over the drawn mutants, and keeps each result as soon as it is known."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from bisect import bisect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil

from tests.mutants.drawing import ROOT, Found, Mutant, Place
from tests.mutants.reach import LAYERS, Reach
from tests.mutants.session import NOT_FOUND, SURVIVED

MARK = "MUTANT_UNDER_TEST"
"""A variable by which the processes of a session are found, to end what they left."""
SIMULATED_S = 60
"""CPU time of the simulation of one mutant."""
TESTED_S = 10
"""What the tests of `make test` that a mutant gets may take together, without a mistake."""
DEAD = ("killed", "hung")
Lines = dict[str, dict[int, int]]
"""File -> line -> how many schedules of the simulation reach it."""


@dataclass
class Results:
    """One file, a line for each thing that is known.

    Attributes:
        path: The file.
        importable: Mutant's id -> whether its module can be imported.
        known: Layer -> mutant's id -> what came out, and by which test.
    """

    path: Path
    importable: dict[str, bool] = field(default_factory=dict)
    known: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for line in lines:
            with contextlib.suppress(ValueError):  # the last line of a killed run
                self._take(json.loads(line))
        if lines:  # so that the next line is whole
            self.path.write_text("".join(f"{x}\n" for x in lines if x.endswith("}")))

    def _take(self, line: dict[str, Any]) -> None:
        if line["layer"] == "import":
            self.importable[line["id"]] = line["result"] == "survived"
        else:
            self.known.setdefault(line["layer"], {})[line["id"]] = line

    def add(self, mutant: Mutant, layer: str, result: str, by: object = None) -> None:
        """Keep one."""
        line = {"id": mutant.id, "layer": layer, "result": result, "by": by}
        with self._lock, open(self.path, "a") as file:
            file.write(f"{json.dumps(line)}\n")
            self._take(line)

    def take(self, kept: dict[Mutant, dict[str, str]]) -> None:
        """Begin with what an earlier session found out about the same code."""
        for mutant, said in kept.items():
            for layer, result in {"import": "survived", **said}.items():
                self.add(mutant, layer, result)

    def dead(self, mutant: Mutant) -> bool:
        """Whether a layer has killed it."""
        return any(known.get(mutant.id, {}).get("result") in DEAD for known in self.known.values())


@dataclass
class Runner:
    """Runs sessions, several at a time.

    Attributes:
        found: All mutants of the present code.
        results: Where they are kept.
        cores: Sessions at a time.
        root: Of the checkout.
    """

    found: Found
    results: Results
    cores: int
    root: Path = ROOT

    def importable(self, mutants: list[Mutant]) -> list[bool]:
        """Whether their modules can be imported."""
        asked = [m for m in mutants if m.id not in self.results.importable]

        def one(mutant: Mutant) -> None:
            file = self.found[mutant].file
            module = file.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
            said, _ = self.session(mutant, 120, do="import", module=module.replace("/", "."))
            self.results.add(mutant, "import", said)

        self._each(one, asked)
        return [self.results.importable[m.id] for m in mutants]

    def layer(self, name: str, mutants: list[Mutant], reach: Reach | Lines, first: int) -> None:
        """Run one layer over what no layer has killed yet.

        Args:
            name: ``quick``, ``test`` or ``simulation``.
            mutants: In their order.
            reach: Of the tests, or the lines that the simulation reaches.
            first: First seed of the simulation.
        """
        known = self.results.known.setdefault(name, {})
        left = [m for m in mutants if m.id not in known and not self.results.dead(m)]
        print(f"{name}: {len(left)} mutants", flush=True)
        if isinstance(reach, Reach) and left:  # else everything would count as killed
            some = sorted(reach.seconds, key=lambda test: reach.seconds[test])[:20]
            said, by = self.tests(None, name, some, reach)
            passed = said == "survived" or by in some[1:]  # a busy machine may fail one
            assert passed, f"{by} fails without a mistake"

        def one(mutant: Mutant) -> None:
            if isinstance(reach, Reach):
                said, by = self._tested(mutant, name, reach)
            else:
                said, by = self._simulated(mutant, first, reach)
            self.results.add(mutant, name, said, by)
            print(f"  {name} {mutant.id} {said} {by or ''}", flush=True)

        self._each(one, left)

    def _each(self, work: Any, mutants: list[Mutant]) -> None:
        with ThreadPoolExecutor(self.cores) as pool:
            try:
                for _ in pool.map(work, mutants):
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _tested(self, mutant: Mutant, layer: str, reach: Reach) -> tuple[str, object]:
        tests = reach.tests(self.found[mutant])
        if layer == "test":
            ends = list(accumulate(reach.seconds[test] for test in tests))
            tests = tests[: max(1, bisect(ends, TESTED_S))]
        if not tests:
            return "unreached", None
        while tests:
            said, by = self.tests(mutant, layer, tests, reach)
            if said == "survived":
                break
            # A test of real processes may fail by itself: it must pass without the mistake, and
            # fail with it once more.
            if (layer == "quick" and said == "killed") or by not in tests:
                return said, by
            alone = [by]
            if self.tests(None, layer, alone, reach)[0] == "survived":
                once_more, _ = self.tests(mutant, layer, alone, reach)
                if once_more != "survived":
                    return once_more, by
            tests = tests[tests.index(by) + 1 :]
        return "survived", None

    def tests(
        self, mutant: Mutant | None, layer: str, tests: list[str], reach: Reach
    ) -> tuple[str, Any]:
        """Run tests until one fails: what came out, and the test.

        Args:
            mutant: None: the code as it is.
            layer: Whose options pytest gets.
            tests: Names, in their order.
            reach: How long each takes.
        """
        # The slowest of a file may hold the time of a fixture that all of them need.
        slowest: dict[str, float] = {}
        for test, took in reach.seconds.items():
            file = test.partition("::")[0]
            slowest[file] = max(took, slowest.get(file, 0.0))
        limits = [
            30 + 10 * reach.seconds[test] + 3 * slowest[test.partition("::")[0]] for test in tests
        ]
        return self.session(
            mutant,
            180 + sum(limits),
            do="tests",
            tests=tests,
            limits=limits,
            given=LAYERS[layer][:1],
        )

    def _simulated(self, mutant: Mutant, first: int, reached: Lines) -> tuple[str, object]:
        place = self.found[mutant]
        start, end = place.change.lines
        lines = reached.get(place.file, {})
        # What runs when a module is imported is no line of a function, and counts as reached.
        if place.change.runs and not any(lines.get(n, 0) for n in range(start, end + 1)):
            return "unreached", None
        said, seed = self.simulation(mutant, first, seconds=SIMULATED_S)
        if said == "killed" and seed is not None:
            alone, _ = self.simulation(None, seed, schedules=1)
            if alone != "survived":
                print(f"the simulation of seed {seed} fails without a mistake", flush=True)
                return "survived", None
        return said, seed

    def simulation(
        self,
        mutant: Mutant | None,
        first: int,
        seconds: int | None = None,
        schedules: int | None = None,
    ) -> tuple[str, Any]:
        """Run schedules until one fails: what came out, and its seed."""
        ways = {"first": first, "seconds": seconds, "schedules": schedules}
        return self.session(mutant, 3600, do="simulation", **ways)

    def session(self, mutant: Mutant | None, limit: float, **order: Any) -> tuple[str, Any]:
        """Run one process, and end what it leaves: what came out, and by which test.

        Args:
            mutant: None: the code as it is.
            limit: Seconds after which it is ended, and counts as hung.
            order: What it is to do.
        """
        place = None if mutant is None else self.found[mutant]
        with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as name:
            return self._session(Path(name), place, limit, order)

    def _session(
        self, folder: Path, place: Place | None, limit: float, order: dict[str, Any]
    ) -> tuple[str, Any]:
        outcome, text = folder / "outcome.json", folder / "mutant.py"
        order |= {"path": None, "text": str(text), "outcome": str(outcome)}
        if place is not None:
            text.write_text(place.change.source)
            order["path"] = str(self.root / place.file)
        (folder / "order.json").write_text(json.dumps(order))
        variables = {
            MARK: folder.name,
            "PYTHONHASHSEED": "0",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "examples"),
        }
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.mutants.session", str(folder / "order.json")],
                cwd=self.root,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                _end_what_is_left(folder.name)
        by = json.loads(outcome.read_text()) if outcome.exists() else {}
        if code == SURVIVED:
            return "survived", None
        if code is None or code == -signal.SIGXCPU or by.get("hung"):
            return "hung", by.get("test")
        if code == NOT_FOUND:
            raise RuntimeError(f"no test was found:\n{(folder / 'log').read_text()[-3000:]}")
        return "killed", by.get("test")


def _end_what_is_left(mark: str) -> None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                process.kill()
