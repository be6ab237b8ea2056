"""`-p tests.helpers.stress`: repeats each test beside busy processes, and counts its failures.

What depends on time by mistake passes on an idle machine, and fails now and then on a busy one.
`tests/stress.txt` lists tests of the default ones that stop or kill real processes, wait for a
heartbeat or a deadline, or were flaky before.

Each repetition is written down when it ends: the same command continues one that was killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

# Ends with the session, however that ends.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
BUSY_PROCESSES = 2
_busy: list[subprocess.Popen[bytes]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option."""
    parser.addoption("--times", type=int, default=20, help="how often each test runs")


def pytest_configure(config: pytest.Config) -> None:
    """Begins to write down what was repeated, or goes on with it."""
    config.pluginmanager.register(Repetitions(config), "repetitions")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes one test into many, each with its number in its name."""
    metafunc.fixturenames.append("repetition")
    metafunc.parametrize("repetition", range(metafunc.config.getoption("times")))


class Repetitions:
    """What was repeated, in this session and in those before it that were killed.

    Args:
        config: Of the session.
    """

    def __init__(self, config: pytest.Config) -> None:
        assert config.cache is not None
        self._config = config
        self._file = Path(config.cache.mkdir("stress"), "repetitions.jsonl")
        self._times = config.getoption("times")
        self._failures: dict[str, str] = {}
        """Of the tests that ended; empty for one that passed."""
        self._failed: list[str] = []
        """What the phases of the running test said."""
        self._tests: Counter[str] = Counter()

    def pytest_sessionstart(self) -> None:
        """Starts the busy processes."""
        command = [sys.executable, "-S", "-c", BUSY]
        _busy.extend(subprocess.Popen(command) for _ in range(BUSY_PROCESSES))

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leaves out what ended before the last session was killed."""
        self._tests.update(_name(item.nodeid) for item in items)
        if self._file.exists():
            lines = map(json.loads, self._file.read_text().splitlines())
            self._failures = {line["test"]: line["failure"] for line in lines}
            print(f"goes on after {len(self._failures)} repetitions: {self._file}")
        config.hook.pytest_deselected(items=[i for i in items if i.nodeid in self._failures])
        items[:] = [item for item in items if item.nodeid not in self._failures]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Writes down how a repetition ended; says how far each test is."""
        if report.failed:
            self._failed.append(report.longreprtext)
        if report.when != "teardown":
            return
        self._failures[report.nodeid] = next(iter(self._failed), "")
        self._failed.clear()
        with self._file.open("a") as file:
            line = {"test": report.nodeid, "failure": self._failures[report.nodeid]}
            file.write(f"{json.dumps(line)}\n")
        name = _name(report.nodeid)
        ended = [text for test, text in self._failures.items() if _name(test) == name]
        if len(ended) == self._tests[name]:
            count = len(list(filter(None, ended)))
            reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
            reporter.write_line(f" {name}: {count} of {len(ended)} failed")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Ends the busy processes; a failure before the kill fails the whole."""
        for process in _busy:
            process.kill()
            process.wait()
        _busy.clear()
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            failed = any(self._failures.values())
            session.exitstatus = pytest.ExitCode.TESTS_FAILED if failed else pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
        """Names each test that failed, how often, and its first failure."""
        if exitstatus == pytest.ExitCode.INTERRUPTED:
            return
        failures: dict[str, list[str]] = defaultdict(list)
        for test, text in self._failures.items():
            if text:
                failures[_name(test)].append(text)
        title = f"{self._times} times each beside {BUSY_PROCESSES} busy processes"
        terminalreporter.section(title)
        for name, texts in failures.items():
            count = f"{len(texts)} of {self._tests[name]} times"
            terminalreporter.line(f"{name} failed {count}; the first failure:\n{texts[0]}")
        if not failures:
            terminalreporter.line("No test failed.")
        self._file.unlink(missing_ok=True)


def _name(test: str) -> str:
    """A test without the numbers of its repetitions, and without its cases."""
    return test.partition("[")[0]
