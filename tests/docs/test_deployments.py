"""``deployments/`` is data that Prefect reads: it must name flows and parameters that exist."""

import inspect
import pkgutil
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest
from prefect import Flow
from ruamel.yaml import YAML

from drillyard.registry import load_object
from drillyard.spec.load import load
from drillyard.spec.presets import experiment_file, statement, table
from drillyard_flows.deploying.files import desired
from drillyard_flows.form import SCHEDULED, request_of
from drillyard_flows.request import loaded_of

ROOT = Path(__file__).parents[2]


def test_every_deployment_names_a_flow_its_parameters_and_a_file_that_is_there():
    found = YAML(typ="safe").load((ROOT / "deployments" / "prefect.yaml").read_text())
    assert found["deployments"]
    for deployment in found["deployments"]:
        flow = load_object(deployment["entrypoint"])
        parameters = deployment.get("parameters", {})
        inspect.signature(flow.fn).bind(**parameters)
        assert "file" not in parameters or experiment_file(parameters["file"])


def test_every_flow_has_a_deployment():
    import drillyard_flows

    flows = set()
    for module in pkgutil.iter_modules(drillyard_flows.__path__, "drillyard_flows."):
        for found in vars(import_module(module.name)).values():
            if isinstance(found, Flow):
                flows.add(found.name)
    deployed = {load_object(d["entrypoint"]).name for d in desired().deployments}
    assert flows and flows <= deployed


def test_the_study_that_ships_is_one():
    (study,) = [d for d in desired().deployments if d["entrypoint"].endswith(":study")]
    # Whoever names a file of their own clears nothing: every other field is empty.
    assert study["parameters"].keys() == {"file"}
    request = request_of(study["parameters"])
    spec = loaded_of(request).spec
    assert spec.name == "cstr-ppo-search"
    assert spec.study is not None and spec.study.trials == 6 and spec.train.steps == 20_000
    assert request_of({"seeds": 3, "max_cost": 2.5}).sets == [
        "seeds=[1, 2, 3]",
        "budget.max_cost=2.5",
    ]


def test_a_schedule_has_a_name_for_each_of_its_runs():
    """Under one name, the second run would find everything done."""
    nights = [datetime(2026, 3, day, 3, 5, tzinfo=UTC) for day in (1, 2)]
    for parameters in ({"file": "cstr/ppo"}, {"file": "m.yaml", "name": "mine-{date}-{time}"}):
        first, second, again = [
            request_of(parameters, night, [SCHEDULED]).name for night in (*nights, nights[0])
        ]
        # The same run, repeated later, continues its own experiment.
        assert first != second and first == again
    assert request_of({"file": "cstr/ppo"}, nights[0], [SCHEDULED]).name == (
        "cstr-ppo-2026-03-01-0305"
    )
    # Whoever gives a name, or asks for a run by hand, continues that experiment.
    assert request_of({"file": "m.yaml", "name": "mine"}, nights[0], [SCHEDULED]).name == "mine"
    assert request_of({"file": "m.yaml"}, nights[0]).name is None


@pytest.mark.parametrize("entry", table(), ids=lambda entry: entry["name"])
def test_a_preset_trains_for_the_budget_that_it_was_measured_with(entry, tmp_path, monkeypatch):
    """What `list presets` prints is what `drillyard run NAME` does."""
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path))
    path = experiment_file(entry["name"])
    assert path is not None
    train = load(path).spec.train
    assert train is not None and f"{train.steps:,} steps" in statement(entry)
