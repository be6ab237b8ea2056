"""The flow ``promote`` against a real Prefect server and a real registry."""

import json
import sys
from pathlib import Path

from drillyard.agents.trained import trained
from drillyard.policies.export import export
from tests.helpers import rules
from tests.helpers.processes import run_process
from tests.unit.policies.test_export import ROLLOUT, trained_run

PROGRAM = """
import json, sys
from drillyard_flows.promote import promote

policy, uri = sys.argv[1:]
made = [promote(policy, "reactor", episodes=3, tracking=uri) for _ in range(2)]
print(json.dumps(made))
"""


def test_the_decision_is_a_table_in_prefect(api, tmp_path):
    run = trained_run(tmp_path / "store", "ppo", "cstr", ROLLOUT, ["normalize"])
    with trained(run.mailbox, run.run) as policy:
        export(policy, "onnx", tmp_path / "bundle")
    root = str(Path(__file__).parents[2])
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = run_process(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "bundle"), uri],
        cwd=tmp_path,
        more={"PREFECT_API_URL": api.url, "PYTHONPATH": rules.path(root)},
    )
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert first["promoted"] and not second["promoted"] and second["champion"] == 1
    table = api.artifacts(api.flow_run("promote-reactor"))["drillyard-promote"]
    assert json.loads(table["data"])[0]["model"] == "reactor"
