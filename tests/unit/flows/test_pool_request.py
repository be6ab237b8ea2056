"""What a pool that rents refuses before anything is rented, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drillyard.errors import ConfigError, ConfigErrors, UserError
from drillyard_flows.deploying.parts import WorkPool
from drillyard_flows.pool.request import STEP, Code, Request, environment_of
from drillyard_flows.pool.workload import _MISSING

LIMITS = {"max_hours": 1.0, "max_cost": 2.0, "max_cost_month": 10.0}
REQUEST = Request(
    flow_run="7b1c",
    attempt=0,
    variables={"backend": "local", **LIMITS},
    pool=LIMITS,
    environment={"PREFECT_API_URL": "http://127.0.0.1:4200/api"},
    code=Code("package.module:flow"),
    prefect="prefect==3.8.8",
)


@pytest.fixture(autouse=True)
def a_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_STORE", str(tmp_path / "runs"))


def with_variables(**variables: object) -> Request:
    return replace(REQUEST, variables={**REQUEST.variables, **variables})


def refusal(request: Request, folder: object) -> str:
    with pytest.raises(UserError) as refused:
        request.loaded(folder)
    error = refused.value
    problems = error.errors if isinstance(error, ConfigErrors) else [error]
    return "\n".join(f"{e.field}: {e}" for e in problems if isinstance(e, ConfigError)) or str(
        error
    )


def test_a_flow_run_is_an_experiment_of_one_run(tmp_path):
    loaded, store = REQUEST.loaded(tmp_path)
    assert loaded.spec.name == "flow-7b1c" and store == str(tmp_path / "runs")
    assert loaded.spec.budget.max_hours == 1.0 and loaded.spec.seeds == [1]
    assert replace(REQUEST, attempt=2).name == "flow-7b1c-2"
    assert (REQUEST.most, REQUEST.limit) == (0.0, 10.0)  # here costs nothing
    assert with_variables(backend="gcp/prod").most == 2.0


@pytest.mark.parametrize("name", LIMITS)
def test_a_pool_without_a_limit_is_refused(tmp_path, name):
    pool = {**LIMITS, name: None}
    assert f"{name}: " in refusal(replace(REQUEST, pool=pool), tmp_path)


def test_a_deployment_lowers_limits_and_never_raises_them(tmp_path):
    assert with_variables(max_hours=0.5).loaded(tmp_path)[0].spec.budget.max_hours == 0.5
    assert "only lower a limit" in refusal(with_variables(max_cost=2.5), tmp_path)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_machines_elsewhere_need_an_address_that_they_can_reach(tmp_path, host):
    environment = {"PREFECT_API_URL": f"http://{host}:4200/api"}
    elsewhere = replace(with_variables(backend="ssh/den"), environment=environment)
    assert "api_url: " in refusal(elsewhere, tmp_path)


def test_what_the_machines_need_is_checked_as_in_any_experiment(tmp_path):
    assert "gpuu" in refusal(with_variables(resources={"gpuu": "L4"}), tmp_path)
    assert "resources" in refusal(with_variables(resources=["L4"]), tmp_path)
    assert "nowhere" in refusal(with_variables(backend="nowhere"), tmp_path)


def test_code_travels_unless_prefect_pulls_it(tmp_path):
    steps = [{STEP: {"directory": str(tmp_path)}}]
    here = Code("jobs.py:flow", pull_steps=steps)
    assert here.folder(None) == tmp_path and not here.pulled
    assert Code("package.module:flow").folder(None) is None
    cloned = Code("jobs.py:flow", pull_steps=[{"prefect.deployments.steps.git_clone": {}}, *steps])
    assert cloned.pulled
    assert replace(REQUEST, code=cloned).order().line[1:] == [
        "-m",
        "prefect",
        "flow-run",
        "execute",
    ]
    assert replace(REQUEST, code=here).order().line[-1] == "jobs.py:flow"
    gone = replace(REQUEST, code=Code("jobs.py:flow", path="/no/such/folder"))
    assert "folder: " in refusal(gone, tmp_path)


def test_prefect_travels_to_machines_elsewhere_in_the_version_of_the_worker():
    lines = with_variables(backend="ssh/den", requirements=["pandas==2.3.3"])._spec()
    assert lines["requirements"] == ["pandas==2.3.3", "prefect==3.8.8"]
    for variables in ({"requirements": ["prefect>=3"]}, {"install_prefect": False}):
        lines = with_variables(backend="ssh/den", **variables)._spec()["requirements"]
        assert "prefect==3.8.8" not in lines
    other = with_variables(backend="ssh/den", requirements=["prefect-aws==0.5"])._spec()
    assert "prefect==3.8.8" in other["requirements"]


def test_machines_get_a_login_of_their_own_where_the_pool_names_one(monkeypatch):
    mine = {"PREFECT_API_URL": "http://a/api", "PREFECT_API_AUTH_STRING": "admin:secret"}
    assert environment_of({}, {"X": "1"}, mine) == {**mine, "X": "1"}
    monkeypatch.setenv("KEY", "pnu_123")
    theirs = environment_of({"api_login": "env:KEY", "api_url": "https://b/api"}, {}, mine)
    assert theirs == {"PREFECT_API_URL": "https://b/api", "PREFECT_API_KEY": "pnu_123"}


def test_deploy_gives_a_pool_the_limits_of_the_file_and_keeps_those_of_people():
    part = WorkPool({"name": "rented", "variables": {"max_hours": 2, "max_cost": 5}})
    fields = {"max_hours": {"default": 0.5}, "max_cost": {"default": None}}
    job = part._with_values({"variables": {"properties": fields}})
    values = {name: field["default"] for name, field in job["variables"]["properties"].items()}
    assert values == {"max_hours": 0.5, "max_cost": 5}


def test_a_flow_run_without_a_deployment_is_refused(tmp_path):
    assert "no deployment" in refusal(replace(REQUEST, code=Code("")), tmp_path)


@pytest.mark.parametrize(
    "line", ["ModuleNotFoundError: {}", 'an exception: ModuleNotFoundError("{}")']
)
def test_the_package_that_a_machine_lacks_is_read_from_the_last_words(line):
    match = _MISSING.search(line.format("No module named 'pandas.core'"))
    assert match and match["name"] == "pandas.core"
