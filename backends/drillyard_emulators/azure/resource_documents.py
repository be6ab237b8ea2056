"""Compute clusters and jobs as Resource Manager shows them."""

from __future__ import annotations

from collections.abc import Sequence

from drillyard_emulators.azure.access import ML
from drillyard_emulators.azure.model import Compute, Job, Node
from drillyard_emulators.http.clock import rfc3339
from drillyard_emulators.http.fields import Document, member


def compute_document(
    compute: Compute, nodes: Sequence[Node], root: str, location: str, with_tags: bool
) -> Document:
    """The compute resource.

    Args:
        compute: The cluster.
        nodes: The nodes that it has now.
        root: Id of the workspace.
        location: Region of the workspace.
        with_tags: Whether the service returns the cluster's tags.
    """
    document = compute.document
    # The service writes sizes in capitals.
    inner = {
        **compute.settings,
        "vmSize": str(compute.settings.get("vmSize", "")).upper(),
        "allocationState": "Steady",
        "currentNodeCount": len(nodes),
        "targetNodeCount": len(nodes),
        "nodeStateCounts": _counts(nodes),
        "errors": [{"error": error} for error in compute.errors] or None,
    }
    kind, identities = compute.identity
    named = {identity: {"clientId": "c", "principalId": "p"} for identity in identities}
    stamp = rfc3339(compute.created).replace("Z", "0000+00:00")
    return {
        "id": f"{root}/computes/{compute.name}",
        "name": compute.name,
        "type": f"{ML}/workspaces/computes",
        "location": location,
        "tags": (document.get("tags") or {}) if with_tags else None,
        "identity": None
        if kind == "none"
        else {
            "type": member(document, "identity")["type"],
            "principalId": "p",
            "tenantId": "t",
            "userAssignedIdentities": named or None,
        },
        "properties": {
            **member(document, "properties"),
            "computeLocation": compute.region or location,
            "provisioningState": compute.state,
            "createdOn": stamp,
            "modifiedOn": stamp,
            "isAttachedCompute": False,
            "provisioningErrors": None,
            "properties": inner,
        },
    }


def _counts(nodes: Sequence[Node]) -> dict[str, int]:
    unready = sum(not node["ready"] for node in nodes)
    others = ("idle", "unusable", "leaving", "preempted")
    return {
        "preparingNodeCount": unready,
        "runningNodeCount": len(nodes) - unready,
        **{f"{state}NodeCount": 0 for state in others},
    }


def job_document(job: Job, root: str, stamp: dict[str, str], status: str) -> Document:
    """The job resource.

    Args:
        job: The job.
        root: Id of the workspace.
        stamp: ``systemData``.
        status: The state to show.
    """
    studio = f"https://ml.azure.com/runs/{job.name}?wsid={root}"
    services = {"Studio": {"jobServiceType": "Studio", "endpoint": studio}}
    return {
        "id": f"{root}/jobs/{job.name}",
        "name": job.name,
        "type": f"{ML}/workspaces/jobs",
        "systemData": stamp,
        "properties": {
            **job.properties,
            "status": status,
            "services": services,
            "isArchived": job.archived,
        },
    }
