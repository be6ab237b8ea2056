"""The role files of ``deployments/azure`` hold for every call that is made, and grant no more.

The emulated Azure refuses each call whose operation is in no role, at the scope where it is asked.
"""

import json
import uuid
from pathlib import Path

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.backend import Liveness
from drillyard.errors import UserError
from drillyard.findings import Severity
from drillyard_backends.azure import rights, surroundings
from drillyard_backends.azure.backend import AzureBackend
from drillyard_emulators.azure.access import EVERYTHING
from tests.helpers.azure_lab import gone, named, needs_azurite, order_of, rented
from tests.helpers.patience import until

BODILESS = True

pytestmark = [needs_azurite(), pytest.mark.timeout(300)]
PLACE = Path(__file__).parents[2] / "deployments" / "azure"
TICKET = "t0001-s1.train"
ML = "Microsoft.MachineLearningServices"
OPERATIONS = {
    "locations/usages": "read",
    "locations/vmsizes": "read",
    "workspaces": "read write delete",
    "workspaces/codes/versions": "read write delete",
    "workspaces/computes": "read write delete listKeys/action listNodes/action",
    "workspaces/datastores": "read write delete listsecrets/action",
    "workspaces/environments": "read readSecrets/action write build/action",
    "workspaces/environments/versions": "read write delete",
    "workspaces/experiments": "read write delete",
    "workspaces/experiments/runs": "submit/action read write delete",
    "workspaces/jobs": "read write delete cancel/action",
    "workspaces/metadata/artifacts": "read write delete",
    "workspaces/models/versions": "read write delete",
    "workspaces/onlineEndpoints": "read write delete regeneratekeys/action score/action "
    "token/action listkeys/action",
    "workspaces/onlineEndpoints/deployments": "read getlogs/action write delete",
}
FOR_THE_SERVICE = {
    # Asked of whoever submits a job by "Manage access to Azure Machine Learning workspaces"
    # (learn.microsoft.com, "Submitting any type of run (V2)"): the service asks for them itself.
    *rights.SUBMIT,
    f"{rights.ML}/environments/read",
    f"{rights.ML}/experiments/read",
    f"{rights.ML}/metadata/codes/*/write",
}


def role(name):
    return json.loads((PLACE / name).read_text())


def permission(name):
    found = role(name)
    return {"actions": found["Actions"], "notActions": found["NotActions"]}


@pytest.fixture
def granted(azure):
    """Who drives has the roles of the files, and may assign the nodes' identity."""
    azure.ask(
        "access",
        workspace=[permission("role.json")],
        denied=[],
        subscription=[permission("quota-role.json")],
        identity=[{"actions": [rights.ASSIGN]}],
    )
    azure.ask("access")
    yield azure
    azure.ask("access", workspace=[EVERYTHING], subscription=[EVERYTHING], identity=[EVERYTHING])


@pytest.fixture
def settings(azure, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM python:3.12-slim\n# {uuid.uuid4()}\n")
    return named(azure, build=str(tmp_path), compute=None, prefix="roles")


def whole_way(azure, settings):
    """Everything that is asked for on the way of a lease, with a job that fails."""
    backend = AzureBackend(**settings)
    backend.prepare_store(backend.store_url())
    order = order_of(backend)
    found = backend.check(order)
    assert not [f for f in found if f.severity is not Severity.OK], found
    lease = rented(backend, order)
    job = backend.launch(lease, TICKET)["job"]
    until(lambda: backend.probe(lease, TICKET) is Liveness.ALIVE, what="the job")
    azure.ask("finish", name=job, code=1)
    until(lambda: backend.probe(lease, TICKET) is Liveness.GONE, what="its failure")
    backend.launch(lease, TICKET)
    list(backend.logs(lease))
    backend.cancel(lease, TICKET)
    gone(azure, backend, lease)


def test_the_role_files_hold_for_every_call_and_grant_no_more(granted, settings):
    whole_way(granted, settings)
    asked = {scope: set() for scope in ("workspace", "subscription", "identity")}
    for scope, name in granted.ask("access"):
        asked[scope].add(name.lower())
    given = {one.lower() for one in role("role.json")["Actions"]}
    assert asked["workspace"] <= given
    # What remains is what the service itself asks of who submits.
    left = given - asked["workspace"]
    assert left <= {one.lower() for one in FOR_THE_SERVICE}, left
    reads = {one.lower() for one in role("quota-role.json")["Actions"]}
    assert {name.lower() for name in asked["subscription"]} == reads


@pytest.mark.parametrize("missing", sorted({*rights.RUN, *rights.CLUSTER, *rights.ENVIRONMENT}))
def test_each_right_that_is_missing_is_named_before_anything_is_made(granted, settings, missing):
    granted.ask("access", denied=[missing])
    mark = max((e["number"] for e in granted.log("")), default=0)
    try:
        backend = AzureBackend(**settings)
        text = str([f.message for f in backend.check(order_of(backend)) if f.fix])
    except UserError as error:
        text = str(error)
    finally:
        granted.ask("access", denied=[])
    assert missing in text
    assert granted.log("^(PUT|POST|PATCH|DELETE) management", mark) == []


def test_the_role_of_endpoints_has_what_plan_asks_for():
    given = {one.lower() for one in role("endpoint-role.json")["Actions"]}
    asked = {one.lower() for one in rights.ENDPOINT}
    assert given == asked | {"microsoft.authorization/permissions/read"}


def test_the_names_of_operations_are_microsofts():
    """Those of "Azure permissions for AI + machine learning", as of writing."""
    known = {f"{ML}/{kind}/{verb}" for kind, verbs in OPERATIONS.items() for verb in verbs.split()}
    known = {one.lower() for one in (*known, *surroundings.READS)}
    for name in ("role.json", "quota-role.json", "endpoint-role.json"):
        for action in role(name)["Actions"]:
            found = action.lower().removeprefix("microsoft.authorization/permissions/read")
            assert not found or "*" in found or found in known, action
