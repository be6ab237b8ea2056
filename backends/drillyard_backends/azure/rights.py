"""The rights that drillyard needs in a workspace, by the names of Azure's operations.

``deployments/azure/role.json`` grants them; a test holds every call against it.
"""

from __future__ import annotations

from collections.abc import Iterator

from drillyard.findings import Finding, passed, problem, warning
from drillyard_backends.azure.errors import Forbidden, Missing
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

ML = "Microsoft.MachineLearningServices/workspaces"
RUN = [
    f"{ML}/read",
    f"{ML}/jobs/read",
    f"{ML}/jobs/write",
    f"{ML}/jobs/cancel/action",
    f"{ML}/computes/read",
    f"{ML}/environments/versions/read",
    f"{ML}/datastores/read",
]
"""To run on a cluster and in an environment that are there."""
CLUSTER = [f"{ML}/computes/write", f"{ML}/computes/delete"]
"""To make a cluster, and to delete a lease's own."""
ENVIRONMENT = [f"{ML}/environments/versions/write"]
BUILD = [f"{ML}/datastores/listsecrets/action"]
"""For azure-ai-ml to upload a build folder."""
SUBMIT = [
    f"{ML}/environments/write",
    f"{ML}/environments/build/action",
    f"{ML}/environments/readSecrets/action",
    f"{ML}/metadata/artifacts/write",
    f"{ML}/experiments/runs/read",
]
"""What the service's guide asks of who submits jobs, beyond the calls that drillyard makes."""
ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
"""On the identity of a cluster that is made."""
ENDPOINT = [
    f"{ML}/read",
    f"{ML}/datastores/read",
    *(
        f"{ML}/{kind}/versions/{right}"
        for kind in ("models", "codes", "environments")
        for right in ("read", "write")
    ),
    *(
        f"{ML}/onlineEndpoints/{part}{right}"
        for part in ("", "deployments/")
        for right in ("read", "write", "delete")
    ),
    f"{ML}/onlineEndpoints/listKeys/action",
    f"{ML}/onlineEndpoints/deployments/getLogs/action",
]


def of_runs(service: Service, config: AzureConfig, *, made: bool) -> Iterator[Finding]:
    """Checks whether the caller may do what a run needs.

    Args:
        service: Sends the requests.
        config: The settings.
        made: Whether the cluster is there.
    """
    needed = [*RUN]
    if not made or config.compute is None:
        needed += CLUSTER
    if config.environment is None:
        needed += ENVIRONMENT + (BUILD if config.build is not None else [])
    yield from _checked(service, needed, SUBMIT)
    if config.identity is not None and not made:
        yield from _assignable(service, config.identity)


def of_endpoints(service: Service) -> Iterator[Finding]:
    """Checks whether the caller may do what a managed endpoint needs."""
    yield from _checked(service, ENDPOINT, [])


def _checked(service: Service, wanted: list[str], usual: list[str]) -> Iterator[Finding]:
    try:
        missing = service.denied([*wanted, *usual])
    except Forbidden as error:
        yield warning(
            "rights",
            f"they cannot be checked: {error.message}",
            "grant Microsoft.Authorization/permissions/read (deployments/azure/role.json)",
        )
        return
    needed = [right for right in missing if right in wanted]
    if needed:
        yield problem(
            "rights", f"missing in the workspace: {', '.join(needed)}", _granting(service, needed)
        )
    elif missing:
        yield warning(
            "rights",
            f"Azure ML's guide asks for more of who submits jobs: {', '.join(missing)}",
            _granting(service, missing),
        )
    else:
        yield passed("rights", f"all {len(wanted) + len(usual)} that are needed")


def _assignable(service: Service, identity: str) -> Iterator[Finding]:
    """A cluster gets an identity from who may assign it."""
    try:
        missing = service.denied([ASSIGN], identity)
    except Missing as error:
        yield problem(
            "identity",
            f"there is no {identity}: {error}",
            "az identity list --query [].id shows the existing identities",
        )
        return
    except Forbidden as error:
        yield warning(
            "identity",
            f"whether you may assign it cannot be checked: {error.message}",
            _assigning(identity),
        )
        return
    if missing:
        yield problem(
            "identity", f"you may not assign it: {ASSIGN} is missing", _assigning(identity)
        )
    else:
        yield passed("identity", identity.rpartition("/")[2])


def _granting(service: Service, missing: list[str]) -> str:
    """The commands that grant what is missing, by built-in roles."""
    roles = []
    if any(right not in CLUSTER for right in missing):
        roles.append("AzureML Data Scientist")
    if any(right in CLUSTER for right in missing):
        roles.append("AzureML Compute Operator")
    return " && ".join(
        f"az role assignment create --role {role!r} --assignee YOU --scope {service.root}"
        for role in roles
    )


def _assigning(identity: str) -> str:
    role = "Managed Identity Operator"
    return f"az role assignment create --role {role!r} --assignee YOU --scope {identity}"
