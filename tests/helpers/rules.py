"""Puts the rules of ``process_rules.py`` over a session, and fails what broke them.

A test fails where a process of it broke a rule, also if the product handled the error. What
processes noted after the end of their test fails the session, and ``--last-failed`` repeats it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from drillyard.system.scratch import short_folder
from tests.helpers import process_rules


def path(*folders: str | Path) -> str:
    """A ``PYTHONPATH`` for a child: these folders, behind the one that brings the rules."""
    return os.pathsep.join([folder for folder in (Rules.folder, *map(str, folders)) if folder])


class Rules:
    """A plug-in of pytest.

    Args:
        config: Of a session, or of one of its processes.
    """

    folder = ""
    """The session's, the same in all of its processes."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._deals = not hasattr(config, "workerinput")
        self._stack = contextlib.ExitStack()
        inherited = getattr(sys.modules.get("sitecustomize"), "FOLDER", "")
        if inherited and not self._deals:
            Rules.folder = inherited
            return
        # Of this process: a session that was killed is cleaned up after by the next one.
        Rules.folder = str(self._stack.enter_context(short_folder("tests")))
        self._own_temporary_files()
        Path(Rules.folder, "sitecustomize.py").symlink_to(process_rules.__file__)
        others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = path(*(p for p in others if p and p != inherited))
        os.environ.pop(process_rules.EXEMPT, None)
        process_rules.install(Rules.folder)

    @staticmethod
    def _own_temporary_files() -> None:
        """Keep what killed processes leave below the folder; pytest's own folders stay."""
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        os.environ["TMPDIR"] = str(Path(Rules.folder, "tmp"))
        os.mkdir(os.environ["TMPDIR"])
        tempfile.tempdir = None  # so that it is looked up again

    def pytest_sessionstart(self) -> None:
        """Go before pytest's own hook, which fails a test for what the collector finds."""
        process_rules.heed_unraisable(Rules.folder)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None]:
        """Put back Prefect's variables: a command in this process sets its server's address."""
        before = {k: v for k, v in os.environ.items() if k.startswith("PREFECT_")}
        try:
            return (yield)
        finally:
            for name in [k for k in os.environ if k.startswith("PREFECT_") and k not in before]:
                del os.environ[name]
            os.environ.update(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """Fail the test of which a process broke a rule."""
        yield
        said = [note["said"] for note in _notes() if note["test"] == item.nodeid]
        if said:
            pytest.fail("\n".join(dict.fromkeys(said)), pytrace=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the session, and have ``make again`` repeat the tests."""
        notes = _notes() if self._deals else []
        if notes:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        last: Any = self._config.pluginmanager.get_plugin("lfplugin")
        if last is not None:
            last.lastfailed.update({note["test"]: True for note in notes if note["test"]})

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Name each test and process."""
        notes = _notes()
        if notes:
            terminalreporter.section("rules for the processes of tests")
        for note in notes:
            terminalreporter.line(f"{note['test'] or 'between tests'}\n  {note['process']}")
            terminalreporter.line(f"  {note['said']}")

    def pytest_unconfigure(self) -> None:
        """Remove the folder."""
        self._stack.close()


def _notes() -> list[dict[str, str]]:
    """What processes noted so far."""
    try:
        text = Path(Rules.folder, process_rules.NOTES).read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]
