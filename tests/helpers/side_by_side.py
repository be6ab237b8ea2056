"""The tests in several processes: how they are dealt out, and what all of them share.

One file's tests run in one process, in their order: they share its fixtures. Files whose tests
take long and share nothing are dealt out test by test. What waits for real processes comes first,
so that no process is left alone with it at the end.
"""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.helpers import extended

LOOKS = "tests/docs/test_coverage.py::test_a_command_that_looks"
FIRST = (
    "tests/docs/test_coverage.py::test_a_command_of_the_page",
    "tests/emulated/",
    "tests/flows/",
    "tests/compatibility/",
    "tests/contract/",
    "tests/docs/test_documents.py",
    "tests/operations/",
    "tests/browser/",
)
"""In this order they are begun, then the others. The first makes what all documents wait for."""
LAST = LOOKS
"""Many that take seconds, so that all processes end together."""
ALONE = ("tests/docs/test_documents.py", "tests/compatibility/", LOOKS)
"""What their names begin with, of tests that are dealt out one by one."""
DEPLOYING = ("tests/browser/test_prefect_form.py", "tests/flows/test_deploying.py")
"""They deploy to Prefect's server, which all processes share, and run in one process, in turn."""
READING = (
    "tests/unit/system/test_operating_system.py",
    "tests/unit/test_dangerous_calls.py",
    "tests/unit/test_tree.py",
)
"""They read all modules of the product: in one process, which does it once."""


class ByFile(LoadScopeScheduling):
    """A file is a piece of work, but for ``ALONE`` and ``DEPLOYING``."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(DEPLOYING):
            return "deploying"
        if nodeid.startswith(READING):
            return "reading"
        if nodeid.startswith(ALONE):
            return nodeid
        file = nodeid.partition("::")[0]
        # What no process has imported yet is imported once, for the files of one package.
        return file.rpartition("/")[0] if self.config.getoption("quick") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Called by pytest-xdist in the process that deals out."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Keep the garbage collector from what stays until the end: modules, classes and tests.

    There are a million objects of these, and it would look at them again and again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(10_000)  # what one test leaves, and not each object of a call


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of ``FIRST`` and ``LAST``; within one, as pytest has it.

    Also marks the extended tests, which ``-m`` then leaves out or takes.
    """
    extended.mark(items)

    def rank(item: pytest.Item) -> int:
        if item.nodeid.startswith(LAST):
            return 100
        return next((n for n, place in enumerate(FIRST) if item.nodeid.startswith(place)), 99)

    items.sort(key=rank)


def made_once(base: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process to ask for it makes, and the others wait for.

    Args:
        base: Of this process.
        name: Of the folder.
        make: Fills the empty folder.
    """
    mine = base.getbasetemp()
    folder = (mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / name
    made = folder.with_suffix(".made")
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
