"""``drillyard deploy`` on a real server: all of it, nothing twice, and away again."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from drillyard.checks.servers import planned
from drillyard.cli.main import main
from drillyard.errors import ExitCode
from drillyard.findings import Severity
from drillyard_flows import server as embedded
from tests.flows.conftest import DRILLYARD, Api
from tests.helpers import rules
from tests.helpers.prefect_homes import copied
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
MINE = "schema: 1\nname: own\nworkload: mock\nseeds: [1]\n"


class Deployer:
    """The command on a server."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._api, self._folder = api, folder

    def __call__(self, *words: str) -> Any:
        return {(row["kind"], row["name"]): row["what"] for row in self.raw(*words)}

    def raw(self, *words: str, code: int = 0) -> Any:
        """What a command prints as JSON; None where it refuses."""
        done = run_process(
            [DRILLYARD, *words, "--json"],
            cwd=self._folder,
            more={"PREFECT_API_URL": self._api.url, "HOOK": "http://127.0.0.1:9/x"},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return None if code else json.loads(done.stdout)

    def deployment(self, name: str, flow: str) -> dict[str, Any]:
        """A deployment as the server has it."""
        (flow_id,) = [f["id"] for f in self._api.post("/flows/filter", {}) if f["name"] == flow]
        return dict(
            next(
                d
                for d in self._api.post("/deployments/filter", {})
                if d["name"] == name and d["flow_id"] == flow_id
            )
        )


def findings(api: Api) -> list[tuple[Severity, str, str, str | None]]:
    """What the doctor says of schedules that are on since a moment."""
    return [(f.severity, f.subject, f.message, f.fix) for f in planned(api.url, settled_s=-60)]


def test_all_of_it_once_and_away_again(api, tmp_path):
    deploy = Deployer(api, tmp_path)
    deploy("undeploy")  # what a test before this one left on the server
    done = deploy("deploy", "--alerts", "env:HOOK")
    assert {"experiment/nightly", "study/nightly", "reap/hourly"} <= {n for _, n in done}
    # Saving a block registers its type too, which another test may do on this server meanwhile.
    assert {what for key, what in done.items() if key[0] != "block type"} == {"new"}
    nightly = deploy.deployment("nightly", "experiment")
    assert nightly["job_variables"]["working_dir"] == str(tmp_path)
    assert nightly["parameters"] == {"file": "cstr/ppo"}
    assert [s["active"] for s in nightly["schedules"]] == [False]
    assert [s["active"] for s in deploy.deployment("hourly", "reap")["schedules"]] == [True]
    (failed,) = [
        a for a in api.post("/automations/filter", {}) if "failed or crashed" in a["name"]
    ]
    assert failed["actions"][0]["type"] == "send-notification"
    (block,) = [
        b
        for b in api.post("/block_documents/filter", {})
        if b["id"] == failed["actions"][0]["block_document_id"]
    ]
    assert block["name"] == "drillyard-alerts" and "127.0.0.1:9" not in json.dumps(block)

    # Somebody switches the nightly run on, and changes what it does.
    where = f"/deployments/{nightly['id']}"
    api.patch(where, {"parameters": {"file": "cstr/sac"}})
    api.patch(f"{where}/schedules/{nightly['schedules'][0]['id']}", {"active": True})
    # Somebody else adds a schedule of their own.
    own = {"interval": 3600.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
    added = {"active": True, "schedule": own, "parameters": {"file": "mine.yaml"}, "slug": "mine"}
    api.post(f"{where}/schedules", [added, {"active": False, "schedule": own}])
    for _ in range(2):  # a repeated command creates nothing twice
        assert set(deploy("deploy").values()) == {"updated"}
    for kind in ("deployments", "automations", "work_pools"):
        names = [(d["name"], d.get("flow_id")) for d in api.post(f"/{kind}/filter", {})]
        assert len(names) == len(set(names))
    nightly = deploy.deployment("nightly", "experiment")
    assert nightly["parameters"] == {"file": "cstr/ppo"}
    kept = {s["slug"]: (s["active"], s["parameters"]) for s in nightly["schedules"]}
    assert kept == {
        "nightly": (True, {}),
        "mine": (True, {"file": "mine.yaml"}),
        None: (False, {}),
    }

    # The form: a wrong name or a wrong type is refused when a run is asked for.
    for wrong in ({"sedes": 3}, {"seeds": "many"}, {"seeds": -1}):
        assert api.refused(f"{where}/create_flow_run", {"parameters": wrong})

    # This server has no scheduler, so nothing is planned; a run to come is enough for the doctor.
    ((severity, _, text, _),) = findings(api)
    assert severity is Severity.ERROR and "reap/hourly" in text and "study/nightly" not in text
    assert not list(planned(api.url, settled_s=1e6))  # too young to say
    later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
    for name, flow in (("hourly", "reap"), ("nightly", "experiment")):
        made = deploy.deployment(name, flow)["id"]
        api.post(f"/deployments/{made}/create_flow_run", {"state": later})
    assert findings(api) == []

    # A file of one's own gets a schedule by the command, and loses it again.
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    where_to = {"flow": "experiment", "name": "nightly"}
    for words, what in (
        (["--cron", "0 3 * * *"], "the schedule was added"),
        (["--cron", "0 3 * * *"], "the schedule is up to date"),
        (["--cron", "0 4 * * *", "--timezone", "Europe/Berlin"], "the schedule was changed"),
    ):
        assert deploy.raw("schedule", "mine.yaml", *words)["what"] == what
    (own_one,) = [s for s in deploy.deployment(**where_to)["schedules"] if s["slug"] == "own"]
    assert own_one["schedule"]["cron"] == "0 4 * * *" and own_one["active"]
    assert own_one["parameters"] == {"file": str(file), "name": "own-{date}-{time}"}
    deploy.raw("schedule", "mine.yaml", "--cron", "every night", code=2)
    deploy.raw("schedule", "mine.yaml", code=2)
    assert deploy.raw("schedule", "mine.yaml", "--off")["what"] == "the schedule was deleted"
    left = {s["slug"] for s in deploy.deployment(**where_to)["schedules"]}
    assert left == {"nightly", "mine", None}

    removed = deploy("undeploy")
    assert {n for k, n in done if k != "block type"} <= {n for _, n in removed}
    assert not any(a["name"].startswith("drillyard") for a in api.post("/automations/filter", {}))


@pytest.mark.parametrize(
    "words",
    [
        ["--cron", "0 0 30 2 *"],
        ["--cron", "0 0 31 4,6 *"],
        ["--cron", "0 2 * * 1", "--name", "same"],
        ["--cron", "0 2 * * 1", "--continue", "seeds=1", "--name", "{name}-{date}"],
        ["--cron", "0 2 * * 1", "--continue", "weeks=1"],
        ["--cron", "0 2 * * 1", "--continue", "seeds=0"],
        ["--cron", "0 2 * * 1", "--continue", "steps=5"],
        ["--cron", "0 2 * * 1", "--pause"],
        ["--continue", "seeds=1"],
        ["--name", "{date}"],
    ],
)
def test_a_schedule_that_cannot_work_is_refused_before_a_server_is_asked(
    tmp_path, monkeypatch, capsys, words
):
    (tmp_path / "mine.yaml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "drillyard_flows.prefect_api.connected", lambda: pytest.fail("it was asked")
    )
    assert main(["schedule", "mine.yaml", *words]) == ExitCode.USER_INPUT
    said = capsys.readouterr()
    assert "fix:" in said.err and "Traceback" not in said.err and not said.out


def test_the_wheel_brings_the_files(tmp_path):
    run_process(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        "from drillyard_flows.deploying import files; found = files.own_folder();"
        "print(found, *(p.name for p in sorted(found.rglob('*.yaml'))))"
    )
    done = run_process(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        check=True,
        more={"PYTHONPATH": rules.path(tmp_path / "site")},
    )
    assert done.stdout.startswith(str(tmp_path / "site/drillyard_flows/deploying/files"))
    for name in ("prefect.yaml", "work-pools.yaml", "run-failed.yaml", "dead-run.yaml"):
        assert name in done.stdout


@pytest.fixture
def offline_api(prefect_home, tmp_path, monkeypatch):
    """A server whose proxy answers nothing: it reads its own copy of Prefect's registry."""
    monkeypatch.setenv("PREFECT_HOME", str(copied(prefect_home, tmp_path / "prefect")))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    server = embedded.acquire()
    server.wait()
    yield Api(server.api_url)
    server.release()


@pytest.mark.slow
def test_prefects_own_command_takes_the_same_file(offline_api):
    """The server asks for the registry of workers on the internet; a computer may have none."""
    api = offline_api

    def prefect(*words: str) -> None:
        run_process(
            [str(Path(sys.executable).parent / "prefect"), "--no-prompt", *words],
            cwd=ROOT,
            check=True,
            more={"PREFECT_API_URL": api.url},
        )

    prefect("work-pool", "create", "drillyard-local", "--type", "process", "--overwrite")
    prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    names = {d["name"] for d in api.post("/deployments/filter", {})}
    assert {"nightly", "hourly"} <= names
    prefect("work-pool", "delete", "drillyard-local")
