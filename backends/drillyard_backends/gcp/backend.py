"""Google Cloud as a backend: a managed group named after the lease, one machine a worker.

Names are computed from the lease, so that a process that knows only the JSON of a lease can find,
repeat and delete everything. The machines pull their work from the bucket, and delete themselves
through their group (``self_delete``) when no driver runs.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from drillyard.backend import Cost, Delays, Egress, Lease, Liveness, Order, Trait
from drillyard.backend.translation import translating
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import DrillyardError, NotFound, UserError
from drillyard.findings import Finding
from drillyard.mailbox import Mailbox
from drillyard.mailbox.store_check import check_store
from drillyard.mailbox.store_clock import StoreClock
from drillyard.runs import wheels
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends import wheel
from drillyard_backends.gcp import naming, plan, prices, records
from drillyard_backends.gcp.boots import FailedBoots
from drillyard_backends.gcp.bucket import ensure_bucket
from drillyard_backends.gcp.capacity import CapacityReconciler
from drillyard_backends.gcp.errors import Exists, InUse, Missing, translated
from drillyard_backends.gcp.group_ender import end_groups
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.lease_listing import group_of, listed_leases
from drillyard_backends.gcp.lease_view import FRESH_S, Viewer
from drillyard_backends.gcp.lives import Lives, at_strength
from drillyard_backends.gcp.machines import GoogleMachines
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.operations import Compute
from drillyard_backends.gcp.read_only_client import Reader
from drillyard_backends.gcp.settings import GcpConfig, read_settings
from drillyard_backends.gcp.store import GcsStore
from drillyard_backends.gcp.template import Properties, instance_template
from drillyard_backends.gcp.templates import make_template
from drillyard_backends.gcp.zones import Candidate, Place, candidates

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Instance

log = logging.getLogger(__name__)
TEARDOWN_S = 600.0
"""Google takes minutes to end a group."""


@translating(translated)
class GcpBackend(GoogleMachines):
    """Rents machines of Google Compute Engine.

    Args:
        clock: Clock for timestamps and waiting.
        **settings: See ``GcpConfig``.

    Raises:
        ConfigError, ConfigErrors: Unknown, missing or impossible settings.
    """

    kind = "gcp"
    traits: ClassVar[frozenset[Trait]] = frozenset(
        {Trait.PULLS, Trait.SPOT, Trait.PAID, Trait.HOSTS}
    )
    Config = GcpConfig

    def __init__(self, clock: Clock = SYSTEM, **settings: Json) -> None:
        self.config = read_settings(settings)
        self._clock = clock
        self._reconcilers: dict[str, CapacityReconciler] = {}
        self._viewers: dict[str, Viewer] = {}
        self._mailboxes: dict[tuple[str, str], Mailbox | None] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._endings: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
        self._lock = threading.Lock()

    @classmethod
    def extra(cls) -> str:
        """See ``NeedsExtra``."""
        return "gcp"

    def delays(self) -> Delays:
        """Returns the delays; the search for machines may use all its time."""
        return Delays(
            setup_s=self.config.capacity_s,
            teardown_s=TEARDOWN_S,
            listing_lag_s=self.config.listing_lag_s,
        )

    def store_url(self) -> str:
        """Returns the store to use if the user names none."""
        return self.config.store_url

    # -- verbs --------------------------------------------------------------------------------

    def check(self, order: Order | None = None) -> list[Finding]:
        """Checks login, APIs, rights, quota, image and bucket; changes nothing."""
        return plan.examine(self.config, order, clock=self._clock)

    def estimate(self, order: Order) -> Cost:
        """Returns the hourly price of the most expensive machine that may be used."""
        return plan.estimate(self.config, order)

    def console(self, lease: Lease) -> str:
        """Returns Google's page of the project's instance groups."""
        project = quote(str(lease.provider.get("project", self.config.project)))
        return f"https://console.cloud.google.com/compute/instanceGroups/list?project={project}"

    def egress(self) -> Egress:
        """See ``PricesEgress``."""
        return prices.EGRESS

    def prepare_store(self, url: str) -> None:
        """Creates the bucket of the mailbox unless it exists, and tries it once.

        Raises:
            UserError: No machine can reach the store.
            StoreUnavailable: The bucket does not exist and cannot be created, or is not writable.
        """
        if not url.startswith("gs://"):
            raise UserError(
                f"machines on Google Cloud cannot reach the store {url}",
                hint=f"leave out --store and DRILLYARD_STORE to use {self.store_url()}",
            )
        store = GcsStore(url)
        if store.bucket_name == self.config.bucket:
            config = self.config
            ensure_bucket(store, config.project, config.bucket_location, config.service_account)
        check_store(store)

    def now(self) -> float:
        """Returns Google's time in epoch seconds.

        Raises:
            ControlPlaneError: Google does not answer.
        """
        ahead = Reader(self.config.project, clock=self._clock).skew_s(self.config.bucket)
        return self._clock.now() - (ahead or 0.0)

    def protect(self, lease: Lease, until: float | None) -> None:
        """Marks the machines of a lease, so that a reaper spares them until then."""
        filter_ = f"labels.{naming.LEASE_LABEL}={lease.lease_id}"
        for instance in self._groups.instances(filter_):
            self._groups.set_label(
                instance, naming.PROTECTED_LABEL, None if until is None else str(int(until))
            )

    def provision(self, order: Order) -> Lease:
        """Requests the machines of a lease unless it exists; ``tend`` tries again."""
        with self._locked(order.lease_id):
            view = self._viewer(order).look()
            if not any(machines for machines in view.values()):
                wheels.send(order, self.config.target)
                self._step(order, self._machines(order.all_workers))
            return self._lease(order, self._time(order))

    def tend(self, lease: Lease, workers: int) -> int:
        """Replaces lost machines, tries other zones; returns the number of workers."""
        order = lease.order
        machines = self._machines(min(workers, order.all_workers))
        with self._locked(order.lease_id):
            expected = self._step(order, machines)
        return expected * self.config.workers_per_machine

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        """Returns ALIVE while a machine (of the ticket) is up, PENDING while one is requested."""
        view = self._viewer(lease.order).look(FRESH_S)
        mailbox = None if ticket_id is None else self._mailbox(lease.order)
        if ticket_id is not None and mailbox is not None:
            holder = records.holder_of(mailbox, lease.lease_id, ticket_id)
            if holder is not None:
                return holder.liveness((m.name, m.id, m.stage) for ms in view.values() for m in ms)
        stages = {m.stage for machines in view.values() for m in machines}
        if stages & {Stage.UP, Stage.GOING}:
            return Liveness.ALIVE
        reconciler = self._reconcilers.get(lease.lease_id)
        if stages or (reconciler is not None and reconciler.searching):
            return Liveness.PENDING
        return Liveness.GONE

    def launch(self, lease: Lease, ticket_id: str) -> None:
        """Does nothing: machines pull."""

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        """Does nothing: no ticket was pushed. The machines read ``control/cancel.json``."""

    def logs(
        self, lease: Lease, handle: JsonObject | None = None, since: int = 0
    ) -> Iterator[str]:
        """Yields the output of machines outside their runs: stored logs and serial ports."""
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

    def reasons(self, lease: Lease) -> list[str]:
        """Returns Google's own words about machines that do not come, or are not deleted."""
        words = {(c.variant, c.place.path): c.words for c in candidates(self.config)}
        texts: dict[str, None] = {}
        for group, machines in self._viewer(lease.order).look(FRESH_S).items():
            place = words.get((group.variant, group.place.path), group.place.name)
            texts |= dict.fromkeys(f"{place}: {m.trouble}" for m in machines if m.trouble)
        reconciler = self._reconcilers.get(lease.lease_id)
        if reconciler is not None:  # what was tried counts until all machines are up
            texts |= dict.fromkeys(f"{place}: {why}" for place, why in reconciler.tried.items())
        return [*texts]

    def simulate_preemption(self, lease: Lease, machine: str) -> None:
        """Preempts a Spot machine as Google would, with half a minute's notice.

        Raises:
            NotFound: The lease has no such machine.
        """
        for machines in self._viewer(lease.order).look().values():
            for managed in machines:
                if managed.name == machine:
                    self._groups.preempt(Place.parse(managed.address), machine)
                    return
        raise NotFound(f"lease {lease.lease_id} has no machine {machine!r} now")

    def teardown(self, lease: Lease) -> None:
        """Deletes the groups of a lease with all machines, then its templates; safe to repeat.

        Finds groups by name, in the listing, and by the machines' metadata: a lease may have been
        created under another ``group_prefix``. Deletes machines outside any group separately.
        """
        order = lease.order
        with self._locked(order.lease_id):
            self._reconcilers.pop(order.lease_id, None)
            viewer = self._viewer(order)
            viewer.forget()
            bases = {self._base(order), str(lease.provider.get("group") or self._base(order))}
            machines = list(
                self._groups.instances(f"labels.{naming.LEASE_LABEL}={order.lease_id}")
            )
            groups = self._known_groups(order, bases, machines)
            places = [groups[key] for key in sorted(groups)]
            if end_groups(self._groups, places, self._clock):
                for machine in machines:
                    self._groups.delete_instance(machine)
                self._delete_templates(bases, {name for _, name in groups})
            viewer.forget()

    def _known_groups(
        self, order: Order, bases: set[str], machines: list[Instance]
    ) -> dict[tuple[str, str], tuple[Place, str]]:
        """Returns every group that a lease may have: by its place and name, place and name."""
        known = [(g.place, self._name(order, g.variant)) for g in self._viewer(order).look()]
        known += [(g.place, g.name) for g in self._groups.listed() if _begins(g.name, bases)]
        known += [
            (c.place, naming.group_name(base, c.variant))
            for base in bases - {self._base(order)}
            for c in candidates(self.config)
        ]
        digits = self._base(order).rpartition("-")[2]
        origins = (group_of(machine) for machine in machines)
        known += [group for group in origins if group is not None and digits in group[1]]
        # One place can be written in two ways: a region with and without its zones.
        return {(place.path, name): (place, name) for place, name in known}

    def _delete_templates(self, bases: set[str], groups: set[str]) -> None:
        """Deletes a lease's templates: those of its groups, and of every variant."""
        variants = [c.variant for c in candidates(self.config)]
        templates = {naming.group_name(base, variant) for base in bases for variant in variants}
        # An earlier version of the settings had other variants.
        templates |= {t.name for t in self._groups.templates() if _begins(t.name, bases)}
        for name in sorted(templates | groups):
            self._groups.delete_template(name)

    def leases(self) -> Iterator[Lease]:
        """Yields the leases of all groups, machines and templates of ours in the project."""
        yield from listed_leases(self._groups, self.config.group_prefix, self._lease)

    # -- inside -------------------------------------------------------------------------------

    @cached_property
    def _groups(self) -> Groups:
        return Groups(Compute(self.config.project), self.config.group_prefix)

    def _locked(self, lease_id: str) -> threading.RLock:
        with self._lock:
            return self._locks.setdefault(lease_id, threading.RLock())

    def _time(self, order: Order) -> float:
        """Returns the time by the clock that an order's deadline is written in: its store's."""
        mailbox = self._mailbox(order)
        here = self._clock
        return here.now() if mailbox is None else StoreClock(mailbox.store, here).now()

    def _mailbox(self, order: Order) -> Mailbox | None:
        """Returns an order's mailbox; kept, because it has its own connections and login."""
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
                    self._groups,
                    self._base(order),
                    candidates(self.config),
                    self._clock,
                    self.config.listing_lag_s,
                )
            return self._viewers[order.lease_id]

    def _reconciler(self, order: Order) -> CapacityReconciler:
        if order.lease_id not in self._reconcilers:
            done = records.DoneMachines(self._mailbox(order), order.lease_id)
            self._reconcilers[order.lease_id] = CapacityReconciler(
                self._groups,
                self.config,
                order,
                lambda candidate, name: self._prepare(order, candidate, name),
                lambda group, machine: self._save_log(order, group, machine),
                Lives(
                    lambda: records.begun(self._mailbox(order), order.lease_id),
                    done,
                ),
                FailedBoots(
                    self._serial,
                    lambda: records.begun(self._mailbox(order), order.lease_id),
                    done.unready,
                    lambda machine, text: records.keep_log(
                        order, machine.name(self._base(order)), text
                    ),
                    self._endings.setdefault((order.store_url, order.experiment), {}),
                ),
                self._clock,
                lambda: self._time(order),
            )
        return self._reconcilers[order.lease_id]

    def _step(self, order: Order, machines: int) -> int:
        viewer = self._viewer(order)
        view = viewer.look(FRESH_S)
        if not at_strength(view, machines):
            view = viewer.look()  # whatever is changed, is changed after a look of now
        expected, used = self._reconciler(order).step(view, machines)
        if used:
            viewer.expect(used)
        return expected

    def _prepare(self, order: Order, candidate: Candidate, name: str) -> None:
        self._viewer(order).making(candidate)
        base = None
        if self.config.template is not None:
            base = self._properties(self.config.template)
        body = instance_template(
            order, self.config, candidate, name, self._time(order), base, wheel.send(order)
        )
        make_template(self._groups, body)

    def _properties(self, name: str) -> Properties:
        """Returns the properties of the user's own template."""
        try:
            template = self._groups.template(name)
        except Missing:
            raise UserError(
                f"there is no instance template {name!r} in {self.config.project}",
                hint="backends.gcp.template names an existing one; leave it out for drillyard's",
            ) from None
        kind = type(template.properties)
        properties: Properties = kind.to_dict(
            template.properties, including_default_value_fields=False
        )
        disks = properties.get("disks", [])
        if kept := [str(each["source"]) for each in disks if each.get("source")]:
            raise UserError(
                f"instance template {name!r} attaches the existing disk {kept[0]}, which would be "
                "deleted with the first machine",
                hint="give the template disks that are created from an image (initializeParams)",
            )
        return properties

    def _save_log(self, order: Order, group: Group, machine: Managed) -> None:
        """Saves the log of a lost machine before it is removed."""
        text = self._serial(group, machine)
        if text:
            records.keep_log(order, machine.name, text)

    def _serial(self, group: Group, machine: Managed) -> str | None:
        """What a machine wrote to its serial port; None if it cannot be read."""
        if machine.stage is Stage.COMING and machine.trouble is not None:
            return None
        if "/instances/" not in machine.address:
            return None
        try:
            return self._groups.serial(Place.parse(machine.address), machine.name)
        except (DrillyardError, Exists, InUse):
            return None


def _begins(name: str, bases: set[str]) -> bool:
    """Returns whether a name is one of a lease whose names begin with one of these."""
    return any(f"{name}-".startswith(f"{base}-") for base in bases)
