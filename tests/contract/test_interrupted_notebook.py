"""The interrupt button of a notebook: the cell ends what it rented, and runs again at once."""

import os
from pathlib import Path

import pytest

from tests.flows.conftest import lease_processes
from tests.helpers import rules
from tests.helpers.patience import PATIENCE_S, until

manager = pytest.importorskip("jupyter_client.manager")
pytest.importorskip("ipykernel")
pytestmark = [pytest.mark.heavy, pytest.mark.extended]
ROOT = Path(__file__).parents[2]
WORK = "touch {flags}/at-work; while [ ! -e {flags}/gate ]; do sleep 0.1; done"
FILE = f"""
name: held
workload: script
script: {{{{run: [[sh, -c, '{WORK}']]}}}}
tracking: {{{{mlflow: null}}}}
"""
STAGED = f"""
name: held
workload: composite
tracking: {{{{mlflow: null}}}}
children:
  - name: first
    workload: script
    resources: {{{{workers: 1}}}}
    script: {{{{run: [[sh, -c, '{WORK}']]}}}}
"""
CELL = "drillyard.run('held.yaml', store='../runs', flow=False, report=False).status"


@pytest.mark.parametrize("text", [FILE, STAGED], ids=["plain", "stages"])
def test_an_interrupted_cell_runs_again(text, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    project = tmp_path / "project"
    project.mkdir()
    (project / "held.yaml").write_text(text.format(flags=tmp_path))
    env = {**os.environ, "PYTHONPATH": rules.path(ROOT), "DRILLYARD_HOME": str(tmp_path / "home")}
    kernel, client = manager.start_new_kernel(cwd=str(project), env=env)
    try:
        client.execute_interactive("import drillyard", timeout=PATIENCE_S)
        cell = client.execute(CELL)
        until((tmp_path / "at-work").exists, what="work")
        kernel.interrupt_kernel()
        until(lambda: [*tmp_path.glob("runs/*/control/cancel.json")], what="the order to stop")
        reply = client.get_shell_msg(timeout=PATIENCE_S)
        while reply["parent_header"].get("msg_id") != cell:
            reply = client.get_shell_msg(timeout=PATIENCE_S)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        leases = [path for path in tmp_path.glob("runs/*/leases/*") if path.is_dir()]
        assert leases and all((path / "gone.json").exists() for path in leases)
        assert not any(lease_processes(path.name) for path in leases)
        (tmp_path / "gate").touch()
        again = client.execute_interactive(CELL, timeout=PATIENCE_S, output_hook=lambda m: None)
        assert again["content"]["status"] == "ok", again["content"]
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
