"""Machines reached by SSH as a backend: on each the same detached agent as on this machine.

Every verb is one short command there (``drillyard_backends.ssh.remote``), which asks the backend
``local`` of that machine. So a lease is found by its marked processes, adopted, listed and ended
as at home, by whoever can log in, and lives on when the connection ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from drillyard.backend import Cost, Lease, Liveness, Order, Trait
from drillyard.backend.settings.model import configured
from drillyard.backend.translation import translating
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.findings import Finding, Severity
from drillyard.mailbox import open_store
from drillyard.mailbox.store import ObjectMissing
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.ssh.host import Host
from drillyard_backends.ssh.settings import Address, SshConfig
from drillyard_backends.ssh.store import split

T = TypeVar("T")
_ORIGINAL = "drillyard_ssh_order"
"""Where a host's order keeps the order that it is a part of."""


@translating()
class SshBackend:
    """Rents processes of machines that one may log in to.

    Args:
        clock: For the stamps of leases.
        **settings: See ``SshConfig``.

    Raises:
        ConfigError: Unknown or impossible settings.
    """

    kind = "ssh"
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.PULLS})
    Config = SshConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Any) -> None:
        self.config = configured(self.kind, SshConfig, settings)
        self._clock = clock
        self._hosts = [Host(text, self.config) for text in self.config.hosts]

    @classmethod
    def extra(cls) -> str:
        """See ``NeedsExtra``."""
        return "ssh"

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Login, interpreter, room and cores of every host; changes nothing."""
        shares = dict(self._shares(order)) if order is not None else {}

        def look(host: Host) -> list[Finding]:
            try:
                return host.check(shares.get(host), _folder(order) if order else None)
            except DrillyardError as error:
                return [
                    Finding(
                        Severity.ERROR, f"ssh {host}", str(error), error.hint or "look at the host"
                    )
                ]

        return [finding for found in self._all(self._hosts, look) for finding in found]

    def provision(self, order: Order) -> Lease:
        """Start an agent on every host that gets workers, unless it is alive."""
        sha256 = _experiment_sha256(order)
        shares = self._shares(order)

        def start(share: tuple[Host, Order]) -> Lease:
            host, part = share
            return host.provision(part, sha256)

        leases = self._all(shares, start)
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
        """ALIVE while an agent runs; UNKNOWN when a host that may have one does not answer."""

        def look(host: Host) -> Liveness:
            try:
                return host.probe(lease.lease_id)
            except InfrastructureError:
                return Liveness.UNKNOWN

        seen = set(self._all(self._of(lease), look))
        for answer in (Liveness.ALIVE, Liveness.UNKNOWN):
            if answer in seen:
                return answer
        return Liveness.GONE

    def launch(self, lease: Lease, ticket_id: str) -> None:
        """Nothing: the agents pull."""

    def logs(
        self, lease: Lease, handle: dict[str, Any] | None = None, since: int = 0
    ) -> Iterator[str]:
        """Lines of the agents' own logs; with the host in front where there are several."""
        hosts = self._of(lease)
        part = self._parts(lease.order)
        lines: list[str] = []
        for host in hosts:
            found = host.logs(part(lease, host))
            lines += [f"{host}: {line}" for line in found] if len(hosts) > 1 else found
        yield from lines[since:]

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Nothing was pushed; ``control/cancel.json`` reaches the agents."""

    def teardown(self, lease: Lease) -> None:
        """End the agents (they stop their tickets), then whatever is left of the lease."""
        part = self._parts(lease.order)
        self._all(self._of(lease), lambda host: host.teardown(part(lease, host)))

    def leases(self) -> Iterator[Lease]:
        """Leases of which any process lives on a host of these settings.

        Raises:
            InfrastructureError: A host does not answer: what lives there is not known.
        """
        found: dict[str, Lease] = {}
        for host, listed in zip(
            self._hosts, self._all(self._hosts, lambda h: h.leases()), strict=True
        ):
            for lease in listed:
                there = found.get(lease.lease_id)
                hosts = list(there.provider["hosts"]) if there else []
                hosts.append({"address": str(host), "agent": lease.provider})
                original = lease.order.settings.get(_ORIGINAL)
                found[lease.lease_id] = Lease(
                    lease_id=lease.lease_id,
                    backend=self.kind,
                    order=Order.model_validate(original) if original else lease.order,
                    provider={"hosts": hosts},
                    created_at=lease.created_at,
                )
        yield from (found[lease_id] for lease_id in sorted(found))

    def estimate(self, order: Order) -> Cost:
        """Free."""
        return Cost(note="your own machines")

    # -- inside -------------------------------------------------------------------------------

    def _shares(self, order: Order) -> list[tuple[Host, Order]]:
        """The hosts that get workers, each with its part of an order."""
        used = self._hosts[: order.workers]
        return [
            (
                host,
                _part(order, host, order.workers // len(used) + (n < order.workers % len(used))),
            )
            for n, host in enumerate(used)
        ]

    def _of(self, lease: Lease) -> list[Host]:
        """The hosts of a lease: those that it names, and those of the settings.

        A lease of an intent whose answer was lost names none; a host that the settings have lost
        meanwhile still has its agent.
        """
        named = [str(entry["address"]) for entry in lease.provider.get("hosts", [])]
        known = {str(host): host for host in self._hosts}
        if not named:
            return list(self._hosts)
        return [known.get(name) or Host(name, self.config) for name in named]

    @staticmethod
    def _parts(order: Order) -> Callable[[Lease, Host], Lease]:
        """What a host is told of a lease."""

        def part(lease: Lease, host: Host) -> Lease:
            return Lease(
                lease_id=lease.lease_id,
                backend="local",
                created_at=lease.created_at,
                order=_part(order, host, order.workers),
                provider={},
            )

        return part

    @staticmethod
    def _all(items: Any, work: Callable[[Any], T]) -> list[T]:
        """Work on all hosts side by side; every one is tried before an error is raised."""
        items = list(items)
        if len(items) == 1:
            return [work(items[0])]
        with ThreadPoolExecutor(min(16, max(1, len(items)))) as threads:
            futures = [threads.submit(work, item) for item in items]
        return [future.result() for future in futures]


def _part(order: Order, host: Host, workers: int) -> Order:
    return order.model_copy(
        update={
            "store_url": store_there(order.store_url, host.address),
            "workers": workers,
            "settings": {_ORIGINAL: order.model_dump(mode="json")},
        }
    )


def store_there(url: str, address: Address) -> str:
    """A store's URL as workers on a host reach it: a store on that very host is a folder there."""
    if urlsplit(url).scheme != "sftp":
        return url
    place, folder = split(url)
    return folder if place.same_machine(address) else url


def _folder(order: Order) -> str | None:
    """The folder of a store that lies on a disk of this machine."""
    parts = urlsplit(order.store_url)
    return order.store_url if parts.scheme == "" else None


def _experiment_sha256(order: Order) -> str:
    key = f"{order.experiment}/experiment.json"
    try:
        return hashlib.sha256(open_store(order.store_url).get(key)).hexdigest()
    except ObjectMissing:
        raise UserError(
            f"no experiment {order.experiment!r} in {order.store_url}", hint="drillyard run FILE"
        ) from None
