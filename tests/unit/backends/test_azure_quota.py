"""What Azure's listing of quotas and its permissions say, in the forms that the service writes."""

import pytest
from azure.core.exceptions import HttpResponseError

from drillyard.errors import NoCapacity, UserError
from drillyard_backends.azure import quota
from drillyard_backends.azure.errors import translated
from drillyard_backends.azure.permissions import allowed

ML = "Microsoft.MachineLearningServices"
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"
WORKSPACE = f"{SUBSCRIPTION}/resourceGroups/rg/providers/{ML}/workspaces/ws/usages"


def row(kind, name, used, limit, where=f"{SUBSCRIPTION}/usages"):
    return {
        "id": where,
        "type": f"{ML}/{kind}/usages",
        "currentValue": used,
        "limit": limit,
        "name": {"value": name, "localizedValue": name},
        "unit": "Count",
    }


# Rows of the example in the service's specification (Usage/list.json), with its odd "workspace".
DOCUMENTED = [
    row("totalCores", "Clusters", 7, 100),
    row("dedicatedCores", "Total Cluster Dedicated Regional vCPUs", 14, 24),
    row("vmFamily", "Standard D Family Cluster Dedicated vCPUs", 0, 48),
    row("vmFamily", "Standard DSv2 Family Cluster Dedicated vCPUs", 2, 24),
    row("workspaces", "Standard DSv2 Family Cluster Dedicated vCPUs", 2, 1, WORKSPACE),
    row("workspace/computes", "Standard DSv2 Family Cluster Dedicated vCPUs", 2, 0, WORKSPACE),
    row("lowPriorityCores", "Total Cluster LowPriority Regional vCPUs", 18, 50),
    row("vmFamily", "Standard DSv2 Family Cluster LowPriority vCPUs", 0, -1),
    row("vmFamily", "Standard NC Family Cluster LowPriority vCPUs", 18, -1),
]
# As public scripts read it from the service: one name twice, told apart by type.
REPORTED = [
    row("vmFamily/lowPriorityCores", "standardDSv2Family", 0, -1),
    row("vmFamily/dedicatedCores", "standardDSv2Family", 2, 24),
    row("vmFamily/dedicatedCores", "standardDSv2PromoFamily", 0, 0),
    row("lowPriorityCores", "TotalLowPriorityCores", 18, 50),
    row("dedicatedCores", "TotalDedicatedCores", 14, 24),
    row("workspaces/vmFamily/dedicatedCores", "standardDSv2Family", 2, 0, WORKSPACE),
]


@pytest.mark.parametrize("usages", [DOCUMENTED, REPORTED], ids=["documented", "reported"])
def test_the_rows_of_a_family_are_found_in_both_forms(usages):
    """Those of the subscription: the family's and the region's total; -1 is no limit."""
    found = quota.rows(usages)
    dedicated = quota.of(found, "standardDSv2Family", low_priority=False)
    assert sorted((r.used, r.limit) for r in dedicated) == [(2, 24), (14, 24)]
    low = quota.of(found, "standardDSv2Family", low_priority=True)
    assert sorted((r.used, r.limit or -1) for r in low) == [(0, -1), (18, 50)]
    assert {r.free for r in low} == {32, None}


def test_rows_that_are_not_understood_are_left_out():
    odd = [
        {},
        {"id": None, "type": None, "name": None},
        row("dedicatedCores", "x", 0, None),
        {**row("vmFamily", "standardXFamily", 0, 1), "limit": "many"},
        row("somethingNew", "Endpoints", 1, 2),
    ]
    assert quota.rows(odd) == []


def test_a_family_that_is_not_listed_has_no_row_of_its_own():
    found = quota.of(quota.rows(REPORTED), "standardNCASv3_T4Family", low_priority=False)
    assert [r.name for r in found] == ["TotalDedicatedCores"]


# -- permissions ----------------------------------------------------------------------------------

# The texts of the built-in roles, as Microsoft's list of them has them.
SCIENTIST = {
    "actions": [
        f"{ML}/workspaces/*/read",
        f"{ML}/workspaces/*/action",
        f"{ML}/workspaces/*/delete",
        f"{ML}/workspaces/*/write",
    ],
    "notActions": [
        f"{ML}/workspaces/delete",
        f"{ML}/workspaces/write",
        f"{ML}/workspaces/computes/*/write",
        f"{ML}/workspaces/computes/*/delete",
        f"{ML}/workspaces/computes/listKeys/action",
        f"{ML}/workspaces/listKeys/action",
    ],
}
OPERATOR = {
    "actions": [f"{ML}/workspaces/computes/*", f"{ML}/workspaces/notebooks/vm/*"],
    "notActions": [],
}


@pytest.mark.parametrize(
    ("role", "action", "may"),
    [
        # "can perform all actions within a workspace, except for creating or deleting compute
        # resources and modifying the workspace itself"
        (SCIENTIST, "workspaces/read", True),
        (SCIENTIST, "workspaces/jobs/write", True),
        (SCIENTIST, "workspaces/jobs/cancel/action", True),
        (SCIENTIST, "workspaces/environments/versions/write", True),
        (SCIENTIST, "workspaces/datastores/listSecrets/action", True),
        (SCIENTIST, "workspaces/write", False),
        (SCIENTIST, "workspaces/computes/read", True),
        (SCIENTIST, "workspaces/computes/write", False),
        (SCIENTIST, "workspaces/computes/delete", False),
        # "can create, manage, delete, and access compute resources"
        (OPERATOR, "workspaces/computes/write", True),
        (OPERATOR, "workspaces/computes/delete", True),
        (OPERATOR, "workspaces/jobs/write", False),
        ({"actions": ["*/read"]}, "workspaces/jobs/read", True),
        ({"actions": ["*/read"]}, "workspaces/jobs/write", False),
        ({"actions": ["*"], "notActions": None}, "workspaces/jobs/write", True),
        ({"actions": None}, "workspaces/read", False),
        # What file names would read otherwise.
        ({"actions": [f"{ML}/workspaces/[a-z]*/read"]}, "workspaces/jobs/read", False),
        ({"actions": [f"{ML}/workspaces/jobs/rea?"]}, "workspaces/jobs/read", False),
    ],
)
def test_permissions_say_what_azure_s_pages_say_of_them(role, action, may):
    assert allowed(role, f"{ML}/{action}") is may
    assert allowed(role, f"{ML}/{action}".upper()) is may


def test_a_role_that_ends_its_kinds_with_a_star_has_the_operation_itself():
    """Managed Identity Operator is written so, and is what assigning takes."""
    role = {"actions": ["Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action"]}
    assert allowed(role, "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Compute ml-quota-test/quota-1 in resource group 'quota' has a bad size", UserError),
        ("The scope /resourceGroups/quota/providers is not valid", UserError),
        ("it results in exceeding approved Total Regional Cores quota.", NoCapacity),
        ("family vCPU quota of 0 and cannot accommodate", NoCapacity),
        ("ClusterCoreQuotaReached: Maximum allowed: 0", NoCapacity),
        ("ClusterMinNodesExceedCoreQuota: Maximum allowed: 0", NoCapacity),
        ("the request is over the subscription's quotas", NoCapacity),
    ],
)
def test_a_name_with_the_word_quota_is_not_a_lack_of_room(text, kind):
    refusal = HttpResponseError(text)
    refusal.status_code = 400
    assert type(translated(refusal, "create")) is kind
