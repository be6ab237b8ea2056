"""Where the probes of Google Cloud work: the calls of the backend, and what was seen so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drillyard_backends.gcp import naming
from drillyard_backends.gcp.errors import Missing
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.operations import Compute
from drillyard_backends.gcp.read_only_client import Reader
from drillyard_backends.gcp.records import Started
from drillyard_backends.gcp.settings import GcpConfig
from drillyard_backends.gcp.zones import Place, candidates
from drillyard_backends.prove.probes import Scene, Untestable

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Instance, ManagedInstance


@dataclass(frozen=True, slots=True)
class Row:
    """A machine as its group lists it, in Google's words."""

    name: str
    number: str
    action: str
    status: str
    zone: str


@dataclass
class GcpScene(Scene):
    """The scene of Google Cloud.

    Attributes:
        config: The settings.
        reader: Asks without changing anything.
        compute: Makes the calls.
        groups: The same, of groups.
        spot: True if the machines can be preempted.
        words: Every (action, status) of a machine that was seen.
        last_words: What a machine printed last, as far as it was seen.
    """

    config: GcpConfig = field(kw_only=True)
    reader: Reader = field(kw_only=True)
    compute: Compute = field(kw_only=True)
    groups: Groups = field(kw_only=True)
    words: set[tuple[str, str]] = field(default_factory=set)
    last_words: str = ""
    _group: tuple[Place, str] | None = None

    @property
    def spot(self) -> bool:
        """True if the machines can be preempted."""
        return self.config.spot

    @property
    def base(self) -> str:
        """Beginning of every name of the lease."""
        return naming.base_name(self.config.group_prefix, self.order.lease_id)

    @property
    def group(self) -> tuple[Place, str]:
        """Place and name of the lease's group.

        Raises:
            Untestable: No group was made.
        """
        if self._group is None:
            for candidate in candidates(self.config):
                name = naming.group_name(self.base, candidate.variant)
                if self._rows(candidate.place, name):
                    self._group = candidate.place, name
                    break
            else:
                raise Untestable("no group of the lease has machines")
        return self._group

    def rows(self) -> list[Row] | None:
        """The machines of the group as it lists them; None: there is no such group."""
        return self._rows(*self.group)

    def _rows(self, place: Place, name: str) -> list[Row] | None:
        try:
            listed: list[ManagedInstance] = self.compute.pages(
                f"list the machines of {name}",
                "InstanceGroupManagers.list_managed_instances",
                place,
                instance_group_manager=name,
            )
        except Missing:
            return None
        rows = [_row(item) for item in listed]
        self.words |= {(row.action, row.status) for row in rows}
        return rows

    def row(self, index: int) -> Row | None:
        """A machine by its number, or None."""
        name = naming.Machine(index).name(self.group[1])
        base = naming.Machine(index).name(self.base)
        return next((r for r in self.rows() or [] if r.name in (name, base)), None)

    def instances(self) -> Iterator[Instance]:
        """The lease's machines in the listing of all zones."""
        yield from self.groups.instances(f"labels.{naming.LEASE_LABEL}={self.order.lease_id}")

    def started(self, machine: str) -> Started | None:
        """What a machine wrote into the store when it began; None: nothing yet."""
        path = f"leases/{self.order.lease_id}/machines/{machine}.json"
        return self.mailbox.read(path, Started)


def _row(item: ManagedInstance) -> Row:
    address = str(item.instance)
    name = item.name or address.rsplit("/", 1)[-1]
    zone = Place.parse(address).name if "/zones/" in address else ""
    number, action = str(item.id or ""), str(item.current_action)
    return Row(name, number, action, str(item.instance_status), zone)
