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


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Runs a notebook; the outputs of each of its cells."""
    # The kernel is this environment's own, without a kernel specification on this machine.
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("DRILLYARD_STORE", raising=False)
    # Prefect waits 20 s for the server that it starts, and this machine may be busy.
    monkeypatch.setenv("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")

    def run(name):
        for each in (name, "cartpole.yaml"):
            shutil.copy(TOP / "experiments" / each, tmp_path)
        notebook = nbformat.read(tmp_path / name, as_version=4)
        nbformat.validate(notebook)
        assert all(not cell.get("outputs") for cell in notebook.cells), "committed without outputs"
        client = nbclient.NotebookClient(
            notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute(env={**os.environ})
        return ["".join(map(str, cell.get("outputs", []))) for cell in notebook.cells]

    return run


def test_the_example_notebook_runs_and_shows_what_it_says(shown):
    outputs = shown("look.ipynb")
    assert "<experiment look: PPO on CartPole-v1" in outputs[1]
    # The line that updates itself has ended at its last text, in one output.
    assert "look: 3 of 3 runs done" in outputs[3]
    assert "<table>" in outputs[3]
    assert "image/png" in outputs[5]
    assert "SUCCEEDED" in outputs[6]
    assert "three runs each cannot decide it" in outputs[9]


def test_a_notebook_calls_the_six_tasks_and_its_own_between_them(shown):
    outputs = shown("six_tasks.ipynb")
    assert "<experiment six-tasks: PPO on CartPole-v1" in outputs[1]
    assert "'phase': 'store'" in outputs[3] and "Traceback" not in outputs[3]
    assert "SUCCEEDED" in outputs[5] and "t0001-s2" in outputs[5]
