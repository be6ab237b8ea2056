"""The best policy of a finished experiment in MLflow's registry: once, whoever asks how often."""

from pathlib import Path

import pytest

from drillyard.errors import ConfigError
from drillyard.mailbox.records import Phase
from drillyard.policies import bundles
from drillyard.policies.mlflow_tracker import mlflow_tracker
from drillyard.policies.model_registry import register
from drillyard.policies.register_best import register_best
from drillyard.results.collect import collect
from drillyard.spec import ExperimentSpec
from drillyard.spec.semantics import problems_of
from drillyard.testing.phases import OneRun
from tests.helpers.fixtures_store import write_experiment
from tests.unit.policies.test_export import ROLLOUT, trained_run


def evaluated(folder: Path, wrappers: list[object]) -> tuple[OneRun, dict[str, object]]:
    wanted = {"tensorboard": False, "register_as": "reactor"}
    run = trained_run(folder, "ppo", "cstr", ROLLOUT, wrappers, tracking=wanted)
    return run, run.phase(Phase.EVALUATE).summary


@pytest.mark.heavy
def test_an_evaluation_leaves_a_bundle_that_is_registered_once(tmp_path, monkeypatch):
    import mlflow  # takes two seconds
    import pandas

    monkeypatch.chdir(tmp_path)
    run, summary = evaluated(tmp_path, ["normalize"])
    assert "problems" not in summary
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for _ in range(2):
        assert register_best(run.mailbox, [run.run], "reactor", uri) == (
            "registered: t0001-s3 is version 1 of the model reactor"
        )
    client = mlflow.MlflowClient(uri)
    (version,) = client.search_model_versions("name='reactor'")
    assert client.get_run(version.run_id).data.tags["drillyard.run"] == "t0001-s3"
    model = mlflow.pyfunc.load_model(client.get_model_version_download_uri("reactor", "1"))
    states = pandas.DataFrame([{"Tr": 300.0, "Cr": 8.5, "Cref": 2.0, "Tc": 240.0}])
    assert list(model.predict(states)[0]) == ["Tc_adjust"]


@pytest.mark.heavy
def test_what_cannot_be_exported_costs_no_result(tmp_path):
    run, summary = evaluated(tmp_path, ["normalize", {"name": "frame_stack", "args": {"n": 2}}])
    (problem,) = summary["problems"]  # type: ignore[misc]
    assert problem.startswith("no bundle to register: ") and "frames were stacked" in problem
    (warning,) = collect(run.mailbox, curves=False).warnings
    assert warning == f"t0001-s3: {problem}"
    told = register_best(run.mailbox, [run.run], "reactor", "http://127.0.0.1:9")
    assert "drillyard promote export/t0001-s3 --name reactor" in told


@pytest.mark.heavy
def test_a_registration_that_was_cut_off_is_gone_on_with(tmp_path, monkeypatch):
    import mlflow  # takes two seconds

    run, _ = evaluated(tmp_path, [])
    files = run.contents(run.phase(Phase.EVALUATE))
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, data in files.items():
        if name.startswith("bundle/"):
            (tmp_path / name).write_bytes(data)
    assert bundles.read(folder)[0]["run"] == "t0001-s3"
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"

    def dies(**_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.pyfunc.log_model", dies)
        with pytest.raises(KeyboardInterrupt):
            register(folder, "reactor", uri)
    made = register(folder, "reactor", uri)
    assert made.new and made.version == 1
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("export")
    assert len(client.search_runs([experiment.experiment_id])) == 1
    with pytest.raises(ConfigError, match="cannot be the name"):
        register(folder, "models:/reactor", uri)


@pytest.mark.heavy
def test_the_mirror_asks_for_it_and_says_what_came_of_it(tmp_path):
    """An experiment that was evaluated before anybody wanted a bundle."""
    box = write_experiment(tmp_path / "store", seeds=(1,), tracking={"register_as": "reactor"})
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    report = mlflow_tracker(box, uri).sync()
    assert report.complete and "its evaluation wrote no bundle" in report.registered
    assert mlflow_tracker(box, uri).sync(trust=True).registered == report.registered


@pytest.mark.parametrize(
    "changes",
    [
        {"tracking": {"mlflow": None, "register_as": "reactor"}},
        {
            "workload": "mock",
            "simulator": None,
            "learner": None,
            "train": None,
            "mock": {},
            "tracking": {"register_as": "reactor"},
        },
    ],
)
def test_where_nothing_could_be_registered_it_is_refused(changes):
    values: dict[str, object] = {
        "name": "x",
        "simulator": {"id": "cstr"},
        "learner": {"algorithm": "ppo"},
        "train": {"steps": 64},
    }
    spec = ExperimentSpec.model_validate({**values, **changes})
    assert [p.field for p in problems_of(spec)] == ["tracking.register_as"]
