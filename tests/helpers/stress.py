"""`-p tests.helpers.stress`: repeats each test beside busy processes, and counts its failures.

What depends on time by mistake passes on an idle machine, and fails now and then on a busy one.
`tests/stress.txt` lists tests of the default ones that stop or kill real processes, wait for a
heartbeat or a deadline, or were flaky before.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from typing import Any

import pytest

# Ends with the session, however that ends.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
BUSY_PROCESSES = 2
_busy: list[subprocess.Popen[bytes]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option."""
    parser.addoption("--times", type=int, default=20, help="how often each test runs")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes one test into many, each with its number in its name."""
    metafunc.fixturenames.append("repetition")
    metafunc.parametrize("repetition", range(metafunc.config.getoption("times")))


def pytest_sessionstart() -> None:
    """Starts the busy processes."""
    command = [sys.executable, "-S", "-c", BUSY]
    _busy.extend(subprocess.Popen(command) for _ in range(BUSY_PROCESSES))


def pytest_sessionfinish() -> None:
    """Ends them."""
    for process in _busy:
        process.kill()
        process.wait()
    _busy.clear()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Names each test that failed, how often, and its first failure."""
    failures: dict[str, dict[str, Any]] = defaultdict(dict)
    for report in terminalreporter.stats.get("failed", []) + terminalreporter.stats.get(
        "error", []
    ):
        failures[report.nodeid.partition("[")[0]].setdefault(report.nodeid, report)
    times = terminalreporter.config.getoption("times")
    terminalreporter.section(f"{times} times each beside {BUSY_PROCESSES} busy processes")
    for name, reports in failures.items():
        terminalreporter.line(f"{name} failed {len(reports)} of {times} times; the first failure:")
        terminalreporter.line(next(iter(reports.values())).longreprtext)
    if not failures:
        terminalreporter.line("No test failed.")
