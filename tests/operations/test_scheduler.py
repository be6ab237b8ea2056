"""A scheduler that fails, in a server that answers as ever: its log and the doctor tell of it."""

from __future__ import annotations

import pytest

from drillyard.checks.servers import planned
from drillyard.findings import Finding
from tests.helpers import rules
from tests.helpers.patience import until
from tests.helpers.yard import LOOK_EVERY_S, Yard, yard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
BROKEN = """
import os
if "PREFECT_SERVER_API_AUTH_STRING" in os.environ:
    from prefect.server.services import scheduler

    def fail(*args, **options):
        raise ValueError("no such function: json_thing")

    scheduler._get_select_deployments_to_schedule_query = fail
    scheduler._get_select_recent_deployments_to_schedule_query = fail
"""


def found(team: Yard, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the doctor will say once these schedules have been on for a while."""
    for name, value in team.environ.items():
        monkeypatch.setenv(name, value)
    return list(planned(team.api.url, settled_s=-60))


def test_one_that_fails_is_told(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    with yard(tmp_path / "team", PYTHONPATH=rules.path(tmp_path)) as team:
        log = team.stack.log_of("prefect")
        until(lambda: "no such function: json_thing" in log.read_text(), what="a line of the log")
        (finding,) = found(team, monkeypatch)
        assert "reap/hourly" in finding.message and "logs/prefect.log" in str(finding.fix)


def test_one_that_works_is_not(team, monkeypatch):
    until(lambda: not found(team, monkeypatch), what="planned runs", every_s=LOOK_EVERY_S)
