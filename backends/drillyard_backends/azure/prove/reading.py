"""Probes of Azure that only read, and those of the store."""

from __future__ import annotations

from collections.abc import Iterator

from drillyard.documents.json_types import as_integer
from drillyard_backends.azure import prices, quota, rights
from drillyard_backends.azure.errors import Forbidden, Missing
from drillyard_backends.azure.prove.scene import AzureScene
from drillyard_backends.prove.probes import Claims, Observation, Probe, Untestable, of_store

CLAIMS = Claims("""
A124 the workspace's datastore tells its account and container
  no run begins; name account and container in the settings
A152 the workspace tells which permissions the caller has
  `plan` cannot say which rights are missing; a request is refused later
A70 a row of the quota is known by its name, its type and its scope
  `plan` refuses runs that could start, or lets runs wait that cannot
A71 there is a row for low-priority cores, in one of the two known forms
  `plan` warns for every low-priority run; nothing is left
A72 the family of a size is the name of its row
  as A70, for dedicated nodes
A74 there is a row for the total of the region
  nodes never come although `plan` says that there is room; nothing is paid
A78 the list of sizes tells name, family and number of cores
  `plan` cannot check the quota
A82 the price list is right to about a factor of two
  max_cost is kept by wrong prices; put the real ones into a file (DRILLYARD_AZURE_PRICES)
A103 only the first of two creates of one blob succeeds
  two attempts could both be accepted: do not use this account
A104 a read and a listing see every earlier write at once
  an end is seen late; results are accepted by A103 and stay safe
""")


def workspace(scene: AzureScene) -> Iterator[Observation]:
    """Reads the workspace and its datastore."""
    try:
        account, container = scene.service.datastore()
    except (KeyError, Missing) as error:
        yield CLAIMS.A124.fails(f"{type(error).__name__}: {error}")
        return
    yield CLAIMS.A124.judged(bool(account and container), "both are told")


def permissions(scene: AzureScene) -> Iterator[Observation]:
    """Asks which permissions the caller has."""
    needed = [*rights.RUN, *rights.CLUSTER, *rights.ENVIRONMENT]
    try:
        missing = scene.service.denied(needed)
    except Forbidden as error:
        raise Untestable(f"the permissions cannot be read: {error}") from error
    # A caller who could read the workspace may read it: the answer must say so.
    known = rights.RUN[0] not in missing
    text = f"{len(needed) - len(missing)} of {len(needed)} are granted"
    yield CLAIMS.A152.judged(
        known, text if known else "the right to read is missing in the answer"
    )


def quotas(scene: AzureScene) -> Iterator[Observation]:
    """Reads sizes and quotas of the region."""
    service, config = scene.service, scene.config
    location = str(service.workspace().get("location", ""))
    try:
        sizes, usages = service.sizes(location), service.usages(location)
    except Forbidden as error:
        raise Untestable(f"sizes and quotas cannot be read: {error}") from error
    size = sizes.get(config.vm_size.lower())
    if size is None:
        raise Untestable(f"{config.vm_size} is not available in the region")
    family, cores = str(size.get("family") or ""), as_integer(size.get("vCPUs"))
    yield CLAIMS.A78.judged(bool(family and cores), f"family {family or 'missing'}, {cores} cores")
    rows = quota.rows(usages)
    yield CLAIMS.A70.judged(bool(rows), f"{len(rows)} of {len(usages)} rows are understood")
    low = [row.name for row in rows if row.low_priority and not row.family]
    yield CLAIMS.A71.judged(bool(low), low[0] if low else f"none among {len(usages)} rows")
    of_family = [r.name for r in quota.of(rows, family, low_priority=False) if r.family]
    yield CLAIMS.A72.judged(bool(of_family), of_family[0] if of_family else f"none for {family}")
    total = [row.name for row in rows if not row.low_priority and not row.family]
    yield CLAIMS.A74.judged(bool(total), total[0] if total else "none")
    yield _price(
        prices.price(config.vm_size, config.low_priority),
        prices.listed_price(size, config.low_priority),
    )


def _price(ours: float | None, theirs: float | None) -> Observation:
    if not ours or not theirs:
        return CLAIMS.A82.untested("Azure lists no price of this size in the list's currency")
    near = 0.5 <= theirs / ours <= 2.0
    return CLAIMS.A82.judged(near, f"{theirs:g} at Azure, {ours:g} in the price list")


def store(scene: AzureScene) -> Iterator[Observation]:
    """Writes, reads, lists and deletes blobs of a few bytes."""
    yield from of_store(scene, CLAIMS.A103, CLAIMS.A104)


READING: tuple[Probe[AzureScene], ...] = (
    Probe("workspace", CLAIMS.of("A124"), workspace, 60.0),
    Probe("permissions", CLAIMS.of("A152"), permissions, 60.0),
    Probe("sizes and quotas", CLAIMS.of("A78 A70 A71 A72 A74 A82"), quotas, 60.0),
)
STORE: tuple[Probe[AzureScene], ...] = (
    Probe("store", CLAIMS.of("A103 A104"), store, 120.0, creates="a few blobs of some bytes"),
)
