"""The flow ``assess`` against a real Prefect server: tasks side by side, the table, the files."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from tests.helpers.patience import until
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from drillyard_flows.assess import assess

if __name__ == "__main__":
    found = assess(what="experiments/tank/tank.yaml", conditions="experiments/tank/starts.csv",
                   policy="hold", workers=2, out=sys.argv[1])
    print(json.dumps(found))
"""


def test_conditions_in_parallel_tasks_and_a_table(api, tmp_path):
    program = tmp_path / "assessing_by_flow.py"
    program.write_text(PROGRAM)
    done = run_process(
        [sys.executable, str(program), str(tmp_path / "out")],
        cwd=ROOT,
        more={"PREFECT_API_URL": api.url},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["episodes"] == 3
    with (tmp_path / "out" / "assessment.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["config_wanted"] for row in rows] == ["0.5", "0.5", "1.4"]
    (artifact,) = api.post(
        "/artifacts/filter", {"artifacts": {"key": {"any_": ["drillyard-assessment"]}}}
    )
    table = json.loads(artifact["data"])
    assert [row["episode_id"] for row in table] == [0, 1, 2]
    asked = {"task_runs": {"name": {"like_": "conditions from"}}}

    def completed() -> list[str] | None:
        """The server is told of a task run in the background; see ``Api.tasks``."""
        runs = api.post("/task_runs/filter", asked)
        names = sorted(run["name"] for run in runs if run["state"]["type"] == "COMPLETED")
        return names if len(names) >= 2 else None

    found = until(completed, what="the task runs", every_s=0.2)
    assert found == ["conditions from 0", "conditions from 2"]
