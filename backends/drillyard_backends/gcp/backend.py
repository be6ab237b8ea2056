"""Google Cloud as a backend: a managed group named after the lease, one machine a worker.

Names are computed from the lease, so that everything is found, repeated and deleted by a process
that knows nothing but the text of a lease. The machines pull their work from the bucket, and end
themselves through their group (``leaving``) when nobody drives any more.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote

from drillyard.backend import Cost, Delays, Lease, Liveness, Order, Trait
from drillyard.backend.translation import translating
from drillyard.errors import ControlPlaneError, CorruptObject, DrillyardError, NotFound, UserError
from drillyard.findings import Finding
from drillyard.mailbox import Mailbox
from drillyard.mailbox.canary import sing
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.safe_names import LEASE
from drillyard_backends import wheel
from drillyard_backends.gcp import naming, plan, records
from drillyard_backends.gcp.bucket import ensure_bucket
from drillyard_backends.gcp.capacity import CapacityReconciler
from drillyard_backends.gcp.errors import Exists, InUse, Missing, translated
from drillyard_backends.gcp.groups import Group, Groups, Managed, Stage
from drillyard_backends.gcp.lease_view import FRESH_S, Viewer
from drillyard_backends.gcp.operations import Compute
from drillyard_backends.gcp.preemption import preempt
from drillyard_backends.gcp.read_only_client import Reader
from drillyard_backends.gcp.settings import GcpConfig, read_settings
from drillyard_backends.gcp.store import GcsStore
from drillyard_backends.gcp.template import instance_template
from drillyard_backends.gcp.zones import Candidate, Place, candidates

log = logging.getLogger(__name__)
TEARDOWN_S = 600.0
"""Google takes minutes to end a group."""
TEARDOWN_WAIT_S = 20.0
"""How long one ``teardown`` waits for groups, so that their templates can go too."""


@translating(translated)
class GcpBackend:
    """Rents machines of Google Compute Engine.

    Args:
        clock: For stamps and waiting.
        **settings: See ``GcpConfig``.

    Raises:
        ConfigError, ConfigErrors: Unknown, missing or impossible settings.
    """

    kind = "gcp"
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.PULLS, Trait.SPOT, Trait.PAID})
    Config = GcpConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Any) -> None:
        self.config = read_settings(settings)
        self._clock = clock
        self._keepers: dict[str, CapacityReconciler] = {}
        self._viewers: dict[str, Viewer] = {}
        self._mailboxes: dict[tuple[str, str], Mailbox | None] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()

    @classmethod
    def extra(cls) -> str:
        """See ``NeedsExtra``."""
        return "gcp"

    def delays(self) -> Delays:
        """The search for machines may take as long as it is allowed to."""
        return Delays(
            setup_s=self.config.capacity_s,
            teardown_s=TEARDOWN_S,
            listing_lag_s=self.config.listing_lag_s,
        )

    def store_url(self) -> str:
        """The mailbox where none was chosen."""
        return self.config.store_url

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Login, APIs, rights, quota, image, bucket; changes nothing."""
        return plan.examine(self.config, order, clock=self._clock)

    def estimate(self, order: Order) -> Cost:
        """Price an hour of the dearest machine that may be taken."""
        return plan.estimate(self.config, order)

    def console(self, lease: Lease) -> str:
        """Google's page of the project's groups of machines."""
        project = quote(str(lease.provider.get("project", self.config.project)))
        return f"https://console.cloud.google.com/compute/instanceGroups/list?project={project}"

    def prepare_store(self, url: str) -> None:
        """Make the bucket of the mailbox unless it is there, and try it once.

        Raises:
            UserError: A store that no machine reaches.
            StoreUnavailable: The bucket is not there and cannot be made, or not be written to.
        """
        if not url.startswith("gs://"):
            raise UserError(
                f"machines on Google Cloud cannot reach the store {url}",
                hint=f"leave --store and DRILLYARD_STORE out: it is {self.store_url()} then",
            )
        store = GcsStore(url)
        if store.bucket_name == self.config.bucket:
            config = self.config
            ensure_bucket(store, config.project, config.bucket_location, config.service_account)
        sing(store)

    def now(self) -> float:
        """Google's clock, epoch seconds.

        Raises:
            ControlPlaneError: Nobody answered.
        """
        ahead = Reader(self.config.project, clock=self._clock).skew_s(self.config.bucket)
        return self._clock.now() - (ahead or 0.0)

    def protect(self, lease: Lease, until: float | None) -> None:
        """Mark the machines of a lease, so that a reaper spares them until then."""
        filter_ = f"labels.{naming.LEASE_LABEL}={lease.lease_id}"
        for instance in self._groups.instances(filter_):
            self._groups.set_label(
                instance, naming.PROTECTED_LABEL, None if until is None else str(int(until))
            )

    def provision(self, order: Order) -> Lease:
        """Ask for the machines of a lease, unless it is there; what is refused, ``tend`` mends."""
        with self._locked(order.lease_id):
            view = self._viewer(order).look()
            if not any(machines for machines in view.values()):
                self._step(order, self._machines(order.workers))
            return self._lease(order, self._clock.now())

    def tend(self, lease: Lease, workers: int) -> int:
        """Replace lost machines, go on to the next zone; how many workers can be expected."""
        order = lease.order
        wanted = self._machines(min(workers, order.workers))
        with self._locked(order.lease_id):
            expected = self._step(order, wanted)
        return expected * self.config.workers_per_machine

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """ALIVE while a machine (of the ticket) is up, PENDING while one comes or is sought."""
        view = self._viewer(lease.order).look(FRESH_S)
        mailbox = None if ticket_id is None else self._mailbox(lease.order)
        if ticket_id is not None and mailbox is not None:
            holder = records.holder_of(mailbox, lease.lease_id, ticket_id)
            if holder is not None:
                return holder.liveness((m.name, m.id, m.stage) for ms in view.values() for m in ms)
        stages = {m.stage for machines in view.values() for m in machines}
        if stages & {Stage.UP, Stage.GOING}:
            return Liveness.ALIVE
        keeper = self._keepers.get(lease.lease_id)
        if stages or (keeper is not None and keeper.searching):
            return Liveness.PENDING
        return Liveness.GONE

    def launch(self, lease: Lease, ticket_id: str) -> None:
        """Nothing: machines pull."""

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Nothing was pushed; ``control/cancel.json`` reaches the machines."""

    def logs(
        self, lease: Lease, handle: dict[str, Any] | None = None, since: int = 0
    ) -> Iterator[str]:
        """What machines wrote before and beside their runs: stored last words, serial ports."""
        stored = records.machine_logs(lease.order)
        for group, machines in self._viewer(lease.order).look(FRESH_S).items():
            for machine in machines:
                text = self._serial(group, machine)
                if text and machine.name not in stored:
                    stored[machine.name] = text
        lines = [
            f"{name}: {line}" if len(stored) > 1 else line
            for name, text in sorted(stored.items())
            for line in text.splitlines()
        ]
        yield from lines[since:]

    def simulate_preemption(self, lease: Lease, machine: str) -> None:
        """Let Google take a Spot machine away, as it would: with half a minute's notice.

        Raises:
            NotFound: The lease has no such machine.
        """
        for machines in self._viewer(lease.order).look().values():
            for one in machines:
                if one.name == machine:
                    preempt(self._compute, Place.parse(one.address), machine)
                    return
        raise NotFound(f"lease {lease.lease_id} has no machine {machine!r} now")

    def teardown(self, lease: Lease) -> None:
        """Delete the groups of a lease with all machines, then its templates; safe to repeat.

        Groups are found by name, in the listing, and by what the machines themselves say: a lease
        may have been made under another ``group_prefix``. A machine that is in no group is
        deleted by itself.
        """
        order = lease.order
        with self._locked(order.lease_id):
            self._keepers.pop(order.lease_id, None)
            viewer = self._viewer(order)
            viewer.forget()
            bases = {self._base(order), str(lease.provider.get("group") or self._base(order))}
            machines = list(
                self._groups.instances(f"labels.{naming.LEASE_LABEL}={order.lease_id}")
            )
            there = [(g.place, self._name(order, g.variant)) for g in viewer.look()]
            there += [
                (found.place, found.name)
                for found in self._groups.listed()
                if any(f"{found.name}-".startswith(f"{base}-") for base in bases)
            ]
            there += [
                (c.place, naming.group_name(base, c.variant))
                for base in bases - {self._base(order)}
                for c in candidates(self.config)
            ]
            digits = self._base(order).rpartition("-")[2]
            told = (_group_of(machine) for machine in machines)
            there += [found for found in told if found is not None and digits in found[1]]
            # One place may be written in two ways: a region with and without its zones.
            groups = {(place.path, name): (place, name) for place, name in there}
            if self._delete_groups([groups[key] for key in sorted(groups)]):
                for machine in machines:
                    self._groups.delete_instance(machine)
                own = {
                    naming.group_name(b, c.variant) for b in bases for c in candidates(self.config)
                }
                for name in sorted(own | {name for _, name in groups}):
                    self._groups.delete_template(name)
            viewer.forget()

    def leases(self) -> Iterator[Lease]:
        """Everything of ours in the project: groups, machines, templates."""
        found: dict[str, Lease] = {}
        templates = {t.name: t for t in self._groups.templates()}
        for template in templates.values():
            self._add(found, template.name, template.creation_timestamp, template)
        for group in self._groups.listed():
            self._add(found, group.name, group.created, templates.get(group.template))
        for instance in self._groups.instances(f"labels.{naming.MARK}={naming.MARK_VALUE}"):
            lease_id = instance.labels.get(naming.LEASE_LABEL, "")
            if not LEASE.match(lease_id):
                continue
            if lease_id not in found:
                order = _outline(lease_id, instance.labels)
                found[lease_id] = self._lease(order, _epoch(instance.creation_timestamp))
            until = instance.labels.get(naming.PROTECTED_LABEL, "")
            if until.isdigit():
                provider = {**found[lease_id].provider, "protected_until": float(until)}
                found[lease_id] = found[lease_id].model_copy(update={"provider": provider})
        yield from found.values()

    # -- inside -------------------------------------------------------------------------------

    @cached_property
    def _compute(self) -> Compute:
        return Compute(self.config.project)

    @cached_property
    def _groups(self) -> Groups:
        return Groups(self._compute, self.config.group_prefix)

    def _locked(self, lease_id: str) -> threading.RLock:
        with self._lock:
            return self._locks.setdefault(lease_id, threading.RLock())

    def _mailbox(self, order: Order) -> Mailbox | None:
        """Of an order; kept, for it has connections and a login of its own."""
        key = order.store_url, order.experiment
        with self._lock:
            if key not in self._mailboxes:
                self._mailboxes[key] = records.mailbox_of(order)
            return self._mailboxes[key]

    def _base(self, order: Order) -> str:
        return naming.base_name(self.config.group_prefix, order.lease_id)

    def _name(self, order: Order, variant: int) -> str:
        return naming.group_name(self._base(order), variant)

    def _machines(self, workers: int) -> int:
        return math.ceil(workers / self.config.workers_per_machine)

    def _lease(self, order: Order, created_at: float) -> Lease:
        return Lease(
            lease_id=order.lease_id,
            backend=self.kind,
            order=order,
            provider={"project": self.config.project, "group": self._base(order)},
            created_at=created_at,
        )

    def _viewer(self, order: Order) -> Viewer:
        with self._lock:
            if order.lease_id not in self._viewers:
                self._viewers[order.lease_id] = Viewer(
                    self._groups, self._base(order), candidates(self.config), self._clock
                )
            return self._viewers[order.lease_id]

    def _keeper(self, order: Order) -> CapacityReconciler:
        if order.lease_id not in self._keepers:
            self._keepers[order.lease_id] = CapacityReconciler(
                self._groups,
                self.config,
                order,
                lambda candidate, name: self._prepare(order, candidate, name),
                lambda group, machine: self._bury(order, group, machine),
                lambda: records.begun(self._mailbox(order), order.lease_id),
                self._clock,
            )
        return self._keepers[order.lease_id]

    def _delete_groups(self, groups: list[tuple[Place, str]]) -> bool:
        """Ask for the end of groups; True when all were gone within a while."""
        asked, gone = [], True
        for place, name in groups:
            try:
                asked.append((place, name, self._groups.delete(place, name)))
            except (InUse, Exists, ControlPlaneError) as error:
                # The others go all the same: each of them costs money.
                log.info("%s; asked for again later", error)
                gone = False
        deadline = self._clock.monotonic() + TEARDOWN_WAIT_S
        for place, name, operation in asked:
            if operation is not None:
                left_s = max(0.0, deadline - self._clock.monotonic())
                try:
                    self._compute.wait(f"delete group {name}", operation, place, left_s)
                except (InUse, Exists, ControlPlaneError) as error:
                    log.info("%s; asked for again later", error)
                    gone = False
                except Missing:
                    continue
        return gone

    def _step(self, order: Order, wanted: int) -> int:
        viewer = self._viewer(order)
        expected, used = self._keeper(order).step(viewer.look(), wanted)
        if used:
            viewer.expect(used)
        return expected

    def _prepare(self, order: Order, candidate: Candidate, name: str) -> None:
        base = None
        if self.config.template is not None:
            base = self._properties(self.config.template)
        body = instance_template(
            order, self.config, candidate, name, self._clock.now(), base, wheel.send(order)
        )
        self._groups.make_template(body)

    def _properties(self, name: str) -> dict[str, Any]:
        """Of the user's own template, as the library's mapping."""
        try:
            template = self._groups.template(name)
        except Missing:
            raise UserError(
                f"there is no instance template {name!r} in {self.config.project}",
                hint="backends.gcp.template names an existing one; leave it out for drillyard's",
            ) from None
        kind = type(template.properties)
        found = dict(kind.to_dict(template.properties, including_default_value_fields=False))
        if kept := [str(one["source"]) for one in found.get("disks", []) if one.get("source")]:
            raise UserError(
                f"instance template {name!r} attaches the existing disk {kept[0]}, which would be "
                "deleted with the first machine",
                hint="give the template disks that are made from an image (initializeParams)",
            )
        return found

    def _bury(self, order: Order, group: Group, machine: Managed) -> None:
        """Keep what a lost machine wrote, before it is removed."""
        text = self._serial(group, machine)
        if text:
            records.keep_log(order, machine.name, text)

    def _serial(self, group: Group, machine: Managed) -> str:
        if machine.trouble is not None or "/instances/" not in machine.address:
            return ""
        try:
            return self._groups.serial(Place.parse(machine.address), machine.name)
        except (DrillyardError, Exists, InUse):
            return ""

    def _add(self, found: dict[str, Lease], name: str, created: str, template: Any) -> None:
        lease_id = naming.lease_of(name, self.config.group_prefix)
        if lease_id is None or lease_id in found:
            return
        order = _order_of(template) or Order(lease_id=lease_id, experiment="", store_url="")
        if order.lease_id == lease_id:
            found[lease_id] = self._lease(order, _epoch(created))


def _group_of(instance: Any) -> tuple[Place, str] | None:
    """The group that a machine was made by, as drillyard, else Google, told it."""
    told = {item.key: item.value for item in instance.metadata.items}
    path = told.get(naming.GROUP_KEY) or told.get("created-by") or ""
    name = path.rpartition("/")[2]
    try:
        return (Place.parse(path), name) if name else None
    except ValueError:
        return None


def _order_of(template: Any) -> Order | None:
    for item in template.properties.metadata.items if template is not None else []:
        if item.key == naming.ORDER_KEY:
            try:
                return Order.from_bytes(item.value.encode())
            except CorruptObject:
                return None
    return None


def _outline(lease_id: str, labels: Any) -> Order:
    """What labels tell of an order: enough to end the lease, and to know whether it is over."""
    until = labels.get(naming.UNTIL_LABEL, "")
    return Order(
        lease_id=lease_id,
        experiment=labels.get(naming.EXPERIMENT_LABEL, ""),
        store_url="",
        deadline=float(until) if until.isdigit() else None,
    )


def _epoch(stamp: str) -> float:
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return 0.0
