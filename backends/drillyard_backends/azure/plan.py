"""What an order takes on Azure: everything that is missing for it, and its price.

``examine`` reads and changes nothing; ``estimate`` makes no request.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drillyard.backend import Cost, Order, Part
from drillyard.documents.json_types import JsonObject
from drillyard.errors import InfrastructureError, UserError
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.runs import wheels
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends import drivers, sign_ins
from drillyard_backends.azure import (
    clusters,
    context,
    environment,
    job_width,
    prices,
    quota_check,
    rights,
    surroundings,
)
from drillyard_backends.azure.clusters import Cluster, name_of
from drillyard_backends.azure.errors import Forbidden, Missing
from drillyard_backends.azure.machines import table as machine_table
from drillyard_backends.azure.rest import section
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import LONGEST_TAG, AzureConfig
from drillyard_backends.pricelists import YOURS

_DAY_S = 24 * 3600.0
SHORTEST_S, LONGEST_S, LONGEST_LOW_S = 60.0, 21 * _DAY_S, 7 * _DAY_S
"""How long a job may live, in the queue too: on dedicated and on low-priority nodes."""
_OTHER = "or another name as compute, which is then made"
_SURE_NAME = re.compile(r"[A-Za-z](?![A-Za-z0-9-]*-\d+\Z)[A-Za-z0-9-]{2,23}\Z")
"""A name that the service takes for a new cluster, by its specification and users' reports."""


@dataclass
class _Existing:
    """What the first checks found, for the later ones."""

    workspace: JsonObject | None = None
    cluster: Cluster | None = None


def examine(
    service: Service, config: AzureConfig, order: Order | None, clock: Clock = SYSTEM
) -> list[Finding]:
    """Returns every problem in one list.

    Args:
        service: Sends the requests.
        config: The settings.
        order: What would be rented; None: one node, for ``doctor``.
        clock: This machine's.
    """
    findings = [
        *_life(config, order, clock),
        *_store(order, config),
        *_context(config),
        *_priced(config),
        *job_width.examine(config, order),
        *_driver(config, order),
    ]
    existing = _Existing()

    # Without a login and a workspace every other question would be answered by the same error.
    findings += asked("login", lambda: _workspace(service, config, existing), config)
    if existing.workspace is None:
        return findings
    workspace = existing.workspace
    region = config.location or str(workspace["location"])
    workers = 1 if order is None else clusters.nodes(config, order)

    def cluster() -> Iterator[Finding]:
        lease = order or Order(lease_id="dy-000000000a", experiment="", store_url="")
        cluster = clusters.find(service, name_of(config, lease))
        if cluster is None:
            yield from _new(config, name_of(config, lease))
            return
        existing.cluster = cluster
        yield from _cluster(cluster, config, workers)

    questions: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("compute", cluster),
        ("rights", lambda: rights.of_runs(service, config, made=existing.cluster is not None)),
        ("lock", lambda: surroundings.of_locks(service)),
        ("store", lambda: surroundings.of_store(service, config, workspace)),
        ("vm_size", lambda: quota_check.of_nodes(service, config, order, region, workers)),
    ]
    if not any(f.subject == "build" and f.severity is Severity.ERROR for f in findings):
        questions.append(("environment", lambda: _environment(service, config, order, workspace)))
    for subject, ask in questions:
        findings += asked(subject, ask, config)
    return findings


def examine_endpoint(service: Service, config: AzureConfig) -> list[Finding]:
    """Returns every problem with a managed endpoint in one list.

    Args:
        service: Sends the requests.
        config: The settings.
    """
    existing = _Existing()
    findings = [*asked("login", lambda: _workspace(service, config, existing), config)]
    if existing.workspace is None:
        return findings
    location, size = str(existing.workspace["location"]), config.endpoint_size

    def free() -> Iterator[Finding]:
        # A fifth more is kept free, so that a machine can be replaced: one more here.
        return quota_check.of_size(service, location, size, "endpoint_size", 2, low_priority=False)

    findings += asked("rights", lambda: rights.of_endpoints(service), config)
    return [*findings, *asked("endpoint_size", free, config)]


def estimate(config: AzureConfig, order: Order) -> Cost:
    """The price an hour of all nodes, and what is created.

    Args:
        config: The settings.
        order: What would be rented.
    """
    needed = clusters.nodes(config, order)
    count = min(needed, config.max_nodes or needed)
    price = _price(config) or 0.0
    kind = "low priority" if config.low_priority else "dedicated"
    note = (
        "kept: idle it has no nodes, and costs its load balancer"
        if config.compute
        else ("deleted at the end")
    )
    parts = [
        Part(
            what=f"node {config.vm_size} ({kind})",
            name=name_of(config, order),
            count=count,
            per_hour=price,
            note="comes and goes with the jobs",
        ),
        Part(what="compute cluster", name=name_of(config, order), note=f"if not there; {note}"),
        Part(what="environment", name=config.environment or environment.NAME, note="stays"),
        Part(
            what="job",
            name=f"{order.lease_id}-…",
            count=-(-count // clusters.width(config, order)),
            note=job_width.note(config, order),
        ),
    ]
    return Cost(
        per_hour=count * price,
        currency=prices.currency(),
        prices_of=prices.date() if _listed(config) else YOURS,
        spot=config.low_priority,
        parts=parts,
        unpriced=_unpriced(config),
    )


def asked(
    subject: str, ask: Callable[[], Iterator[Finding]], config: AzureConfig
) -> Iterator[Finding]:
    """Yields the findings of one question; an error that it raises is a finding, too."""
    try:
        yield from ask()
    except Missing as error:
        yield problem(
            subject if subject != "login" else "workspace",
            f"no workspace {config.workspace!r} in resource group {config.resource_group!r}: "
            f"{error}",
            "az ml workspace list shows the existing workspaces",
        )
    except UserError as error:
        yield problem(subject, error.message, error.hint or "correct it")
    except InfrastructureError as error:
        yield problem(subject, error.message, error.hint or "try again", infrastructure=True)


def _life(config: AzureConfig, order: Order | None, clock: Clock) -> Iterator[Finding]:
    if order is None or order.deadline is None:
        return
    life_s = order.deadline - clock.now()
    longest_s = LONGEST_LOW_S if config.low_priority else LONGEST_S
    if not SHORTEST_S <= life_s + 1.0 <= longest_s + 60.0:
        kind = "a low-priority job" if config.low_priority else "a job"
        yield problem(
            "budget.max_hours",
            f"{life_s:,.0f} s: {kind} of Azure ML lives between a minute and "
            f"{longest_s / _DAY_S:.0f} days",
            f"set budget.max_hours between 0.02 and {longest_s / 3600:.0f}",
        )


def _store(order: Order | None, config: AzureConfig) -> Iterator[Finding]:
    yield from wheels.examine(order, config.target)
    if order is not None and not order.store_url.startswith("az://"):
        yield problem(
            "store",
            f"jobs on Azure cannot reach {order.store_url}",
            "leave --store and DRILLYARD_STORE out: the workspace's own is used then",
        )
    elif order is not None and len(order.store_url) > LONGEST_TAG:
        yield problem(
            "store",
            f"its address has {len(order.store_url)} characters, and the "
            f"tag of a cluster, where it stands, has at most {LONGEST_TAG}",
            "a shorter prefix",
        )


def _context(config: AzureConfig) -> Iterator[Finding]:
    """What an image is built of is small enough to be sent."""
    if config.build is not None:
        yield from context.examine(Path(config.build).expanduser())


def _driver(config: AzureConfig, order: Order | None) -> Iterator[Finding]:
    """Compares the driver of nodes with GPUs with the recipe of their image."""
    sizes = {name.lower(): size["gpu"] for name, size in machine_table()["machines"].items()}
    model = sizes.get(config.vm_size.lower())
    known = (
        drivers.of_folder(Path(config.build).expanduser()) if config.build else drivers.Software()
    )
    return drivers.examine(order, "azure", "environment", model, known)


def _priced(config: AzureConfig) -> Iterator[Finding]:
    """Says that a price is not known; whether the budget bears that, the core decides."""
    if _unpriced(config):
        yield warning(
            "prices",
            f"the price list of {prices.date()} has no {config.vm_size}",
            "drillyard prices refresh azure; or give its price: backends.azure.price_per_hour; or "
            f"your own list: {prices.OVERRIDE}=FILE",
        )


def _unpriced(config: AzureConfig) -> list[str]:
    return [] if _price(config) else [config.vm_size]


def _price(config: AzureConfig) -> float | None:
    """Returns the price of a node in its region, else that of the settings; no other region's."""
    return _listed(config) or config.price_per_hour


def _listed(config: AzureConfig) -> float | None:
    return prices.price(config.vm_size, config.low_priority, config.location)


def _cluster(cluster: Cluster, config: AzureConfig, workers: int) -> Iterator[Finding]:
    """An existing cluster is used as it is: what the settings say of it must be so."""
    if cluster.errors and not _broken(cluster):
        yield warning(
            "compute",
            f"cluster {cluster.name} says: {cluster.errors[0]}",
            f"az ml compute show --name {cluster.name}; {_OTHER}",
        )
    wrong = list(_differences(cluster, config, workers))
    for message, fix in wrong:
        yield problem("compute", message, fix)
    if not wrong:
        yield passed("compute", f"cluster {cluster.name}, at most {cluster.most} {cluster.size}")
    yield from _identity(cluster, config)


def _broken(cluster: Cluster) -> bool:
    return cluster.state in (*clusters.BROKEN, clusters.DELETING)


def _differences(cluster: Cluster, config: AzureConfig, workers: int) -> Iterator[tuple[str, str]]:
    """Yields what keeps a cluster from being used, and the fix."""
    name, most = cluster.name, cluster.most
    before = f"az ml compute update --name {name}"
    if _broken(cluster):
        why = f": {cluster.errors[0]}" if cluster.errors else ""
        yield (
            f"cluster {name} is in state {cluster.state}{why}",
            f"az ml compute show --name {name} shows why; {before} repairs it; {_OTHER}",
        )
    if cluster.size.lower() != config.vm_size.lower():
        yield (
            f"cluster {name} has nodes of size {cluster.size}, but vm_size is {config.vm_size}",
            f"vm_size: {cluster.size}; {_OTHER}",
        )
    if cluster.low_priority is not config.low_priority:
        kind = "low_priority" if cluster.low_priority else "dedicated"
        yield (
            f"cluster {name} is there as {kind}, and low_priority is "
            f"{str(config.low_priority).lower()}",
            f"low_priority: {str(not config.low_priority).lower()}; {_OTHER}",
        )
    if config.location is not None and cluster.region not in ("", config.location):
        yield (
            f"cluster {name} is in {cluster.region}, but location is {config.location}",
            f"location: {cluster.region}; {_OTHER}",
        )
    if most < workers:
        yield (
            f"{workers} nodes are needed, and cluster {name} has {most} nodes at the most",
            f"resources.workers: {most}; or {before} --max-instances {workers}",
        )


def _identity(cluster: Cluster | None, config: AzureConfig) -> Iterator[Finding]:
    """As whom the jobs read and write the store."""
    if cluster is None:
        if config.identity is None:
            # An identity that does not exist yet cannot have a role.
            yield problem(
                "identity",
                "a cluster that is made would have a new identity, "
                "which may not use the store: every job would fail",
                "set identity to a user-assigned one with Storage Blob Data Contributor; or make "
                "the cluster first, give that role to its identity, and name it as compute",
            )
        return
    if not cluster.identity:
        yield problem(
            "identity",
            f"cluster {cluster.name} has no identity: its jobs could not use the store",
            f"az ml compute update --name {cluster.name} --identity-type UserAssigned "
            "--user-assigned-identities ID",
        )
    elif config.identity is not None and config.identity.lower() not in cluster.identities:
        there = ", ".join(sorted(cluster.identities)) or "its own"
        yield problem(
            "identity",
            f"cluster {cluster.name} has another identity: {there}",
            "set identity to that one, or null; or another name as compute",
        )


def _new(config: AzureConfig, name: str) -> Iterator[Finding]:
    """Checks whether the service takes the name of a cluster that is made."""
    yield passed("compute", f"cluster {name} will be created")
    if not _SURE_NAME.match(name):
        yield warning(
            "compute",
            f"Azure may refuse {name} as the name of a new cluster",
            "3 to 24 of A-Z a-z 0-9 -, a letter first, and not only digits after the last -",
        )
    yield from _identity(None, config)


def _workspace(service: Service, config: AzureConfig, existing: _Existing) -> Iterator[Finding]:
    """Reads the workspace into ``existing``."""
    existing.workspace = workspace = service.workspace()
    location = workspace["location"]
    yield passed("login", f"workspace {config.workspace} in {location}")
    yield from sign_ins.of_azure()
    registry = str(section(workspace, "properties").get("containerRegistry") or "").rpartition(
        "/"
    )[2]
    yield passed("registry", registry or "Azure makes it for the first image")


def _environment(
    service: Service, config: AzureConfig, order: Order | None, workspace: JsonObject
) -> Iterator[Finding]:
    lease = order or Order(lease_id="dy-0000000000", experiment="", store_url="")
    text = environment.named(config, lease)
    name, _, version = text.partition(":")
    try:
        service.environment(name, version)
    except Missing:
        if config.environment is None:
            yield passed("environment", f"{text} will be created, and its image built")
            own = section(workspace, "properties").get("imageBuildCompute")
            if (config.build or config.conda) and not own:
                with contextlib.suppress(Forbidden):  # `quota` reports it
                    yield from quota_check.of_build(service, str(workspace["location"]))
        else:
            yield problem(
                "environment",
                f"there is no environment {text}",
                "az ml environment list shows the existing environments",
            )
    else:
        yield passed("environment", f"{text} is there")
