"""The body of a job, made from the order and its store, so that a repeat is the same."""

from __future__ import annotations

from drillyard.backend import Order
from drillyard_backends.azure import clusters, environment, naming, start
from drillyard_backends.azure import job as program
from drillyard_backends.azure.settings import AzureConfig

MARGIN_S = 120
"""Seconds between the lease's own limit, at which runs are saved, and Azure's hard limit."""
SHORTEST_S = 60


def body(
    config: AzureConfig, order: Order, root: str, name: str, ticket: str, begun_at: float
) -> dict[str, object]:
    """Returns the properties of a command job.

    The service refuses a second job of one name unless it is the same, and shows the properties to
    all users of the workspace: they do not depend on the time, the folder or its repository.

    Args:
        config: The settings.
        order: The order of the lease.
        root: Id of the workspace.
        name: Name of the job.
        ticket: The ticket that the job is for.
        begun_at: Start of the lease in epoch seconds, from the mailbox.
    """
    run = ticket.rpartition(".")[0]
    version = environment.of_lease(config, order).replace(":", "/versions/")
    nodes = clusters.width(config, order, ticket)
    properties: dict[str, object] = {
        "jobType": "Command",
        "displayName": run,
        "experimentName": naming.experiment_name(order.experiment),
        "computeId": f"{root}/computes/{clusters.name_of(config, order)}",
        "environmentId": f"{root}/environments/{version}",
        # Without it a job has its user's token (the specification: "Defaults to AmlToken if
        # null"; azure-ai-ml 1.35.2), and the store's role is on the cluster's identity.
        "identity": {"identityType": "Managed"},
        "command": start.COMMAND,
        "environmentVariables": _variables(config, order, name, ticket, nodes),
        "outputs": _outputs(config, order, run),
        "resources": {"instanceCount": nodes},
        "tags": naming.tags(
            order,
            config.tags,
            **{naming.TICKET_TAG: ticket, order.lease_id: begun_tag(begun_at)},
        ),
    }
    if nodes > 1:
        # Without a distribution the command would be started on the first node alone.
        properties["distribution"] = {"distributionType": "PyTorch", "processCountPerInstance": 1}
    if order.deadline is not None:
        # Whether it counts from the submission or from the start is not documented: the worker
        # and the driver watch the deadline itself, and `reap` ends what outlives it.
        life_s = max(SHORTEST_S, int(order.deadline - begun_at) + MARGIN_S)
        properties["limits"] = {"jobLimitsType": "Command", "timeout": f"PT{life_s}S"}
    return properties


def _variables(
    config: AzureConfig, order: Order, name: str, ticket: str, nodes: int
) -> dict[str, str]:
    packed = config.runs_per_machine
    return {
        program.STORE: order.store_url,
        program.ORDER_KEY: order_key(order),
        program.TICKET: ticket,
        program.JOB: name,
        program.GRACE: f"{config.stop_grace_s:g}",
        program.LOW_PRIORITY: "1" if config.low_priority else "0",
        program.WIDTH: str(nodes),
        **({program.SLOTS: str(packed)} if packed > 1 else {}),
    }


def begun_tag(begun_at: float) -> str:
    """Returns the value of the tag that is named as the lease: when the lease began.

    Args:
        begun_at: Epoch seconds.
    """
    return str(int(begun_at))


def order_key(order: Order) -> str:
    """Returns the key under which a lease's jobs read its order."""
    return f"{order.experiment}/leases/{order.lease_id}/order.json"


def _outputs(config: AzureConfig, order: Order, run: str) -> dict[str, object]:
    """Returns ``results`` of a job: the folder of its run, if the workspace can see it.

    The folder is named but not mounted: the worker writes to it directly.
    """
    if config.account is not None or clusters.runs_of_a_job(config, order) > 1:
        return {}
    folder = f"{config.prefix}/{order.experiment}/runs/{run}".lstrip("/")
    uri = f"azureml://datastores/workspaceblobstore/paths/{folder}"
    return {"results": {"jobOutputType": "uri_folder", "mode": "Direct", "uri": uri}}
