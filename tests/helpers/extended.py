"""Which tests are not part of ``make test`` but of ``make extended``: the list tests/extended.txt.

One list instead of a mark beside each test: it shows at a glance what the default tests leave out,
and cases of one test can be listed by themselves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

LIST = Path(__file__).parents[1] / "extended.txt"


def listed() -> list[str]:
    """The entries, as they begin in the names that pytest gives to tests."""
    lines = LIST.read_text().splitlines()
    return [f"tests/{line}" for line in lines if line and not line.startswith("#")]


def mark(items: list[pytest.Item]) -> None:
    """Mark the listed tests as ``extended``."""
    entries = set(listed())
    for item in items:
        if item.nodeid in entries or item.nodeid.partition("[")[0] in entries:
            item.add_marker("extended")
