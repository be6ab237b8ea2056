"""Machines reached by SSH as a backend: each runs the same detached agent as this machine.

Every verb is one short command on the host (``drillyard_backends.ssh.remote``), which calls the
backend ``local`` there. So any user who can log in can find a lease by its marked processes,
adopt, list and end it, as on this machine. A lease continues when the connection ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import urlsplit

from drillyard.backend import Cost, Lease, Liveness, Order, Trait
from drillyard.backend.settings.model import configured
from drillyard.backend.translation import translating
from drillyard.documents.json_types import Json, JsonObject, as_list, as_object
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.findings import Finding, problem
from drillyard.mailbox import open_store
from drillyard.mailbox.store import ObjectMissing
from drillyard.simulators.hosts.posted import reach
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.claims import holder_of
from drillyard_backends.ssh.host import Host
from drillyard_backends.ssh.settings import Address, SshConfig
from drillyard_backends.ssh.store import split

S = TypeVar("S")
T = TypeVar("T")
_ORIGINAL = "drillyard_ssh_order"
"""Key of the whole order in the settings of a host's order."""


@translating()
class SshBackend:
    """Rents processes of machines that you can log in to.

    Args:
        clock: Clock for the timestamps of leases.
        **settings: See ``SshConfig``.

    Raises:
        ConfigError: Unknown or impossible settings.
    """

    kind = "ssh"
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.PULLS, Trait.HOSTS})
    Config = SshConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Json) -> None:
        self.config = configured(self.kind, SshConfig, settings)
        self._clock = clock
        self._hosts = [Host(text, self.config) for text in self.config.hosts]

    @classmethod
    def extra(cls) -> str:
        """See ``NeedsExtra``."""
        return "ssh"

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Checks login, interpreter, space and cores of every host; changes nothing."""
        shares = dict(self._shares(order)) if order is not None else {}

        def look(host: Host) -> list[Finding]:
            try:
                return host.check(shares.get(host), _folder(order) if order else None)
            except DrillyardError as error:
                return [
                    problem(
                        f"ssh {host}",
                        str(error),
                        error.hint or "look at the host",
                        infrastructure=isinstance(error, InfrastructureError),
                    )
                ]

        listed = [finding for findings in self._all(self._hosts, look) for finding in findings]
        return [*listed, *self._open_ports(order)]

    def provision(self, order: Order) -> Lease:
        """Starts an agent on every host that gets workers, unless it is alive."""
        sha256 = _experiment_sha256(order)
        shares = self._shares(order)
        leases = self._all(shares, lambda share: share[0].provision(share[1], sha256))
        return Lease(
            lease_id=order.lease_id,
            backend=self.kind,
            order=order,
            provider={
                "hosts": [
                    {"address": str(host), "agent": lease.provider}
                    for (host, _), lease in zip(shares, leases, strict=True)
                ]
            },
            created_at=self._clock.now(),
        )

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Returns ALIVE while an agent runs, and UNKNOWN if a host that may have one is silent.

        For a ticket, only the agent counts that claimed it: the others may work on for hours.
        """
        worker = None if ticket_id is None else holder_of(lease, ticket_id)

        def look(host: Host) -> Liveness:
            try:
                return host.probe(lease.lease_id, worker, _agent(lease, host))
            except InfrastructureError:
                return Liveness.UNKNOWN

        answers = self._all(self._of(lease), look)
        order = (Liveness.ALIVE, Liveness.UNKNOWN, Liveness.GONE)
        return min(answers, key=order.index, default=Liveness.GONE)

    def launch(self, lease: Lease, ticket_id: str) -> None:
        """Does nothing: the agents pull."""

    def logs(
        self, lease: Lease, handle: JsonObject | None = None, since: int = 0
    ) -> Iterator[str]:
        """Yields the lines of the agents' logs; each begins with its host if there are several."""
        hosts = self._of(lease)
        lines: list[str] = []
        for host in hosts:
            log = host.logs(_seen_by(host, lease))
            lines += [f"{host}: {line}" for line in log] if len(hosts) > 1 else log
        yield from lines[since:]

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Does nothing: no ticket was pushed. The agents read ``control/cancel.json``."""

    def teardown(self, lease: Lease) -> None:
        """Ends the agents, which stop their tickets, and then every other process of the lease."""
        self._all(self._of(lease), lambda host: host.teardown(_seen_by(host, lease)))

    def leases(self) -> Iterator[Lease]:
        """Yields the leases with a running process on a host of these settings.

        Raises:
            InfrastructureError: A host does not answer, so its leases are unknown.
        """
        leases: dict[str, Lease] = {}
        listings = self._all(self._hosts, Host.leases)
        for host, listed in zip(self._hosts, listings, strict=True):
            for lease in listed:
                known = leases.get(lease.lease_id)
                hosts = list(as_list(known.provider["hosts"])) if known else []
                hosts.append({"address": str(host), "agent": lease.provider})
                original = lease.order.settings.get(_ORIGINAL)
                leases[lease.lease_id] = Lease(
                    lease_id=lease.lease_id,
                    backend=self.kind,
                    order=Order.model_validate(original) if original else lease.order,
                    provider={"hosts": hosts},
                    created_at=lease.created_at,
                )
        yield from (leases[lease_id] for lease_id in sorted(leases))

    def estimate(self, order: Order) -> Cost:
        """Returns a cost of zero."""
        return Cost(note="your own machines")

    # -- inside -------------------------------------------------------------------------------

    def _shares(self, order: Order) -> list[tuple[Host, Order]]:
        """Returns the hosts that get workers, each with its part of an order."""
        slots = order.all_workers  # any of them may train, and the others host copies
        used = self._hosts[:slots]
        return [
            (host, _part(order, host, slots // len(used) + (n < slots % len(used))))
            for n, host in enumerate(used)
        ]

    def _open_ports(self, order: Order | None) -> Iterator[Finding]:
        """Says what copies on other machines need, which no login can test."""
        if order is not None and order.hosts and len(self._shares(order)) > 1:
            yield reach(self.config.copies_port)

    def _of(self, lease: Lease) -> list[Host]:
        """Returns the hosts that a lease names, or all hosts of the settings if it names none.

        A lease whose ``provision`` got no answer names no hosts. A host that was removed from the
        settings meanwhile still has its agent.
        """
        named = [
            str(as_object(entry)["address"]) for entry in as_list(lease.provider.get("hosts"))
        ]
        known = {str(host): host for host in self._hosts}
        if not named:
            return list(self._hosts)
        return [known.get(name) or Host(name, self.config) for name in named]

    @staticmethod
    def _all(items: Iterable[S], work: Callable[[S], T]) -> list[T]:
        """Works on all hosts in parallel; tries each one before it raises an error."""
        items = list(items)
        if len(items) == 1:
            return [work(items[0])]
        with ThreadPoolExecutor(min(16, max(1, len(items)))) as threads:
            futures = [threads.submit(work, item) for item in items]
        return [future.result() for future in futures]


def _agent(lease: Lease, host: Host) -> JsonObject:
    """Returns what a host said of its agent; empty if its answer was lost."""
    for entry in map(as_object, as_list(lease.provider.get("hosts"))):
        if entry["address"] == str(host):
            return as_object(entry.get("agent"))
    return {}


def _seen_by(host: Host, lease: Lease) -> Lease:
    """Returns the lease as a host sees it."""
    return Lease(
        lease_id=lease.lease_id,
        backend="local",
        created_at=lease.created_at,
        order=_part(lease.order, host, lease.order.workers),
        provider=_agent(lease, host),
    )


def _part(order: Order, host: Host, workers: int) -> Order:
    return order.model_copy(
        update={
            "store_url": store_there(order.store_url, host.address),
            "workers": workers,
            "settings": {_ORIGINAL: order.model_dump(mode="json")},
        }
    )


def store_there(url: str, address: Address) -> str:
    """Returns a store's URL for workers on a host: a store on the same host is a folder there."""
    if urlsplit(url).scheme != "sftp":
        return url
    place, folder = split(url)
    return folder if place.same_machine(address) else url


def _folder(order: Order) -> str | None:
    """Returns the folder of a store on a disk of this machine, or the nearest one that exists.

    The driver creates the store's folder; before that, a host that shares the disk lacks it, too.
    """
    if urlsplit(order.store_url).scheme:
        return None
    path = Path(order.store_url).expanduser().absolute()
    return str(next(p for p in (path, *path.parents) if p.is_dir()))


def _experiment_sha256(order: Order) -> str:
    key = f"{order.experiment}/experiment.json"
    try:
        return hashlib.sha256(open_store(order.store_url).get(key)).hexdigest()
    except ObjectMissing:
        raise UserError(
            f"no experiment {order.experiment!r} in {order.store_url}", hint="drillyard run FILE"
        ) from None
