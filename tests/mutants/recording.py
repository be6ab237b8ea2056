"""A plug-in of pytest that notes which test runs, for ``coverage``, and how long it takes.

Children of a test find its name in the variable ``PYTEST_CURRENT_TEST``; see ``reach.py``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

FOLDER = "MUTANTS_FOLDER"
"""The variable that names where notes are written."""
WITHOUT = "without.json"
"""Tests that are not recorded, in this folder."""
failed: set[str] = set()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without = set(json.loads(Path(os.environ[FOLDER], WITHOUT).read_text()))
    items[:] = [item for item in items if item.nodeid not in without]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    measured = coverage.Coverage.current()
    assert measured is not None, "coverage was not started in this process"
    measured.switch_context(item.nodeid)
    tracer = sys.gettrace()
    began = time.perf_counter()
    try:
        return (yield)
    finally:
        if sys.gettrace() is not tracer:  # a debugger in a test ends what coverage measures
            sys.settrace(tracer)
        measured.switch_context("")
        passed = item.nodeid not in failed
        line = json.dumps([item.nodeid, round(time.perf_counter() - began, 3), passed])
        with open(Path(os.environ[FOLDER], f"tests-{os.getpid()}.jsonl"), "a") as file:
            file.write(f"{line}\n")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        failed.add(report.nodeid)
