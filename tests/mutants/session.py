"""``python -m tests.mutants.session FILE``: imports, tests or simulates a mutant."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import swapping

SURVIVED, KILLED, NOT_FOUND = 0, 1, 9


def main(order: dict[str, Any]) -> int:
    """Do what is asked; the exit code.

    Args:
        order: ``do``; ``path`` and ``text`` of the mutant, or null; what ``do`` needs.
    """
    if order["path"]:
        swapping.swap(order["path"], order["text"])
    return {"import": _import, "tests": _tests, "simulation": _simulation}[order["do"]](order)


def _import(order: dict[str, Any]) -> int:
    __import__(order["module"])
    return SURVIVED


def _tests(order: dict[str, Any]) -> int:
    given = ["-q", "-x", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers"]
    files = dict.fromkeys(name.partition("::")[0] for name in order["tests"])
    code = pytest.main([*given, *order["given"], *files], plugins=[_Chosen(order)])
    # A file of tests that cannot be imported, too, is the work of the mutant.
    found = {pytest.ExitCode.OK: SURVIVED, pytest.ExitCode.NO_TESTS_COLLECTED: NOT_FOUND}
    return found.get(pytest.ExitCode(code), KILLED)


class _Chosen:
    """Runs the chosen tests in their order, and notes the one that runs."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order

    def pytest_sessionstart(self) -> None:
        from tests.helpers import process_rules, rules

        path, text = self._order["path"], self._order["text"]
        if path:
            source = Path(swapping.__file__).read_text()
            script = Path(rules.Rules.folder, process_rules.MUTANT)
            script.write_text(f"{source}\n\nswap({path!r}, {text!r})\n")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        place = {name: n for n, name in enumerate(self._order["tests"])}
        items[:] = sorted(
            (item for item in items if item.nodeid in place), key=lambda i: place[i.nodeid]
        )
        for item in items:
            limit = self._order["limits"][place[item.nodeid]]
            item.add_marker(pytest.mark.timeout(limit), append=False)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        Path(self._order["outcome"]).write_text(json.dumps({"test": nodeid}))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            hung = "from pytest-timeout" in str(report.longrepr)
            outcome = {"test": report.nodeid, "hung": hung}
            Path(self._order["outcome"]).write_text(json.dumps(outcome))


def _simulation(order: dict[str, Any]) -> int:
    from tests.simulation.campaign import campaign

    # A schedule that never ends is ended by the system.
    limit = int(order["seconds"] or 60) + 240
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    done = campaign(
        order["first"],
        seconds=order["seconds"],
        schedules=order["schedules"],
        cut_down=False,
        clock=time.process_time,
    )
    failed = None if done.failed is None else done.failed.plan.seed
    Path(order["outcome"]).write_text(json.dumps({"test": failed, "schedules": done.schedules}))
    return SURVIVED if failed is None else KILLED


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    code = main(asked)
    sys.stdout.flush()
    if asked["do"] == "simulation":
        os._exit(code)  # threads of a mutant need not end
    sys.exit(code)
