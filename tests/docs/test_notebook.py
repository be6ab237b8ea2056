"""The example notebook, run as a person runs it: in a Jupyter kernel, cell by cell."""

import os
import shutil
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytestmark = pytest.mark.heavy
TOP = Path(__file__).parents[2]


def test_the_example_notebook_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    for name in ("look.ipynb", "cartpole.yaml"):
        shutil.copy(TOP / "experiments" / name, tmp_path)
    # The kernel is this environment's own, without a kernel specification on this machine.
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("DRILLYARD_STORE", raising=False)
    notebook = nbformat.read(tmp_path / "look.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env={**os.environ})
    shown = ["".join(map(str, cell.get("outputs", []))) for cell in notebook.cells]
    assert "<experiment look: PPO on CartPole-v1" in shown[1]
    # The line that updates itself has ended at its last text, in one output.
    assert "look: 3 of 3 runs done" in shown[3]
    assert "<table>" in shown[3]
    assert "image/png" in shown[5]
    assert "SUCCEEDED" in shown[6]
    assert "three runs each cannot decide it" in shown[9]
