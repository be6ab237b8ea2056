"""What around a workspace costs money or results: locks, and what its storage account does.

Both are read with rights that a role in the workspace does not bring. Without these
rights nothing is reported here: ``prepare_store`` tests by itself whether the store works.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drillyard.documents.json_types import JsonObject
from drillyard.findings import Finding, problem, warning
from drillyard_backends.azure.errors import Forbidden, Missing
from drillyard_backends.azure.rest import section
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig
from drillyard_backends.azure.store import NO_FOLDERS

LOCKS = "Microsoft.Authorization/locks"
READS = [
    f"{LOCKS}/read",
    "Microsoft.Storage/storageAccounts/read",
    "Microsoft.Storage/storageAccounts/blobServices/read",
]


def of_locks(service: Service) -> Iterator[Finding]:
    """Locks that keep clusters from giving back idle nodes.

    "Do not apply resource locks to the resource group that contains your workspace": it "prevents
    scaling operations" ("Create an Azure Machine Learning compute cluster", learn.microsoft.com).
    """
    group, _, _ = service.root.partition("/providers/")
    try:
        locks = list(service.pages(f"{group}/providers/{LOCKS}", "2016-09-01"))
    except (Forbidden, Missing):
        return
    for lock in locks:
        where = str(lock.get("id") or "")
        scope = where.lower().partition(f"/providers/{LOCKS}/".lower())[0]
        if not service.root.lower().startswith(f"{scope}/") and scope != service.root.lower():
            continue  # of another resource
        level = section(lock, "properties").get("level", "a lock")
        yield warning(
            "lock",
            f"{level} lock {lock.get('name')} on {scope.rpartition('/')[2]}: Azure ML says that "
            "clusters do not scale under a lock, so idle nodes may stay, and cost",
            f"az lock delete --ids {where}; or another workspace, in a group without one",
        )


def of_store(service: Service, config: AzureConfig, workspace: JsonObject) -> Iterator[Finding]:
    """What the workspace's storage account does with blobs.

    Args:
        service: Sends the requests.
        config: The settings.
        workspace: As Azure describes it.

    Raises:
        UserError: The workspace has no datastore for the store.
    """
    if config.account is None:
        with contextlib.suppress(Forbidden):
            service.own_datastore()
    place = str(section(workspace, "properties").get("storageAccount") or "")
    name = place.rpartition("/")[2]
    if not place or config.account not in (None, name):
        return
    try:
        account = service.ask(place, "2023-05-01")
        kept = service.ask(f"{place}/blobServices/default", "2023-05-01")
    except (Forbidden, Missing):
        return
    if section(account, "properties").get("isHnsEnabled"):
        yield problem("store", f"{name} {NO_FOLDERS[0]}", NO_FOLDERS[1])
    policy = section(section(kept, "properties"), "deleteRetentionPolicy")
    if policy.get("enabled"):
        yield warning(
            "store",
            f"{name} has soft delete on: what is overwritten or deleted is kept, and billed, for "
            f"{policy.get('days', 'some')} days, and each run overwrites its heartbeat every few "
            "seconds",
            f"az storage account blob-service-properties update --account-name {name} "
            "--enable-delete-retention false; or `account` and `container` of another one",
        )
