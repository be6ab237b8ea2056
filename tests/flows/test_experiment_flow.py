"""The flow on the local backend with real training, seen through Prefect's own API."""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode
from dataclasses import dataclass

import pytest

from tests.flows.conftest import Bench, lease_processes

NAME = "six-phases"


@dataclass
class Finished:
    """One experiment that several tests look at, and go on with."""

    bench: Bench
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def finished(api, tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("finished"))
    file = bench.write(NAME, seeds=[1, 2], baselines=["random"])
    yield Finished(bench, bench.run("run", file, "--json"))
    bench.give_back(NAME)


def test_six_phases_are_task_runs_with_artifacts(api, finished):
    bench, done = finished.bench, finished.done
    assert done.returncode == 0, done.stderr

    run = api.flow_run(NAME)
    assert run["state"]["type"] == "COMPLETED"
    assert {"drillyard", "experiment:six-phases", "backend:local", "algorithm:ppo"} <= set(
        run["tags"]
    )
    phases = ("train", "evaluate", "store")
    every = ["provision", "setup", "teardown"]
    every += [f"{phase} t0001-s{s}" for phase in phases for s in (1, 2)]
    tasks = api.tasks(run, *every)
    states = {name: task["state"]["type"] for name, task in tasks.items()}
    assert states == dict.fromkeys(every, "COMPLETED")
    assert "experiment:six-phases" in tasks["train t0001-s1"]["tags"]
    assert "algorithm:ppo" in tasks["train t0001-s1"]["tags"]
    # Tags cost a request for slots each, and seconds when the database is busy.
    assert all(task["tags"] == [] for name, task in tasks.items() if "train" not in name)

    # Prefect's page draws each phase of a run after the phase before it.
    for seed in (1, 2):
        ids = [tasks[f"{phase} t0001-s{seed}"]["id"] for phase in phases]
        waited = [tasks[f"{phase} t0001-s{seed}"]["task_inputs"] for phase in phases]
        assert [[one["id"] for one in each.get("wait_for", [])] for each in waited] == [
            [],
            ids[:1],
            ids[1:2],
        ]

    artifacts = api.artifacts(run)
    assert artifacts["progress-six-phases-t0001-s1"]["data"] == 100.0
    table = json.loads(artifacts["results-six-phases"]["data"])
    assert {row["policy"] for row in table} == {"agent", "random"}
    curve = artifacts["learning-curve-six-phases"]["data"]
    assert b64decode(curve.partition("data:image/png;base64,")[2].partition(")")[0])[1:4] == b"PNG"
    assert "index.html" in artifacts["report-six-phases"]["data"]
    assert f"drillyard watch {NAME} --store" in artifacts[f"live-{NAME}"]["data"]
    assert any("t0001-s2.train: attempt 1 accepted" in line for line in api.logs(run))

    # The numbers in Prefect, on standard output and in the mailbox are the same ones.
    printed = json.loads(done.stdout)
    agent = next(p for p in printed["policies"] if p["policy"] == "agent")
    assert next(r for r in table if r["policy"] == "agent")["mean return"] == float(
        f"{agent['mean_return']:.6g}"
    )
    accepted = bench.store / "six-phases/runs/t0001-s1/store.accepted.json"
    assert json.loads(accepted.read_text())["status"] == "SUCCEEDED"
    ((lease, gone),) = bench.leases("six-phases").items()
    assert gone and lease_processes(lease) == []
    # What the driver itself took is in the report, although it is built before the driver ends.
    report = (bench.store / "six-phases/report/index.html").read_text()
    timed = report[report.index("Wall-clock time of each phase") :]
    timed = timed[: timed.index("</table>")]
    for phase in ("provision", "setup", "train", "evaluate", "store", "teardown"):
        assert phase in timed


def test_the_same_command_again_rents_nothing_and_needs_no_prefect(api, finished):
    bench = finished.bench
    flow, leases = api.flow_run(NAME)["id"], bench.leases(NAME)
    file = bench.write(NAME, seeds=[1, 2], baselines=["random"])

    done = bench.run("launch", file)  # `run` by its other name

    assert done.returncode == 0
    assert "nothing to do" in done.stderr and "Prefect:" not in done.stderr
    assert api.flow_run(NAME)["id"] == flow
    assert bench.leases(NAME) == leases
    assert "t0001-s1" in done.stdout  # the results are shown all the same


def test_finished_runs_come_from_the_cache_which_is_not_believed_about_damage(api, finished):
    bench, folder = finished.bench, finished.bench.store / NAME
    weights = next((folder / "runs/t0001-s2").rglob("policy_final.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)

    done = bench.run("run", bench.write(NAME, seeds=[1, 2, 3], baselines=["random"]))

    assert done.returncode == 0, done.stderr
    trained = [f"train t0001-s{seed}" for seed in (1, 2, 3)]
    tasks = api.tasks(api.flow_run(NAME), "provision", *trained, "teardown")
    assert tasks["train t0001-s1"]["state"]["name"] == "Cached"
    assert tasks["train t0001-s2"]["state"]["name"] == "Completed"
    assert tasks["train t0001-s3"]["state"]["name"] == "Completed"
    # A lease must be rented and torn down again, whatever is remembered.
    assert tasks["provision"]["state"]["name"] == tasks["teardown"]["state"]["name"] == "Completed"
    claims = sorted(p.name for p in (folder / "claims").glob("*train*"))
    assert [c for c in claims if "ended" not in c] == [
        "t0001-s1.train.1.json",
        "t0001-s2.train.1.json",
        "t0001-s2.train.2.json",
        "t0001-s3.train.1.json",
    ]
    accepted = json.loads((folder / "runs/t0001-s2/train.accepted.json").read_text())
    assert accepted["attempt"] == 2


def test_a_failed_run_is_shown_the_other_one_finishes_and_nothing_is_left(api, bench):
    # Episodes have 20 steps: the world breaks in its first copy after 100 of them.
    file = bench.write(
        "fails", simulator={"id": "world:Slow", "args": {"step_s": 0.0, "fail_at": 100}}
    )
    done = bench.run("run", file)

    assert done.returncode == 1
    assert "the pump is dry" in done.stderr
    assert "drillyard logs fails/t0001-s1" in done.stderr
    said = done.stderr.lower().replace("prefect: http", "").replace("prefect's api", "")
    assert "prefect" not in said
    run = api.flow_run("fails")
    assert run["state"]["type"] == "FAILED"
    tasks = api.tasks(run, "train t0001-s1", "teardown")
    assert tasks["train t0001-s1"]["state"]["type"] == "FAILED"
    assert tasks["teardown"]["state"]["type"] == "COMPLETED"
    assert "evaluate t0001-s1" not in tasks, "nothing comes after a training that failed"
    ((lease, gone),) = bench.leases("fails").items()
    assert gone and lease_processes(lease) == []
