"""The flow `study`: a task run a trial under one provision, one setup and one teardown."""

from __future__ import annotations

import json

from tests.flows.conftest import Bench
from tests.helpers.searches import study_file


def written(bench: Bench, **study: object) -> str:
    fails_for_b = """python -c "import sys; sys.exit('$kind' == 'b')" """
    scores = """python -c "print('score', 1)" """
    kinds = {"type": "categorical", "values": ["a", "b", "c"], "default": "a"}
    file = study_file(
        bench.folder,
        {"chooser": "grid", "confirm": 1, **study},
        {"kind": kinds},
        workload="script",
        mock=None,
        script={"run": [fails_for_b, scores], "results": {"stdout": r"(\w+) ([\d.]+)"}},
    )
    return str(file)


def test_a_trial_is_a_task_run_and_a_failed_one_stops_nothing(api, bench):
    done = bench.run("run", written(bench))
    assert done.returncode == 0, done.stdout + done.stderr
    run = api.flow_run("s")
    assert run["state_type"] == "COMPLETED"
    trials = [f"trial t000{number}" for number in (1, 2, 3, 4)]
    ran = [f"{phase} t0001-s1" for phase in ("train", "evaluate", "store")]
    found = api.tasks(run, "provision", "setup", "teardown", *trials, *ran)
    tasks = {name: t["state_type"] for name, t in found.items()}
    phases = {name: tasks.pop(name) for name in list(tasks) if "-s" in name}
    assert tasks == {
        "provision": "COMPLETED",
        "setup": "COMPLETED",
        "teardown": "COMPLETED",
        "trial t0001": "COMPLETED",
        "trial t0002": "FAILED",
        "trial t0003": "COMPLETED",
        "trial t0004": "COMPLETED",
    }
    assert {name: phases[name] for name in phases if "t0001-s1" in name} == {
        "train t0001-s1": "COMPLETED",
        "evaluate t0001-s1": "COMPLETED",
        "store t0001-s1": "COMPLETED",
    }
    assert phases["train t0002-s1"] == "FAILED" and "evaluate t0002-s1" not in phases
    assert set(bench.leases("s").values()) == {True}
    assert len(bench.leases("s")) == 1
    state = json.loads((bench.store / "s" / "study.json").read_text())
    assert (state["succeeded"], state["failed"], state["confirmed"]) == (2, 1, 4)

    again = bench.run("run", written(bench))
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert len(bench.leases("s")) == 1


def test_too_many_failed_trials_are_exit_1(api, bench):
    done = bench.run("run", written(bench, grid={"kind": ["b", "a", "c"]}, max_failures=1))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "trials have failed" in done.stderr
    assert set(bench.leases("s").values()) == {True}
