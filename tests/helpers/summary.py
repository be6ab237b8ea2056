"""What a build says last: what this machine could not test, and what passed only when repeated."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print after pytest's own summary, once, in the process that deals out."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    skipped = Counter(_reason(report) for report in reporter.stats.get("skipped", []))
    if skipped:
        reporter.write_line("Skipped on this machine:")
        for reason, count in sorted(skipped.items()):
            reporter.write_line(f"  {count} x {reason}")
    flaky = repeated(reporter.stats) if config.getoption("lf", False) else []
    if flaky:
        reporter.write_line("Flaky: failed in the full run, passed when repeated alone:")
        for name in flaky:
            reporter.write_line(f"  {name}")


def repeated(stats: dict[str, list[Any]]) -> list[str]:
    """The tests of a ``--last-failed`` run that pass now, by their names.

    Args:
        stats: Reports by outcome, as pytest's terminal reporter keeps them.
    """
    broken = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, [])}
    return sorted({r.nodeid for r in stats.get("passed", [])} - broken)


def _reason(report: Any) -> str:
    """Why a test or a whole file was skipped."""
    place = report.longrepr
    reason = place[2] if isinstance(place, tuple) else str(place)
    return str(reason).removeprefix("Skipped: ")
