"""Each alert that ships: from what happens to the webhook, or the chat, that is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.test_other_flows import PROGRAM as REAPER
from tests.helpers import rules
from tests.helpers.patience import until
from tests.helpers.processes import run_process
from tests.helpers.smtp import text
from tests.helpers.yard import Yard
from tests.operations.test_deaths import kill, member

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]


def mock(team: Yard, name: str, **more: Any) -> Path:
    """An experiment of a second."""
    file = team.bench.folder / f"{name}.json"
    file.write_text(
        json.dumps(
            {
                "schema": 1,
                "name": name,
                "workload": "mock",
                "seeds": [1, 2],
                "mock": {"metrics": ["score"]},
                "tracking": {"mlflow": None},
                **more,
            }
        )
    )
    return file


def test_a_run_that_failed(team):
    world = {"id": "world:Slow", "args": {"step_s": 0.0, "fail_at": 100}}
    run = team.start(team.bench.write("dry", simulator=world))
    told = team.alert("dry .*ailed")
    team.delay_s(told, "prefect.flow-run.Failed")
    assert "the pump is dry" in told["text"]
    assert f"{team.ui}/runs/flow-run/{run}" in told["text"]
    team.nothing_left("dry")


def test_a_file_that_is_not_there(team):
    run = team.start("nowhere.yaml")
    told = team.alert("nowhere Failed")
    team.delay_s(told, "prefect.flow-run.Failed")
    assert "nowhere.yaml" in told["text"] and "Traceback" not in told["text"]
    until(lambda: any("no such file" in line for line in team.api.logs({"id": run})), what="a log")
    assert not any("Traceback" in line for line in team.api.logs({"id": run}))


def test_an_experiment_that_is_finished_has_its_result_in_the_text(team):
    team.start(team.bench.write("good", baselines=["random"]))
    told = team.alert("good is finished")
    team.delay_s(told, "drillyard.experiment.finished")
    assert "The agent reaches a mean return of" in told["text"]
    report = team.bench.store / "good" / "report" / "index.html"
    assert str(report) in told["text"] and report.is_file()


def test_a_study_that_is_finished_has_its_best_in_the_text(team):
    tunables = {"g": {"params": {"level": {"type": "float", "range": [0, 1], "default": 0.5}}}}
    file = mock(
        team,
        "sought",
        seeds=[1],
        parameters={"tunables": tunables, "tunable_params": ["g"]},
        study={
            "chooser": "random",
            "trials": 2,
            "confirm": 0,
            "objectives": [{"metric": "evaluate/score", "direction": "min"}],
        },
    )
    team.start(file, flow="study")
    told = team.alert("sought is finished")
    team.delay_s(told, "drillyard.study.finished")
    assert "t000" in told["text"]


def test_80_percent_of_a_budget(team):
    file = mock(
        team,
        "dear",
        workload="script",
        mock=None,
        script={"run": ["sleep 60"]},
        seeds=[1],
        budget={"max_hours": 0.005},
    )
    team.start(file)
    told = team.alert("dear has used 80 % of a budget")
    team.delay_s(told, "drillyard.budget.reached")
    assert "of 0.005 hours are used (budget.max_hours)" in told["text"]
    team.nothing_left("dear")


def test_a_run_that_is_late(team):
    kill(member(team, "worker"))
    try:
        team.start(mock(team, "waiting"))
        told = team.alert("waiting.json is late")
        team.delay_s(told, "prefect.flow-run.Late")
        assert "Is a worker alive?" in told["text"]
    finally:
        team.up()
    team.alert("waiting is finished")


def test_a_machine_that_could_not_be_deleted(team):
    run_process(
        [sys.executable, "-c", REAPER],
        check=True,
        cwd=ROOT,
        more={
            **team.environ,
            "PYTHONPATH": rules.path(ROOT),
            "DRILLYARD_HOME": str(team.bench.folder / "reaper"),
        },
    )
    told = team.alert("dy-0000000001 could not be deleted")
    team.delay_s(told, "drillyard.lease.undeletable")
    assert "403" in told["text"] and "2 times in a row" in told["text"]


def test_a_reaper_that_does_not_come(team):
    (found,) = [a for a in team.api.post("/automations/filter", {}) if "no reaper" in a["name"]]
    assert found["trigger"]["within"] == 9000
    body = {key: found[key] for key in ("name", "description", "enabled", "actions")}
    hurried = {**found["trigger"], "within": 10}
    team.api.put(f"/automations/{found['id']}", {**body, "trigger": hurried})
    try:
        assert "reap/hourly" in team.alert("the reaper does not run")["text"]
    finally:
        assert "~ automation drillyard: no reaper: trigger" in team.drillyard("deploy")
    assert "changed 0 of" in team.drillyard("deploy")


def test_slack_is_told_in_its_own_format(team):
    team.drillyard("deploy", "--alerts", "https://hooks.slack.com/services/T1/B2/C3")
    try:
        team.start("gone.yaml")
        sent = until(lambda: team.slack, what="a message to Slack")[0]
    finally:
        team.drillyard("deploy", "--alerts", team.hook.url)
    assert sent["path"] == "/services/T1/B2/C3"
    assert "gone Failed" in json.dumps(sent["body"]) and "gone.yaml" in json.dumps(sent["body"])
    team.start("again.yaml")
    team.alert("again Failed")


def test_a_mail_is_sent_by_the_relay(team):
    team.drillyard("deploy", "--alerts", team.relay)
    try:
        team.start("posted.yaml")
        mail = until(lambda: team.mail.mails, what="a mail")[0]
    finally:
        team.drillyard("deploy", "--alerts", team.hook.url)
    assert "posted Failed" in mail["Subject"] and mail["To"] == "ops@example.org"
    assert "posted.yaml" in text(mail)
