"""What an order takes on Azure: everything that is missing for it, and its price.

``examine`` asks and changes nothing; ``estimate`` asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from drillyard.backend import Cost, Order, Part
from drillyard.errors import InfrastructureError, UserError
from drillyard.findings import Finding, Severity
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.azure import clusters, environment, prices
from drillyard_backends.azure.clusters import name_of
from drillyard_backends.azure.errors import Missing
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

SHORTEST_S, LONGEST_S = 60.0, 30 * 24 * 3600.0
"""What a job may be limited to; low-priority jobs may wait longer, and do not run longer."""
_ML = "Microsoft.MachineLearningServices/workspaces"
RIGHTS = [
    f"{_ML}/read", f"{_ML}/jobs/read", f"{_ML}/jobs/write", f"{_ML}/jobs/cancel/action",
    f"{_ML}/computes/read", f"{_ML}/environments/versions/read", f"{_ML}/datastores/read",
]  # fmt: skip

ENDPOINT_RIGHTS = [
    f"{_ML}/read", f"{_ML}/datastores/read", f"{_ML}/models/versions/write",
    f"{_ML}/codes/versions/write", f"{_ML}/environments/versions/write",
    *(f"{_ML}/onlineEndpoints/{right}"
      for part in ("", "deployments/") for right in (f"{part}read", f"{part}write",
                                                     f"{part}delete")),
    f"{_ML}/onlineEndpoints/listKeys/action",
]  # fmt: skip


def examine(
    service: Service, config: AzureConfig, order: Order | None, clock: Clock = SYSTEM
) -> list[Finding]:
    """Everything that stands in the way, in one list.

    Args:
        service: Carries the questions.
        config: The settings.
        order: What would be rented; None: one node, for ``doctor``.
        clock: This machine's.
    """
    found = [*_life(order, clock), *_store(order), *_priced(config), *_width(config, order)]
    there: dict[str, Any] = {}

    # Without a login and a workspace every other question would be answered by the same error.
    found += asked("login", lambda: _workspace(service, config, there), config)
    if "workspace" not in there:
        return found
    location = str(there["workspace"]["location"])
    workers = 1 if order is None else clusters.nodes(config, order)

    def cluster() -> Iterator[Finding]:
        lease = order or Order(lease_id="dy-0000000000", experiment="", store_url="")
        try:
            there["cluster"] = service.compute(name_of(config, lease))
        except Missing:
            yield Finding(Severity.OK, "compute", f"cluster {name_of(config, lease)} will be made")
            return
        yield from _cluster(there["cluster"], config, workers)

    questions: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("compute", cluster),
        ("rights", lambda: rights(service, _wanted(config, made="cluster" in there))),
        ("vm_size", lambda: _nodes(service, config, location, workers)),
        ("environment", lambda: _environment(service, config, order)),
    ]
    for subject, ask in questions:
        found += asked(subject, ask, config)
    return found


def examine_endpoint(service: Service, config: AzureConfig) -> list[Finding]:
    """Everything that stands in the way of a managed endpoint, in one list.

    Args:
        service: Carries the questions.
        config: The settings.
    """
    there: dict[str, Any] = {}
    found = asked("login", lambda: _workspace(service, config, there), config)
    if "workspace" not in there:
        return found
    location, size = str(there["workspace"]["location"]), config.endpoint_size

    def room() -> Iterator[Finding]:
        # A fifth more is kept free, so that a machine can be replaced: one more here.
        return _room(service, location, size, "endpoint_size", 2, low_priority=False)

    found += asked("rights", lambda: rights(service, ENDPOINT_RIGHTS), config)
    return found + asked("endpoint_size", room, config)


def estimate(config: AzureConfig, order: Order) -> Cost:
    """The price an hour of all nodes, and what is created.

    Args:
        config: The settings.
        order: What would be rented.
    """
    wanted = clusters.nodes(config, order)
    count = min(wanted, config.max_nodes or wanted)
    price = prices.price(config.vm_size, config.low_priority) or 0.0
    kind = "low priority" if config.low_priority else "dedicated"
    note = "kept, costs nothing while it is idle" if config.compute else "deleted at the end"
    parts = [
        Part(what=f"node {config.vm_size} ({kind})", name=name_of(config, order), count=count,
             per_hour=price, note="comes and goes with the jobs"),
        Part(what="compute cluster", name=name_of(config, order), note=f"if not there; {note}"),
        Part(what="environment", name=config.environment or environment.NAME, note="stays"),
        Part(what="job", name=f"{order.lease_id}-…", count=-(-count // config.instance_count),
             note="one for each run" if config.instance_count == 1 else "of several nodes"),
    ]  # fmt: skip
    return Cost(
        per_hour=count * price, currency=prices.currency(), prices_of=prices.date(),
        spot=config.low_priority, parts=parts,
    )  # fmt: skip


def asked(
    subject: str, ask: Callable[[], Iterator[Finding]], config: AzureConfig
) -> list[Finding]:
    """The findings of a question; what it raised is one."""
    found = []
    try:
        for one in ask():
            found.append(one)
    except Missing as error:
        found.append(Finding(
            Severity.ERROR, subject if subject != "login" else "workspace",
            f"no workspace {config.workspace!r} in resource group {config.resource_group!r}: "
            f"{error}", "az ml workspace list shows what there is",
        ))  # fmt: skip
    except UserError as error:
        found.append(Finding(Severity.ERROR, subject, error.message, error.hint or "mend it"))
    except InfrastructureError as error:
        found.append(Finding(Severity.ERROR, subject, error.message, error.hint or "try again",
                             infrastructure=True))  # fmt: skip
    return found


def _life(order: Order | None, clock: Clock) -> Iterator[Finding]:
    if order is None or order.deadline is None:
        return
    life_s = order.deadline - clock.now()
    if not SHORTEST_S <= life_s + 1.0 <= LONGEST_S + 60.0:
        yield Finding(
            Severity.ERROR, "budget.max_hours",
            f"{life_s:,.0f} s: a job of Azure ML runs between a minute and 30 days",
            "set budget.max_hours between 0.02 and 720",
        )  # fmt: skip


def _store(order: Order | None) -> Iterator[Finding]:
    if order is not None and not order.store_url.startswith("az://"):
        yield Finding(
            Severity.ERROR, "store", f"jobs on Azure cannot reach {order.store_url}",
            "leave --store and DRILLYARD_STORE out: the workspace's own is used then",
        )  # fmt: skip


def _width(config: AzureConfig, order: Order | None) -> Iterator[Finding]:
    """A job's nodes are rented together: none of them may be there for nothing."""
    width, most = config.instance_count, config.max_nodes
    busy = width if order is None else order.spread if order.spread > 1 else order.workers
    if width > busy:
        more = "more seeds and resources.workers" if order is None or order.spread == 1 else (
            "more workers of the learner (num_env_runners)")  # fmt: skip
        yield Finding(
            Severity.ERROR, "instance_count",
            f"a job would have {width} nodes, and {busy} of them have something to do",
            f"instance_count: {busy}; or {more}",
        )  # fmt: skip
    if most is not None and width > most:
        yield Finding(
            Severity.ERROR, "instance_count",
            f"a job of {width} nodes never starts on a cluster of {most} (max_nodes)",
            f"instance_count: {most}; or max_nodes: {width}",
        )  # fmt: skip


def _priced(config: AzureConfig) -> Iterator[Finding]:
    """What the price list does not know cannot be kept within a budget."""
    if prices.price(config.vm_size, config.low_priority) is None:
        yield Finding(
            Severity.ERROR, "prices",
            f"the price list of {prices.date()} has no {config.vm_size}, so max_cost could not be "
            "kept",
            f"another vm_size; or add its price: {prices.OVERRIDE}=FILE (see docs/azure.md)",
        )  # fmt: skip


def _cluster(cluster: Any, config: AzureConfig, workers: int) -> Iterator[Finding]:
    """An existing cluster is used as it is: what the settings say of it must be so."""
    name, most = str(cluster.name), int(cluster.max_instances or 0)
    fine = True
    if str(cluster.size).lower() != config.vm_size.lower():
        fine = False
        yield Finding(
            Severity.ERROR, "compute",
            f"cluster {name} is there with nodes {cluster.size}, and vm_size is {config.vm_size}",
            f"vm_size: {cluster.size}; or another name as compute, which is then made",
        )  # fmt: skip
    if (cluster.tier == "low_priority") is not config.low_priority:
        fine = False
        yield Finding(
            Severity.ERROR, "compute",
            f"cluster {name} is there as {cluster.tier}, and low_priority is "
            f"{str(config.low_priority).lower()}",
            f"low_priority: {str(not config.low_priority).lower()}; or another name as compute",
        )  # fmt: skip
    if most < workers:
        fine = False
        yield Finding(
            Severity.ERROR, "compute",
            f"{workers} nodes are needed, and cluster {name} has {most} nodes at the most",
            f"resources.workers: {most}; or az ml compute update --name {name} --max-instances "
            f"{workers}",
        )  # fmt: skip
    if fine:
        yield Finding(Severity.OK, "compute", f"cluster {name}, at most {most} {cluster.size}")


def _workspace(service: Service, config: AzureConfig, there: dict[str, Any]) -> Iterator[Finding]:
    """Looked up, and left in ``there``."""
    there["workspace"] = one = service.workspace()
    yield Finding(Severity.OK, "login", f"workspace {config.workspace} in {one['location']}")
    registry = str(one["properties"].get("containerRegistry") or "").rpartition("/")[2]
    yield Finding(Severity.OK, "registry", registry or "Azure makes it for the first image")


def _wanted(config: AzureConfig, *, made: bool) -> list[str]:
    wanted = [*RIGHTS]
    if not made or config.compute is None:
        wanted += [f"{_ML}/computes/write", f"{_ML}/computes/delete"]
    if config.environment is None:
        wanted.append(f"{_ML}/environments/versions/write")
    return wanted


def rights(service: Service, wanted: list[str]) -> Iterator[Finding]:
    """Whether the caller may do all of this in the workspace."""
    missing = service.denied(wanted)
    if not missing:
        yield Finding(Severity.OK, "rights", f"all {len(wanted)} that are needed")
        return
    clusters = any("computes" in right for right in missing)
    role = "AzureML Compute Operator" if clusters else "AzureML Data Scientist"
    yield Finding(
        Severity.ERROR, "rights", f"missing in the workspace: {', '.join(missing)}",
        f"az role assignment create --role {role!r} --assignee YOU --scope {service.root}",
    )  # fmt: skip


def _nodes(
    service: Service, config: AzureConfig, location: str, workers: int
) -> Iterator[Finding]:
    low = config.low_priority
    return _room(service, location, config.vm_size, "vm_size", workers, low_priority=low)


def _room(
    service: Service, location: str, name: str, field: str, nodes: int, *, low_priority: bool
) -> Iterator[Finding]:
    """The size is to be had in the region, and the quota has room for the nodes."""
    size = service.sizes(location).get(name.lower())
    if size is None:
        yield Finding(
            Severity.ERROR, field, f"{name} is not to be had in {location}",
            f"az ml compute list-sizes --location {location} shows what is",
        )  # fmt: skip
        return
    usages = service.usages(location)
    family = "lowprioritycores" if low_priority else str(size["family"]).lower()
    used, limit = usages.get(family, (0, 0))
    cores = nodes * int(size["vCPUs"])
    words = f"{cores} cores of {family} for {nodes} nodes; {limit - used} of {limit} are free"
    ask = f"ask for more: https://ml.azure.com/quota (region {location})"
    if limit < int(size["vCPUs"]):
        what = "the quota is 0" if limit == 0 else "the quota has room for no node"
        yield Finding(Severity.ERROR, "quota", f"{what}: {words}", ask)
    elif limit - used < cores:
        fewer = f"resources.workers: {max(1, (limit - used) // int(size['vCPUs']))}; or "
        fix = ask if field != "vm_size" else fewer + ask
        yield Finding(Severity.ERROR, "quota", f"too small: {words}", fix)
    else:
        yield Finding(Severity.OK, "quota", words)


def _environment(service: Service, config: AzureConfig, order: Order | None) -> Iterator[Finding]:
    lease = order or Order(lease_id="dy-0000000000", experiment="", store_url="")
    text = environment.named(config, lease)
    name, _, version = text.partition(":")
    try:
        service.environment(name, version)
    except Missing:
        if config.environment is None:
            yield Finding(Severity.OK, "environment", f"{text} will be made, its image built")
        else:
            yield Finding(
                Severity.ERROR, "environment", f"there is no environment {text}",
                "az ml environment list shows what there is",
            )  # fmt: skip
    else:
        yield Finding(Severity.OK, "environment", f"{text} is there")
