"""What ``plan`` says of an Azure ML workspace before anything is made there."""

import uuid

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.backend import Liveness
from drillyard.errors import UserError
from drillyard.findings import Severity
from drillyard.system.clock import SYSTEM
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.service import Service
from drillyard_emulators.azure.access import EVERYTHING
from drillyard_emulators.azure.cloud import STRANGER, identity_id
from tests.helpers.azure_lab import named, needs_azurite, order_of
from tests.helpers.patience import until

pytestmark = [needs_azurite(), pytest.mark.timeout(300)]
ML = "Microsoft.MachineLearningServices"
DAY_S = 24 * 3600.0
USUAL = {
    "everywhere": 100,
    "quotas": {},
    "quota_form": "reported",
    "denied": [],
    "more_of_sizes": {},
}


@pytest.fixture
def settings(azure):
    azure.physics(processes=False)
    yield named(azure, image="mcr.example/drillyard:1", compute=None, prefix="plan")
    azure.ask("manager", **USUAL)
    azure.ask("around", locks={}, kept_days=0, hierarchical=False)
    azure.ask("access", workspace=[EVERYTHING], subscription=[EVERYTHING], identity=[EVERYTHING])


def said(settings, severity=Severity.ERROR, **order):
    """Subject to what is said of it, with its fix."""
    backend = AzureBackend(**settings)
    found = [f for f in backend.check(order_of(backend, **order)) if f.severity is severity]
    assert all(f.fix for f in found) or severity is Severity.OK
    return {f.subject: f"{f.message} | {f.fix}" for f in found}


# -- quota ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["documented", "reported"])
@pytest.mark.parametrize("low_priority", [True, False], ids=["low priority", "dedicated"])
def test_the_quota_is_read_in_both_forms_of_its_listing(azure, settings, form, low_priority):
    """Over all its pages, and not from the rows of workspaces and clusters among them."""
    given = {**settings, "low_priority": low_priority}
    azure.ask("manager", quota_form=form)
    assert said(given, workers=25) == {}
    assert "25 nodes; 100 of 100 are free" in said(given, Severity.OK, workers=25)["quota"]
    assert "104 cores" in said(given, workers=26)["quota"]
    own = {"lowPriorityCores": 8} if low_priority else {"standardFSv2Family": 8}
    azure.ask("manager", quotas=own)
    assert "8 of 8 are free | resources.workers: 2" in said(given, workers=3)["quota"]
    assert said(given, workers=2) == {}
    azure.ask("manager", quotas=dict.fromkeys(own, 0))
    assert "the quota is 0" in said(given)["quota"]


@pytest.mark.parametrize("form", ["documented", "reported"])
def test_the_region_s_total_counts_and_minus_one_is_no_limit(azure, settings, form):
    given = {**settings, "low_priority": False}
    azure.ask("manager", quota_form=form, quotas={"totalDedicatedCores": 4})
    assert "4 of 4 are free" in said(given, workers=2)["quota"]
    azure.ask("manager", quotas={"totalDedicatedCores": -1, "standardFSv2Family": -1})
    assert said(given, workers=999) == {}
    assert "there is no limit" in said(given, Severity.OK, workers=999)["quota"]
    azure.ask("manager", quotas={"lowPriorityCores": -1})
    assert "there is no limit" in said(settings, Severity.OK, workers=999)["quota"]


def test_the_build_of_an_image_needs_dedicated_cores_also_for_low_priority_nodes(
    azure, settings, tmp_path
):
    (tmp_path / "Dockerfile").write_text("FROM mcr.example/python:1\n")
    built = {**settings, "image": None, "build": str(tmp_path)}
    assert "build" not in said(built, Severity.WARNING)
    azure.ask("manager", quotas={"totalDedicatedCores": 0})
    assert "0 of 0 cores are free" in said(built, Severity.WARNING)["build"]
    assert "build" not in said(settings, Severity.WARNING), "an image is used as it is"


def test_a_quota_that_is_not_listed_is_a_note(azure, settings):
    azure.ask("manager", quota_form="nothing that is known")
    given = {**settings, "vm_size": "Standard_NC4as_T4_v3", "low_priority": False}
    sizes = {"Standard_NC4as_T4_v3": {"family": "standardOtherFamily"}}
    azure.ask("manager", quota_form="reported", more_of_sizes=sizes)
    assert said(given) == {}
    notes = said(given, Severity.WARNING)
    assert "no quota of dedicated standardOtherFamily cores" in notes["quota"]


def test_who_may_not_read_the_subscription_can_plan_all_the_same(azure, settings):
    """Sizes and usages are asked there, where a role in the workspace does not count."""
    azure.ask("access", subscription=[])
    assert said(settings) == {}
    note = said(settings, Severity.WARNING)["quota"]
    assert "cannot be checked" in note and "locations/usages/read" in note


def test_the_address_of_a_store_fits_into_a_tag(azure, settings):
    """A cluster's tag has at most 256 characters; the address of the mailbox is one."""
    backend = AzureBackend(**settings)
    url = f"{backend.store_url()}/".ljust(257, "x")
    for length in (256, 257):
        order = order_of(backend).model_copy(update={"store_url": url[:length]})
        wrong = [f.message for f in backend.check(order) if f.severity is Severity.ERROR]
        assert ("257 characters" in str(wrong)) is (length == 257), wrong


# -- around the workspace -------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "workspace"], ids=["the group", "the workspace"])
@pytest.mark.parametrize("level", ["CanNotDelete", "ReadOnly"])
def test_a_lock_that_keeps_idle_nodes_is_said(azure, settings, inside, level):
    """Azure's guide: a lock of the workspace's resource group prevents scaling operations."""
    root = Service(AzureBackend(**settings).config).root
    group = root.partition("/providers/")[0]
    azure.ask("around", locks={root if inside else group: level})
    note = said(settings, Severity.WARNING)["lock"]
    assert level in note and "nodes" in note and "az lock delete" in note
    assert said(settings) == {}
    azure.ask("around", locks={f"{group}/providers/Microsoft.KeyVault/vaults/other": level})
    assert "lock" not in said(settings, Severity.WARNING)


def test_an_account_that_keeps_what_is_overwritten_is_said(azure, settings):
    """Heartbeats are overwritten every few seconds, and each of them is kept and billed."""
    azure.ask("around", kept_days=7)
    note = said(settings, Severity.WARNING)["store"]
    assert "7 days" in note and "soft delete" in note
    azure.ask("around", kept_days=0)
    assert "store" not in said(settings, Severity.WARNING)


def test_an_account_with_real_folders_is_refused_by_plan(azure, settings):
    azure.ask("around", hierarchical=True)
    assert "hierarchical namespace" in said(settings)["store"]


def test_who_may_not_read_what_is_around_the_workspace_can_plan_all_the_same(azure, settings):
    azure.ask("around", kept_days=7, locks={"/subscriptions/s": "ReadOnly"})
    azure.ask("access", subscription=[])
    notes = said(settings, Severity.WARNING)
    assert said(settings) == {} and set(notes) == {"quota"}


# -- sizes ----------------------------------------------------------------------------------------


def test_a_gpu_that_a_size_does_not_have_is_refused_before_a_node_is_rented(azure, settings):
    """By the service's own catalogue of sizes."""
    assert (
        "each run needs 1 GPU, and a node Standard_F4s_v2 has none"
        in said(settings, gpus=1)["gpus"]
    )
    given = {**settings, "vm_size": "Standard_NC4as_T4_v3"}
    assert said(given, gpus=1) == {}
    assert "needs 2 GPU" in said(given, gpus=2)["gpus"]
    azure.ask("manager", more_of_sizes={"Standard_NC4as_T4_v3": {"gpus": None}})
    assert said(given, gpus=2) == {}  # the service does not say: nobody is refused


def priced(low, dedicated, currency="USD"):
    """What the service tells of a size, in the form of its specification's example."""
    tiers = {"LowPriority": low, "Standard": dedicated}
    return {
        "Standard_F4s_v2": {
            "estimatedVMPrices": {
                "billingCurrency": currency,
                "unitOfMeasure": "OneHour",
                "values": [
                    {"retailPrice": 99.0, "osType": "Windows", "vmTier": "Standard"},
                    *(
                        {"retailPrice": p, "osType": "Linux", "vmTier": t}
                        for t, p in tiers.items()
                    ),
                ],
            }
        }
    }


def test_a_price_that_the_service_tells_higher_than_the_table_is_said(azure, settings):
    """``max_cost`` is reckoned with the table: F4s_v2 costs 0.194 USD, a fifth at low priority."""
    dedicated = {**settings, "low_priority": False}
    azure.ask("manager", more_of_sizes=priced(0.04, 0.2))
    for given in (settings, dedicated):
        assert "prices" not in said(given) | said(given, Severity.WARNING)
    azure.ask("manager", more_of_sizes=priced(0.05, 0.3))
    assert "0.05 USD" in said(settings, Severity.WARNING)["prices"]
    note = said(dedicated, Severity.WARNING)["prices"]
    assert "0.3 USD" in note and "0.194" in note and "DRILLYARD_AZURE_PRICES" in note
    azure.ask("manager", more_of_sizes=priced(0.05, 0.5))
    assert "2.6 times" in said(dedicated)["prices"]  # max_cost could not be kept
    azure.ask("manager", more_of_sizes=priced(5, 5, "EUR"))
    assert said(dedicated) == {}


def test_a_size_that_clusters_cannot_have_is_refused(azure, settings):
    sizes = {"Standard_F4s_v2": {"supportedComputeTypes": ["ComputeInstance"]}}
    azure.ask("manager", more_of_sizes=sizes)
    assert "only as ComputeInstance" in said(settings)["vm_size"]
    azure.ask("manager", more_of_sizes={"Standard_F4s_v2": {"lowPriorityCapable": False}})
    assert said(settings) == {}  # the service's word on that has been wrong
    assert (
        "at low priority: its nodes may never start" in said(settings, Severity.WARNING)["vm_size"]
    )


# -- rights ---------------------------------------------------------------------------------------

SCIENTIST = {
    "actions": [f"{ML}/workspaces/*/{verb}" for verb in ("read", "action", "delete", "write")],
    "notActions": [
        f"{ML}/workspaces/write",
        f"{ML}/workspaces/computes/*/write",
        f"{ML}/workspaces/computes/*/delete",
    ],
}
OPERATOR = {"actions": [f"{ML}/workspaces/computes/*"], "notActions": []}


def test_the_usual_roles_are_enough_and_what_is_missing_is_named_with_its_role(azure, settings):
    may_ask = {"actions": ["Microsoft.Authorization/permissions/read"]}
    azure.ask("access", workspace=[SCIENTIST, may_ask])
    assert "computes/write" in (told := said(settings)["rights"])
    assert "computes/delete" in told and "AzureML Compute Operator" in told
    assert "jobs" not in told and "Data Scientist" not in told
    azure.ask("access", workspace=[SCIENTIST, OPERATOR, may_ask])
    assert said(settings) == {}
    azure.ask("access", workspace=[OPERATOR, may_ask])
    with pytest.raises(UserError, match="datastores/read"):
        said(settings)


def test_rights_that_cannot_be_asked_for_are_a_note(azure, settings):
    azure.ask("access", workspace=[SCIENTIST, OPERATOR])
    assert said(settings) == {}
    assert "cannot be checked" in said(settings, Severity.WARNING)["rights"]


def test_what_the_guide_asks_of_who_submits_jobs_is_a_note(azure, settings):
    azure.ask("manager", denied=[f"{ML}/workspaces/environments/build/action"])
    assert said(settings) == {}
    assert "environments/build/action" in said(settings, Severity.WARNING)["rights"]


def test_who_may_not_assign_the_identity_is_told_before_the_cluster_is_refused(azure, settings):
    azure.ask("access", identity=[])
    told = said(settings)["identity"]
    assert "userAssignedIdentities/assign/action" in told and "Managed Identity Operator" in told
    settings["identity"] = identity_id("nobody")
    assert "there is no /subscriptions" in said(settings)["identity"]


# -- clusters -------------------------------------------------------------------------------------


def kept(azure, settings, **state):
    """Settings that name a cluster which is there, in some state."""
    settings = {**settings, "compute": f"kept-x{uuid.uuid4().hex[:6]}"}
    backend = AzureBackend(**settings)
    lease = backend.provision(order_of(backend))
    until(lambda: backend.probe(lease) is Liveness.ALIVE, what="the cluster")
    azure.ask("cluster", name=settings["compute"], **state)
    return settings


@pytest.mark.parametrize("state", ["Failed", "Canceled", "Deleting"])
def test_a_kept_cluster_that_cannot_be_used_is_refused(azure, settings, state):
    errors = [{"code": "ClusterCoreQuotaReached", "message": "The quota was reached."}]
    told = said(kept(azure, settings, state=state, errors=errors))["compute"]
    assert f"is in state {state.lower()}: ClusterCoreQuotaReached: The quota" in told


def test_errors_of_a_kept_cluster_are_a_note(azure, settings):
    errors = [{"code": "UnsupportedVMSizeForLowPriority", "message": "not allowed"}]
    given = kept(azure, settings, errors=errors)
    assert said(given) == {}
    assert "UnsupportedVMSizeForLowPriority" in said(given, Severity.WARNING)["compute"]


def test_as_whom_jobs_read_the_store_is_looked_at(azure, settings):
    """A new cluster's own identity has no role yet; one that is there may have got one."""
    assert "every job would fail" in said({**settings, "identity": None})["identity"]
    given = kept(azure, settings, identity={"type": "SystemAssigned"})
    assert said({**given, "identity": None}) == {}
    assert "has another identity" in said(given)["identity"]
    other = {"type": "UserAssigned", "userAssignedIdentities": {identity_id(STRANGER): {}}}
    azure.ask("cluster", name=given["compute"], identity=other)
    assert f"has another identity: {identity_id(STRANGER).lower()}" in said(given)["identity"]
    azure.ask("cluster", name=given["compute"], identity={"type": "None"})
    assert "has no identity" in said({**given, "identity": None})["identity"]


@pytest.mark.parametrize("name", ["drillyard-2", "ab", "a" * 25])
def test_a_name_that_some_source_refuses_is_a_note(settings, name):
    given = {**settings, "compute": name}
    assert said(given) == {}
    assert "may refuse" in said(given, Severity.WARNING)["compute"]


# -- the rest -------------------------------------------------------------------------------------


def test_a_job_lives_three_weeks_and_at_low_priority_one(settings):
    now = SYSTEM.now()
    assert "7 days" in said(settings, deadline=now + 8 * DAY_S)["budget.max_hours"]
    dedicated = {**settings, "low_priority": False}
    assert said(dedicated, deadline=now + 8 * DAY_S) == {}
    assert "21 days" in said(dedicated, deadline=now + 22 * DAY_S)["budget.max_hours"]


def test_an_experiment_with_dots_in_its_name_can_be_submitted(azure, settings):
    """Azure ML takes none in the name of an experiment."""
    backend = AzureBackend(**settings)
    order = order_of(backend).model_copy(update={"experiment": "v1.2"})
    lease = backend.provision(order)
    until(lambda: backend.probe(lease) is Liveness.ALIVE, what="the cluster")
    name = backend.launch(lease, "t0001-s1.train")["job"]
    assert azure.state()["jobs"][name]["experiment"] == "v1-2"
    backend.teardown(lease)


def test_what_a_kept_cluster_costs_is_no_promise_of_nothing(settings):
    backend = AzureBackend(**{**settings, "compute": "kept"})
    notes = {part.what: part.note for part in backend.estimate(order_of(backend)).parts}
    assert "load balancer" in notes["compute cluster"]
