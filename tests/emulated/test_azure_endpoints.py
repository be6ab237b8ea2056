"""A policy at a managed endpoint of the emulated Azure: deployed, asked, replaced, taken back."""

import json
import os
import re

import pytest

pytest.importorskip("azure.ai.ml")
pytest.importorskip("drillyard.policies.act")  # not onnxruntime itself: it would phone home

from drillyard.cli.main import main
from drillyard.errors import InfrastructureError
from drillyard.policies import bundles
from drillyard.policies.act import Policy
from drillyard_backends.azure import endpoints
from drillyard_backends.azure.endpoints import AzureEndpoints
from drillyard_emulators.azure.model import Physics
from tests.helpers.azure_lab import named, needs_azurite
from tests.helpers.patience import until
from tests.unit.policies.test_serving import GOOD, bundle_of

pytestmark = needs_azurite()
CHANGES = "^(PUT|DELETE) management"
ML = "Microsoft.MachineLearningServices/workspaces"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundle_of(tmp_path_factory.mktemp("deployed"), "ppo")


@pytest.fixture(autouse=True)
def here(azure, monkeypatch, tmp_path):
    """Where ``drillyard`` finds its workspace, and looks without pausing."""
    for name, value in named(azure).items():
        monkeypatch.setenv(f"DRILLYARD_AZURE_{name.upper()}", value)
    monkeypatch.setattr(endpoints, "LOOK_S", 0.1)
    monkeypatch.chdir(tmp_path)
    usual = Physics().model_dump()
    azure.physics(**usual)
    yield
    azure.physics(**usual)
    azure.ask("manager", taken=[])
    azure.clear_faults()


@pytest.fixture(scope="module")
def service(azure):
    """As the backend talks to the workspace."""
    from drillyard_backends.azure.service import Service
    from drillyard_backends.azure.settings import AzureConfig

    return Service(AzureConfig(**named(azure)))


@pytest.fixture(scope="module")
def client(service):
    """The real azure-ai-ml: it must understand what was made without it."""
    return service.client


def ask(client, tmp_path, name, states):
    path = tmp_path / "question.json"
    path.write_text(json.dumps({"states": states}))
    return json.loads(client.online_endpoints.invoke(name, request_file=str(path)))


def another(bundle, folder):
    """The same policy as a bundle of another content."""
    index, files = bundles.read(bundle)
    facts = {k: v for k, v in index.items() if k not in ("files", "schema_version")}
    bundles.write(folder, {**files, "README.md": b"another one"}, facts)
    return folder


def broken(bundle, folder):
    """A bundle whose loader fails where it is deployed."""
    index, files = bundles.read(bundle)
    facts = {k: v for k, v in index.items() if k not in ("files", "schema_version")}
    files["act.py"] = b"raise RuntimeError('no such library here')\n"
    bundles.write(folder, files, facts)
    return folder


def since(azure):
    return max((e["number"] for e in azure.log("")), default=0)


def test_a_deployed_policy_answers_as_the_bundle_does(azure, bundle, client, tmp_path, capsys):
    """It answers; the same again makes no call; a new one replaces it; then all is gone."""
    assert main(["deploy-policy", str(bundle), "--on", "azure", "--name", "reactor"]) == 0
    said = capsys.readouterr().out
    assert "reactor: deployed at https://reactor.westeurope.inference.ml.azure.com/score" in said
    assert "an hour until you run `drillyard undeploy-policy reactor --on azure`" in said
    known = Policy(bundle).act_named(GOOD)
    assert ask(client, tmp_path, "reactor", GOOD)["actions"] == pytest.approx(known, abs=1e-4)
    several = ask(client, tmp_path, "reactor", [GOOD, {**GOOD, "Tr": 310.0}])["actions"]
    assert len(several) == 2 and several[0] == pytest.approx(known, abs=1e-4)
    refused = ask(client, tmp_path, "reactor", {**GOOD, "Tr": 700.0, "Tx": 1.0})["problems"]
    assert any("outside" in t for t in refused) and any("Tx is unknown" in t for t in refused)
    (first,) = azure.state()["endpoints"]["reactor"]["deployments"]

    mark = since(azure)
    assert main(["deploy-policy", str(bundle), "--on", "azure", "--name", "reactor"]) == 0
    assert "already deployed" in capsys.readouterr().out
    assert azure.log(CHANGES, mark) == []

    new = another(bundle, tmp_path / "another")
    assert main(["deploy-policy", str(new), "--on", "azure", "--name", "reactor"]) == 0
    now = azure.state()["endpoints"]["reactor"]
    assert first not in now["deployments"] and list(now["traffic"].values()) == [100]
    assert client.online_endpoints.get("reactor").traffic == now["traffic"]

    capsys.readouterr()
    assert main(["undeploy-policy", "reactor", "--on", "azure"]) == 0
    assert azure.state()["endpoints"] == {}
    assert main(["undeploy-policy", "reactor", "--on", "azure"]) == 2


@pytest.mark.slow
def test_what_fails_is_taken_back(azure, bundle, client, tmp_path, capsys):
    """A new endpoint goes; one that answered before goes on as it was."""
    bad = broken(bundle, tmp_path / "broken")
    assert main(["deploy-policy", str(bad), "--on", "azure", "--name", "reactor"]) == 4
    assert "no such library here" in capsys.readouterr().err
    assert azure.state()["endpoints"] == {}
    assert main(["deploy-policy", str(bundle), "--on", "azure", "--name", "reactor"]) == 0
    before = azure.state()["endpoints"]
    assert main(["deploy-policy", str(bad), "--on", "azure", "--name", "reactor"]) == 4
    assert azure.state()["endpoints"] == before
    assert "actions" in ask(client, tmp_path, "reactor", GOOD)
    assert main(["undeploy-policy", "reactor", "--on", "azure"]) == 0


@pytest.mark.slow
def test_lost_answers_leave_one_endpoint_that_answers(azure, bundle, client, tmp_path):
    for what in ("/reactor\\?", "/deployments/"):
        azure.fault(what, method="PUT", lose=True, after=True, times=1)
    azure.fault("onlineEndpoints", method="DELETE", status=503, times=2)
    assert main(["deploy-policy", str(bundle), "--on", "azure", "--name", "reactor"]) == 0
    assert list(azure.state()["endpoints"]["reactor"]["traffic"].values()) == [100]
    assert "actions" in ask(client, tmp_path, "reactor", GOOD)
    assert main(["undeploy-policy", "reactor", "--on", "azure"]) == 0
    assert azure.state()["endpoints"] == {}


@pytest.mark.parametrize(
    ("words", "world", "variables", "said"),
    [
        (["--name", "My reactor"], {}, {}, "--name my-reactor"),
        ([], {}, {"ENDPOINT_SIZE": "Standard_X9"}, "Standard_X9 is not available"),
        ([], {"everywhere": 0}, {}, "the quota is 0"),
        ([], {"denied": [f"{ML}/onlineEndpoints/write"]}, {}, "onlineEndpoints/write"),
        ([], {}, {"WORKSPACE": "elsewhere"}, "no workspace 'elsewhere'"),
        (["--on", "gcp"], {}, {}, "has no managed endpoints"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    azure, bundle, monkeypatch, capsys, words, world, variables, said
):
    usual = {"everywhere": 100, "denied": []}
    for name, value in variables.items():
        monkeypatch.setenv(f"DRILLYARD_AZURE_{name}", value)
    azure.ask("manager", **{**usual, **world})
    mark = since(azure)
    try:
        assert main(["deploy-policy", str(bundle), "--on", "azure", *words]) == 2
    finally:
        azure.ask("manager", **usual)
    assert said in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert azure.log(CHANGES, mark) == []


def test_a_name_that_another_workspace_has_is_said(azure, bundle, monkeypatch, capsys):
    """Names are unique in a region: this workspace does not see who has it."""
    monkeypatch.setattr(endpoints, "TAKEN_S", 0.0)
    azure.ask("manager", taken=["reactor"])
    assert main(["deploy-policy", str(bundle), "--on", "azure", "--name", "reactor"]) == 2
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "taken by an endpoint of another workspace" in said and "another --name" in said


@pytest.mark.slow
def test_a_name_that_was_used_before_is_waited_for(azure, bundle):
    """For a while the service answers 404 to who makes an endpoint of that name."""
    deploy = ["deploy-policy", str(bundle), "--on", "azure", "--name", "again"]
    assert main(deploy) == 0
    azure.physics(forget_s=2.0)
    assert main(["undeploy-policy", "again", "--on", "azure"]) == 0
    assert main(deploy) == 0
    assert main(["undeploy-policy", "again", "--on", "azure"]) == 0


@pytest.mark.slow
def test_a_look_that_fails_takes_no_good_deployment_back(azure, bundle):
    azure.fault("/deployments/p-", method="GET", status=500, skip=1, times=8)
    deploy = ["deploy-policy", str(bundle), "--on", "azure", "--name", "looked-at"]
    assert main(deploy) == 0
    assert sum(rule["played"] for rule in azure.state()["faults"]) == 8
    assert main(["undeploy-policy", "looked-at", "--on", "azure"]) == 0


@pytest.mark.slow
def test_what_answered_before_gets_the_traffic_back_first(azure, bundle, tmp_path, monkeypatch):
    """Azure deletes no deployment that has traffic; every page of them is looked at."""
    azure.physics(page=1)
    deploy = ["deploy-policy", str(bundle), "--on", "azure", "--name", "reactor"]
    assert main(deploy) == 0
    before = azure.state()["endpoints"]
    new = another(bundle, tmp_path / "another")
    wait = AzureEndpoints._wait

    def broken(self, path):
        wait(self, path)
        if azure.state()["endpoints"]["reactor"]["traffic"] != before["reactor"]["traffic"]:
            monkeypatch.setattr(AzureEndpoints, "_wait", wait)
            raise InfrastructureError("the network is gone for once")

    monkeypatch.setattr(AzureEndpoints, "_wait", broken)
    assert main(["deploy-policy", str(new), "--on", "azure", "--name", "reactor"]) == 4
    assert azure.state()["endpoints"] == before
    assert main(["deploy-policy", str(new), "--on", "azure", "--name", "reactor"]) == 0
    (left,) = azure.state()["endpoints"]["reactor"]["deployments"]
    assert left not in before["reactor"]["deployments"]
    assert main(["undeploy-policy", "reactor", "--on", "azure"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [False, True], ids=["the first", "a second"])
def test_what_a_killed_deploy_left_is_found_and_ended_by_the_reaper(
    azure, bundle, tmp_path, monkeypatch, replaced
):
    """Its machine would be billed until somebody looks; what answers goes on."""
    if replaced:
        assert main(["deploy-policy", str(bundle), "--on", "azure", "--name", "reactor"]) == 0
        bundle = another(bundle, tmp_path / "another")
    before = azure.state()["endpoints"]
    with monkeypatch.context() as patch:

        def killed(*arguments):
            raise KeyboardInterrupt

        patch.setattr(AzureEndpoints, "_ask", killed)
        patch.setattr(AzureEndpoints, "_take_back", lambda *arguments: None)
        patch.setattr(endpoints, "UNTIL_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            AzureEndpoints(**_given()).deploy(bundle, "reactor", print)
    left = azure.state()["endpoints"]["reactor"]
    assert len(left["deployments"]) == (2 if replaced else 1)
    assert main(["reap", "--on", "azure", "--grace", "0s"]) == 0
    until(lambda: azure.state()["endpoints"] == before, what="the end of the last change")
    if replaced:
        assert main(["undeploy-policy", "reactor", "--on", "azure"]) == 0


def _given():
    prefix = "DRILLYARD_AZURE_"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and value
    }


def test_an_endpoint_of_somebody_else_is_left_alone(azure, bundle, service, capsys):
    path = f"{service.root}/onlineEndpoints/theirs"
    service.put(path, {"location": "westeurope", "properties": {"authMode": "Key"}})
    for command in (["deploy-policy", str(bundle)], ["undeploy-policy", "theirs"]):
        words = ["--name", "theirs"] if command[0] == "deploy-policy" else []
        assert main([*command, *words, "--on", "azure"]) == 2
        assert "drillyard did not make it" in capsys.readouterr().err
    assert "theirs" in azure.state()["endpoints"]

    def settled() -> bool:
        """Azure refuses to delete an endpoint that is still being created."""
        return azure.state()["endpoints"]["theirs"]["state"] == "Succeeded"

    until(settled, what="an endpoint that was created")
    service.delete(path)
