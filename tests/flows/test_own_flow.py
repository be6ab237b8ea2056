"""The six tasks in a flow that a user writes, and lost attempts as retries of their task."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import Api, Bench, lease_processes
from tests.helpers.patience import until
from tests.helpers.processes import run_process

PROGRAM = """
import json, sys
from prefect import flow, task
import drillyard
from drillyard_flows import session
from drillyard_tasks import evaluate, provision, setup, store, teardown, train

@task
def better(experiment):
    curves = drillyard.results_of(experiment.name, store=experiment.store).to_pandas("curves")
    assert set(curves["run"]) == set(experiment.runs), curves
    return experiment.runs[1:]

@flow
def mine(file, place, fail):
    with session(file, store=place) as experiment:
        lease = provision(experiment)
        setup(experiment)
        trained = [train.submit(experiment, run) for run in experiment.runs]
        if fail:
            raise ValueError("the user's own mistake")
        references = [future.result() for future in trained]
        for run in better(experiment):
            references += [evaluate(experiment, run), store(experiment, run)]
        teardown(experiment)
    return [lease, references]

file, place, name, fail = sys.argv[1:]
print(json.dumps(mine.with_options(flow_run_name=name)(file, place, fail == "fail")))
"""


def own_flow(
    bench: Bench, api: Api, file: Path, name: str, fail: str = ""
) -> subprocess.CompletedProcess[str]:
    return run_process(
        [sys.executable, "-c", PROGRAM, str(file), str(bench.store), name, fail],
        cwd=bench.folder,
        more={"PREFECT_API_URL": api.url, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
    )


def test_a_flow_of_ones_own_trains_decides_and_evaluates_what_is_good(api, bench):
    file = bench.write("own", seeds=[1, 2])
    done = own_flow(bench, api, file, "own-first")
    assert done.returncode == 0, done.stderr
    lease, references = json.loads(done.stdout)
    assert lease["backend"] == "local"
    assert [r["run"] for r in references] == ["t0001-s1"] + ["t0001-s2"] * 3
    run = api.flow_run("own-first")
    phases = ["provision", "setup", "teardown", "train t0001-s1", "train t0001-s2"]
    phases += ["evaluate t0001-s2", "store t0001-s2"]
    tasks = api.tasks(run, *phases)
    assert {name.split("-")[0] for name in tasks} == {p.split("-")[0] for p in phases} | {"better"}
    assert {tasks[name]["state"]["name"] for name in phases} == {"Completed"}
    results = bench.store / "own/runs"
    assert not (results / "t0001-s1/evaluate.accepted.json").exists()
    assert (results / "t0001-s2/store.accepted.json").exists()
    ((rented, gone),) = bench.leases("own").items()
    assert gone and lease_processes(rented) == []

    rest = bench.run("run", file, "--no-prefect")
    assert rest.returncode == 0, rest.stderr
    assert (results / "t0001-s1/store.accepted.json").exists()
    leases = bench.leases("own")

    again = own_flow(bench, api, file, "own-again")
    assert again.returncode == 0, again.stderr
    nothing = {"lease": None, "backend": None, "workers": 0}
    assert json.loads(again.stdout) == [nothing, references]
    assert "Traceback" not in again.stderr
    assert bench.leases("own") == leases, "nothing was rented"
    tasks = api.tasks(api.flow_run("own-again"), *phases)
    assert {tasks[name]["state"]["name"] for name in phases[3:]} == {"Cached"}


def test_an_exception_in_a_flow_of_ones_own_ends_the_machines(api, bench):
    simulator = {"id": "world:Slow", "args": {"step_s": 0.02}}
    done = own_flow(bench, api, bench.write("stops", simulator=simulator), "own-stops", "fail")
    assert done.returncode == 1 and "the user's own mistake" in done.stderr
    ((lease, gone),) = bench.leases("stops").items()
    assert gone and lease_processes(lease) == []
    assert not (bench.store / "stops/runs/t0001-s1/train.accepted.json").exists()


@pytest.mark.parametrize("losses", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_loss_of_a_machine_is_a_retry_of_the_task_that_waits_for_it(api, bench, losses):
    file = bench.write("retried", simulator={"id": "world:Slow", "args": {"step_s": 0.005}})
    child = bench.start("run", file)
    for steps in (128, 256)[:losses]:
        until(lambda least=steps: bench.board_step("retried") >= least, what="a checkpoint")
        for process in (p for lease in bench.leases("retried") for p in lease_processes(lease)):
            os.kill(process, signal.SIGKILL)
    assert bench.ended(child) == 0, bench.said()

    run = api.flow_run("retried")
    task = api.tasks(run, "train t0001-s1", "teardown")["train t0001-s1"]
    attempts = len([*(bench.store / "retried/claims").glob("t0001-s1.train.?.json")])
    assert task["state"]["type"] == "COMPLETED"
    assert task["run_count"] == attempts == losses + 1
    states = api.get(f"/task_run_states/?task_run_id={task['id']}")
    assert "AwaitingRetry" in [state["name"] for state in states]
    lost = [line for line in api.logs(run) if "Task run failed with exception" in line]
    assert len(lost) == losses
    assert "attempt 1 of t0001-s1.train was lost (infrastructure)" in lost[0]
    table = api.artifacts(run)["lost-attempts-retried"]
    assert table["task_run_id"] == task["id"], "beside the task's log"
    rows = json.loads(table["data"])
    assert [(row["attempt"], row["cause"]) for row in rows] == [
        (number + 1, "infrastructure") for number in range(losses)
    ]
