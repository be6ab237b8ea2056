"""``drillyard schedule`` on a real server: listed, paused, resumed, deleted, left alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from drillyard.cli.main import main
from drillyard_flows.deploying import schedules
from drillyard_flows.deploying.cron import problems_of
from drillyard_flows.deploying.deployment import Deployment
from drillyard_flows.prefect_api import connected
from tests.flows.conftest import Api
from tests.helpers.processes import run_process

MINE = "schema: 1\nname: own\nworkload: mock\nseeds: [1]\n"
NAME = "weekly"
"""Another test has the real deployment on the same server."""
POOL = "drillyard-schedules"
ENTRY: dict[str, Any] = {
    "name": NAME,
    "work_pool": {"name": POOL},
    "entrypoint": "drillyard_flows.experiment:experiment",
    "parameters": {"file": "cstr/ppo"},
    "schedules": [{"cron": "0 3 * * *", "slug": "nightly", "active": False}],
}
Command = Callable[..., Any]


@pytest.fixture
def server(api, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", api.url)
    monkeypatch.setattr(schedules, "NAME", NAME)
    api.post("/work_pools/", {"name": POOL, "type": "process"})
    with temporary_settings({PREFECT_API_URL: api.url}):
        yield api
        with connected() as client:
            Deployment(ENTRY, "/").remove(client)
            client.delete_work_pool(POOL)


@pytest.fixture
def schedule(server, tmp_path, monkeypatch, capsys):
    """The command, in this process; what it prints as JSON."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(MINE)

    def run(*words: str, code: int = 0) -> Any:
        assert main(["schedule", *words, "--json"]) == code
        said = capsys.readouterr().out
        return None if code else json.loads(said)

    return run


def deploy(description: str) -> None:
    """As ``drillyard deploy`` does with this one deployment."""
    with connected() as client:
        Deployment({**ENTRY, "description": description}, "/").apply(client)


def there(api: Api) -> dict[str | None, Any]:
    (found,) = [d for d in api.post("/deployments/filter", {}) if d["name"] == NAME]
    return {s["slug"]: s for s in found["schedules"]}


def test_a_schedule_is_listed_paused_resumed_and_deleted_and_deploy_leaves_it_alone(
    server, schedule, tmp_path
):
    file = tmp_path / "mine.yaml"
    schedule("mine.yaml", "--cron", "0 4 * * *", code=2)  # not deployed yet
    deploy("first")
    # Somebody adds schedules of their own in Prefect's pages.
    (where,) = [d["id"] for d in server.post("/deployments/filter", {}) if d["name"] == NAME]
    every = {"interval": 3600.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
    theirs = {"schedule": every, "slug": "theirs", "parameters": {"file": "theirs.yaml"}}
    server.post(f"/deployments/{where}/schedules", [{"active": True, **theirs}])

    made = schedule("mine.yaml", "--cron", "0 4 * * *", "--timezone", "Europe/Berlin")
    assert made["what"] == "the schedule was added"
    rows = {row["schedule"]: row for row in schedule()}
    assert rows.keys() == {"nightly", "theirs", "own"}
    assert (rows["own"]["state"], rows["own"]["times"]) == ("on", "0 4 * * * (Europe/Berlin)")
    assert rows["own"]["file"] == str(file) and rows["own"]["name"] == "own-{date}-{time}"
    assert rows["own"]["next"] > "2026" and rows["theirs"]["times"] == "every 3600 s (UTC)"
    assert (rows["nightly"]["state"], rows["nightly"]["next"]) == ("paused", None)

    for word, active, what in (
        ("--pause", False, "the schedule was paused"),
        ("--pause", False, "the schedule was paused before"),
        ("--resume", True, "the schedule was resumed"),
        ("--pause", False, "the schedule was paused"),
    ):
        assert schedule("own", word)["what"] == what
        assert there(server)["own"]["active"] is active
        assert there(server)["own"]["parameters"]["file"] == str(file)
    schedule("missing", "--pause", code=2)

    # New times leave it paused; a deploy that changes something leaves it, and theirs, alone.
    schedule("mine.yaml", "--cron", "0 2 * * 1", "--continue", "seeds=1")
    before = {k: (s["active"], s["schedule"], s["parameters"]) for k, s in there(server).items()}
    assert before["own"][0] is False and before["own"][1]["cron"] == "0 2 * * 1"
    assert before["own"][2] == {"file": str(file), "name": "own", "more": ["seeds=1"]}
    deploy("second")
    after = {k: (s["active"], s["schedule"], s["parameters"]) for k, s in there(server).items()}
    assert after == before
    assert {row["schedule"]: row["adds"] for row in schedule()}["own"] == "seeds=1"

    # A file that is broken, and fails each night, must not keep its schedule.
    good = file.read_text()
    file.write_text("name: own\nlearner: {algorithm: ppoo}\n")
    assert schedule("mine.yaml", "--pause") == {
        "slug": "own",
        "what": "the schedule was paused before",
    }
    file.write_text(good)

    file.unlink()
    assert schedule("own", "--off")["what"] == "the schedule was deleted"
    assert schedule("own", "--off")["what"] == "there was no schedule"
    assert there(server).keys() == {"nightly", "theirs"}


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (["0 25 * * *"], "'25' is not valid as the hour: a number from 0 to 23"),
        (["every night"], "has 2 fields, and not the five of cron"),
        (["0 0 * * mon-frii"], "'mon-frii' is not valid as the day of the week"),
        (["0 3 30 2 *"], "these times never come"),
        (["0 3 * * *", "--timezone", "Mars"], "is not a time zone"),
        (["0 3 * * l9"], "Invalid cron string"),
    ],
)
def test_times_that_cannot_be_read_are_refused_by_what_is_wrong(
    times, said, tmp_path, monkeypatch, capsys
):
    """Not by what another type of schedule would need."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(MINE)
    assert main(["schedule", "mine.yaml", "--cron", *times]) == 2
    shown = capsys.readouterr().err
    assert said in shown and "Field required" not in shown


def test_bad_times_and_a_bad_file_are_refused_together_before_prefect_is_imported(tmp_path):
    (tmp_path / "mine.yaml").write_text(MINE.replace("workload", "worklaod"))
    code = (
        "import sys\nfrom drillyard.cli.main import main\n"
        "main(['schedule', 'mine.yaml', '--cron', '61 3 * * *', '--timezone', 'Mars'])\n"
        "print('prefect' in sys.modules)"
    )
    done = run_process([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert "False" in done.stdout
    for said in ("'61' is not valid as the minute", "--timezone: is not a time zone", "worklaod"):
        assert said in done.stderr


@pytest.mark.parametrize(
    "cron",
    [
        "0 3 * * *",
        "*/5 0-12/2,20 1,15 jan-mar mon,Fri",
        "0 0 29 2 *",
        "0 0 31 * 7",
        "0 0 L * *",
        "0 0 * * 5#2",
        "0 0 30 2 mon",
        "@daily",
        "3/10 * * * *",
        "0 0 28-3 * *",
        "0 0 31 11-1 *",
    ],
)
def test_times_that_prefect_can_read_are_left_to_it(cron):
    from prefect.client.schemas.schedules import CronSchedule

    assert problems_of(cron, "Europe/Berlin") == []
    CronSchedule(cron=cron, timezone="Europe/Berlin")
