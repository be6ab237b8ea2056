"""The tests in several processes: how they are dealt out, and what all of them share.

One file's tests run in one process, in their order: they share its fixtures. Files whose tests
take long and share nothing are dealt out test by test. What waits for real processes comes first,
so that no process is left alone with it at the end.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

FIRST = (
    "tests/docs/test_coverage.py", "tests/emulated/", "tests/flows/", "tests/docs/",
    "tests/operations/", "tests/browser/", "tests/contract/",
)  # fmt: skip
"""In this order they are begun, then the others. The first makes what all documents wait for."""
ALONE = ("tests/docs/test_documents.py",)
"""Files whose tests are dealt out one by one."""


class ByFile(LoadScopeScheduling):
    """A file is a piece of work, unless it is one of ``ALONE``."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file in ALONE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Called by pytest-xdist in the process that deals out."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of ``FIRST``; within one, as pytest has it."""

    def rank(item: pytest.Item) -> int:
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
