"""Parameters, tunables and names of runs through the whole flow: command line to results."""

import json
import sys

from tests.helpers.processes import run_process

FILE = """\
name: named
workload: script
seeds: [0, 7]
run_name: "{workload}-{name}-s{seed}"
script:
  run: [[python, -c, "import os; print('width =', os.environ['width'], '\\\\nseed =', $seed)"]]
  results: {stdout: '^(\\w+) = (\\S+)'}
parameters:
  required_args: [width, folder]
  const_args: {folder: "out/$experiment_id/$run_id", depth: 1}
  tunables: {net: {params: {width: {type: int, range: [1, 512], default: 64}}}}
  tunable_params: [net]
tracking: {tensorboard: false}
"""

AGAIN = """
import json, sys
from drillyard_flows.experiment import experiment
print(json.dumps(experiment(**json.loads(sys.argv[1]))))
"""


def test_each_run_has_its_own_values_and_name(api, bench):
    file = bench.folder / "named.yaml"
    file.write_text(FILE)
    done = bench.run("run", file, "--tunable", "width=42", "--depth", "3", "--json")
    assert done.returncode == 0, done.stderr

    for seed in (0, 7):
        folder = bench.store / "named/runs" / f"t0001-s{seed}"
        record = json.loads((folder / "run.json").read_text())
        assert record["parameters"] == {
            "experiment_id": "named",
            "trial_id": 1,
            "trial_runner_id": 1 if seed == 0 else 2,
            "run_id": f"t0001-s{seed}",
            "seed": seed,
            "width": 42,
            "depth": 3,
            "folder": f"out/named/t0001-s{seed}",
        }
        accepted = json.loads((folder / "train.accepted.json").read_text())
        assert accepted["summary"]["metrics"] == {"width": 42, "seed": seed}
    flow = api.flow_run("named")
    assert flow["parameters"]["tunables"] == ["width=42"]
    assert flow["parameters"]["parameters"] == ["depth=3"]
    three = {"train script-named-s0", "evaluate script-named-s7", "store script-named-s0"}
    assert three <= set(api.tasks(flow, *three))

    from mlflow import MlflowClient  # takes a second

    client = MlflowClient(f"sqlite:///{bench.store}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "named"]
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert {"script-named-s0", "script-named-s7"} <= set(runs)
    assert runs["script-named-s7"].data.params["parameters.width"] == "42"

    changed = bench.run("run", file, "--tunable", "width=43", "--depth", "3")
    assert changed.returncode == 2
    assert "parameters.tunable_values.width: 42 -> 43" in changed.stderr
    # What the form of Prefect's UI shows is enough to start the same again: nothing is left to do.
    again = run_process(
        [sys.executable, "-c", AGAIN, json.dumps(flow["parameters"])],
        cwd=bench.folder,
        more={"PREFECT_API_URL": api.url},
    )
    assert again.returncode == 0, again.stderr
    assert set(json.loads(again.stdout)["runs"]) == {"t0001-s0", "t0001-s7"}
    assert len(list((bench.store / "named" / "leases").iterdir())) == 1
