"""The MLflow of the emulated workspace as the tracking target of a run."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.checks.experiment import check
from drillyard.errors import ConfigError, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.spec.load import load
from drillyard.tracking.mlflow_mirror import MlflowMirror
from drillyard.tracking.params_and_tags import NAME_TAG
from drillyard.tracking.points import AZURE_NAMES, Point, as_in_azure
from drillyard.tracking.server import LEFT_OUT, Server
from drillyard_backends.azure.mlflow_store import address
from tests.helpers.azure_lab import named, needs_azurite
from tests.helpers.patience import PATIENCE_S

pytestmark = needs_azurite()
DRILLYARD = str(Path(sys.executable).parent / "drillyard")
FILE = """schema: 1
name: charted
workload: rl
simulator: {id: cstr}
learner: {algorithm: ppo, args: {n_steps: 64, batch_size: 64}}
train: {steps: 256, n_envs: 1}
evaluate: {episodes: 1}
seeds: [1]
baselines: []
resources: {threads: 1, device: cpu}
tracking: {mlflow: "azureml://"}
"""


@pytest.fixture
def settings(azure, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in named(azure).items():
        monkeypatch.setenv(f"DRILLYARD_AZURE_{name.upper()}", value)


def curve(client, run_id, key):
    return [(m.step, m.value) for m in client.get_metric_history(run_id, key)]


@pytest.mark.slow
def test_the_curves_of_a_run_are_charted_in_the_workspace(azure, settings, tmp_path):
    """Under our names and Azure's; sent twice they are there once; a lost answer doubles none."""
    (tmp_path / "charted.yaml").write_text(FILE)
    azure.fault("/mlflow/.*log-batch", lose=True, after=True, times=1)
    subprocess.run(
        [DRILLYARD, "run", "charted.yaml", "--store", "here"],
        cwd=tmp_path,
        check=True,
        timeout=PATIENCE_S,
    )
    report = MlflowMirror(Mailbox(open_store("here"), "charted"), "azureml://").sync()
    assert report.complete, report
    from mlflow import MlflowClient  # takes a second

    client = MlflowClient("azureml://")
    experiment = client.get_experiment_by_name("charted")
    (run,) = [
        r
        for r in client.search_runs([experiment.experiment_id])
        if r.data.tags[NAME_TAG] == "t0001-s1"
    ]
    assert run.info.status == "FINISHED"
    for ours, theirs in AZURE_NAMES.items():
        points = curve(client, run.info.run_id, ours)
        assert points and points == curve(client, run.info.run_id, theirs)
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)) and steps[-1] == 256
    assert run.data.tags["drillyard.results"].endswith("/charted/runs/t0001-s1/")


def test_no_more_is_sent_than_a_workspace_takes(azure, settings):
    """50 metrics of a run, 250 values at once, 200 parameters: the rest is told of once."""
    server = Server("azureml://")
    run = server.create(server.experiment("limits"), "run", {}, 1_000.0)
    remote = server.run(run)
    learned = [f"train/m{n:02}" for n in range(60)]
    machines = [f"time/m{n:02}" for n in range(30)]
    names = [*machines, *learned, "rollout/ep_rew_mean", "episode_reward_mean"]
    points = [Point(name, float(step), step, step) for step in range(7) for name in names]
    server.send_points(remote, points)
    server.send_params(remote, {f"p{n:03}": "x" * 900 for n in range(250)})
    server.send_tags(remote, {f"t{n:02}": "y" * 1500 for n in range(80)})
    found = server.run(run)
    assert len(found.floors) == 50 and set(found.floors.values()) == {6}
    assert {"rollout/ep_rew_mean", "episode_reward_mean"} <= set(found.floors)
    assert sum(name in found.floors for name in learned) >= 36
    assert len(found.params) == 200 and len(found.tags) == 50
    assert found.tags[LEFT_OUT].startswith("42 metrics: ")
    # Another mirror, which knows nothing of the first one, sends the same ones again.
    again = server.run(run)
    assert server.send_points(again, [Point(name, 9.0, 9, 9) for name in names]) == 50


def test_where_a_workspace_answers(azure, settings):
    where = azure.workspace
    scope = (
        f"/subscriptions/{where['subscription_id']}/resourceGroups/{where['resource_group']}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{where['workspace_name']}"
    )
    there = f"https://westeurope.api.azureml.ms/mlflow/v2.0{scope}"
    assert address("azureml://") == there
    assert address(f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{scope}") == there
    with pytest.raises(UserError, match="is not the address of a workspace"):
        address("azureml://westeurope.api.azureml.ms")


def test_a_workspace_that_is_not_there_is_said_before_the_run(
    azure, settings, monkeypatch, tmp_path
):
    monkeypatch.setenv("DRILLYARD_AZURE_WORKSPACE", "elsewhere")
    # MLflow keeps its clients by their address: this spelling has none yet.
    (tmp_path / "charted.yaml").write_text(FILE.replace("azureml://", "azureml:///"))
    findings = check(load(tmp_path / "charted.yaml"))
    (found,) = [f for f in findings if "elsewhere" in f.message]
    assert found.subject == "tracking.mlflow" and "az ml workspace list" in str(found.fix)


def test_files_in_the_workspace_are_refused(tmp_path):
    path = tmp_path / "charted.yaml"
    path.write_text(FILE + "store: [{url: mlflow}]\n")
    with pytest.raises(ConfigError, match="stores files only"):
        load(path)


def test_curves_have_their_names_in_azure_beside_ours():
    points = [Point("rollout/episodes", 7.0, 1, 2), Point("train/loss", 1.0, 1, 2)]
    assert list(as_in_azure(points)) == [
        points[0],
        Point("episodes_total", 7.0, 1, 2),
        points[1],
    ]
