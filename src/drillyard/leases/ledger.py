"""The ledger: what was rented, what it cost, and when it was deleted.

    <store>/<experiment>/leases/<id>/intent.json    written before the first request
    <store>/<experiment>/leases/<id>/rented.json    what the provider gave
    <store>/<experiment>/leases/<id>/ending.json    its end is about to be asked for
    <store>/<experiment>/leases/<id>/gone.json      the provider's own listing showed nothing left
    <store>/<experiment>/leases/<id>/protect.json   a person wants no reaper to touch it
    <store>/<experiment>/leases/<id>/reaping.json   how often a reaper failed at it
    ~/.drillyard/intents/<id>.json                  the same intent, fsynced on this machine first

The local copy exists until the end is confirmed, so that a machine is found again also when the
store is not reachable or was deleted. ``DRILLYARD_HOME`` moves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from drillyard.backend import Cost, Lease, Order
from drillyard.backend.prices import spent
from drillyard.errors import CorruptObject, NewerVersion, StoreUnavailable
from drillyard.leases.ended_alone import latest_end, up_to_its_limit
from drillyard.leases.intent_files import intent_path, write_synced
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Record
from drillyard.mailbox.store import ObjectInfo
from drillyard.mailbox.store_clock import StoreClock
from drillyard.system.clock import Clock
from drillyard.system.home import local_home
from drillyard.system.safe_names import lease_id

_INTENT, _RENTED, _GONE = "intent.json", "rented.json", "gone.json"
_ENDING = "ending.json"
R = TypeVar("R", bound=Record)
LOST, FULL = "lost", "no capacity"
"""The reasons of leases that another one replaced: it ended by itself, or its place was full."""


class Intent(Record):
    """``intent.json``: what is about to be rented."""

    order: Order
    backend: str
    ordinal: int
    cost: Cost = Cost()
    written_at: float


class Rented(Record):
    """``rented.json``: what was rented."""

    lease: Lease
    written_at: float


class BeingEnded(Record):
    """``ending.json``: a command is about to end the lease. Deleted if a driver adopts it."""

    written_at: float


class Gone(Record):
    """``gone.json``: nothing of the lease is left."""

    lease_id: str
    reason: str
    lived_s: float
    cost: float = 0.0
    currency: str = "USD"
    confirmed: bool = True
    """True if the provider's own listing showed nothing of it."""
    written_at: float


class Protection(Record):
    """``protect.json``: until when no reaper may touch a lease."""

    until: float
    by: str = ""
    written_at: float


class Reaping(Record):
    """``reaping.json``: a reaper's failures at a lease, one after the other."""

    failures: int
    message: str
    written_at: float


@dataclass(frozen=True)
class Entry:
    """A lease as the ledger knows it."""

    intent: Intent
    rented: Rented | None
    gone: Gone | None
    ending: BeingEnded | None = None

    @property
    def lease(self) -> Lease:
        """The lease; if only the intent is known, what is needed to tear it down."""
        if self.rented is not None:
            return self.rented.lease
        return Lease(
            lease_id=self.intent.order.lease_id,
            backend=self.intent.backend,
            order=self.intent.order,
            created_at=self.intent.written_at,
        )

    @property
    def open(self) -> bool:
        """True while a part of it may be alive."""
        return self.gone is None

    @property
    def over(self) -> bool:
        """True once it has ended, or a command has begun to end it."""
        return self.gone is not None or self.ending is not None

    @property
    def unseen(self) -> bool:
        """True until the provider's listing showed nothing of it, also if it was written off."""
        return self.gone is None or not self.gone.confirmed

    def lived_s(self, now: float) -> float:
        """Seconds of its life so far: without another look, at most up to its limit."""
        if self.gone is not None:
            return self.gone.lived_s
        return max(0.0, up_to_its_limit(self.intent.order, now) - self.intent.written_at)

    def spent(self, now: float) -> float:
        """What it has cost so far, in the currency of its price."""
        return spent(self.intent.cost.per_hour, self.lived_s(now))


class Ledger:
    """The leases of an experiment.

    Args:
        mailbox: The experiment. A driver gives its fenced one, so that it writes down nothing, and
            rents nothing, once another driver took over.
        clock: For the times in the records; default the store's, because the writers of one
            ledger are on several machines.
        home: The local folder; default ``DRILLYARD_HOME`` or ``~/.drillyard``.
    """

    def __init__(
        self, mailbox: Mailbox, clock: Clock | None = None, home: Path | None = None
    ) -> None:
        self._mailbox = mailbox
        self._clock = clock or StoreClock(mailbox.store)
        self._home = home or local_home()
        self._known: dict[str, tuple[ObjectInfo, Record]] = {}
        """Key of a record -> how it was listed, and the record."""

    def entries(self) -> list[Entry]:
        """Every lease, oldest first. One listing, and reads of what is new in it."""
        prefix = self._mailbox.key("leases/")
        there: dict[str, dict[str, ObjectInfo]] = {}
        for info in self._mailbox.store.list(prefix):
            lease, _, name = info.key[len(prefix) :].partition("/")
            there.setdefault(lease, {})[name] = info
        found = [
            Entry(
                intent,
                self._seen(names, _RENTED, Rented),
                self._seen(names, _GONE, Gone),
                self._seen(names, _ENDING, BeingEnded),
            )
            for names in there.values()
            if (intent := self._seen(names, _INTENT, Intent)) is not None
        ]
        return sorted(found, key=lambda e: e.intent.ordinal)

    def _seen(self, names: Mapping[str, ObjectInfo], name: str, kind: type[R]) -> R | None:
        """A record of a lease; read again only when its size or time in the listing changed."""
        info = names.get(name)
        if info is None:
            return None
        known, record = self._known.get(info.key, (None, None))
        if known == info and isinstance(record, kind):
            return record
        read = self._mailbox.read(info.key.removeprefix(self._mailbox.key("")), kind)
        if read is not None:
            self._known[info.key] = info, read
        return read

    def entry(self, lease: str) -> Entry | None:
        """A lease by its id, or None."""
        read, folder = self._mailbox.read, f"leases/{lease}"
        intent = read(f"{folder}/{_INTENT}", Intent)
        if intent is None:
            return None
        return Entry(
            intent,
            read(f"{folder}/{_RENTED}", Rented),
            read(f"{folder}/{_GONE}", Gone),
            read(f"{folder}/{_ENDING}", BeingEnded),
        )

    def next_lease(self) -> tuple[int, str]:
        """(ordinal, id) of a lease that was never requested."""
        ordinal = max((e.intent.ordinal for e in self.entries()), default=0) + 1
        return ordinal, lease_id(self._mailbox.store.url, self._mailbox.experiment, ordinal)

    def intend(self, order: Order, backend: str, ordinal: int, cost: Cost) -> Intent:
        """Write down what is about to be rented; on disk when this returns.

        Raises:
            StoreUnavailable: It could not be written down, or another driver wrote this lease
                down before; nothing may be rented. The next try finds what it wrote.
            Superseded: Another driver took over.
        """
        intent = Intent(
            order=order,
            backend=backend,
            ordinal=ordinal,
            cost=cost,
            written_at=self._clock.now(),
        )
        write_synced(self._local(order.lease_id), intent.to_bytes())
        # Never over another one: a driver that was suspended here may continue hours later, when
        # this lease has long ended and been paid.
        if not self._mailbox.create(f"leases/{order.lease_id}/{_INTENT}", intent):
            raise StoreUnavailable(
                f"lease {order.lease_id} was written down by another driver at the same moment",
                hint="run the same command again",
            )
        return intent

    def must_write(self) -> None:
        """Check that this process may write; raises ``Superseded`` if another driver took over."""
        self._mailbox.must_write()

    def must_be_open(self, lease: str) -> None:
        """Check that no other command ended a lease while this process was suspended.

        Raises:
            Superseded: Another driver took over.
            StoreUnavailable: The lease was ended, or is being ended; whoever asks again rents
                another one.
        """
        self.must_write()
        if any(entry.over and entry.lease.lease_id == lease for entry in self.entries()):
            raise StoreUnavailable(
                f"lease {lease} was ended by another command at the same moment",
                hint="run the same command again",
            )

    def ending(self, lease: str) -> str:
        """Write down that the end of a lease is about to be asked for.

        Providers list late: what another process creates from now on may be missing in the
        listing that confirms the end. That process looks here afterwards, and ends it itself.

        Returns:
            The record's path, which is deleted when a driver uses the lease again.
        """
        self._write(lease, _ENDING, BeingEnded(written_at=self._clock.now()))
        return f"leases/{lease}/{_ENDING}"

    def not_ending(self, lease: str) -> None:
        """Write down that a lease is used again: the command that was ending it has died."""
        self._mailbox.must_write()
        self._mailbox.store.delete(self._mailbox.key(f"leases/{lease}/{_ENDING}"))

    def rented(self, lease: Lease) -> None:
        """Write down what the provider gave."""
        self._write(lease.lease_id, _RENTED, Rented(lease=lease, written_at=self._clock.now()))

    def gone(
        self, lease: str, reason: str, *, confirmed: bool = True, found: bool = False
    ) -> None:
        """Write down that a lease has ended.

        The local copy of the intent is deleted once the end is confirmed.

        Args:
            lease: Its id.
            reason: Why, as text.
            confirmed: True if the provider's own listing showed nothing of it.
            found: True if it was gone at the first check, so that it ended before: perhaps days
                ago. It then costs at most what it costs up to ``latest_end``.
        """
        entry = self.entry(lease)
        if entry is not None and entry.gone is None:
            now, cost = self._clock.now(), entry.intent.cost
            ended = latest_end(self._mailbox, entry.intent.order, now) if found else now
            lived_s = max(0.0, ended - entry.intent.written_at)
            record = Gone(
                lease_id=lease,
                reason=reason,
                lived_s=lived_s,
                cost=spent(cost.per_hour, lived_s),
                currency=cost.currency,
                confirmed=confirmed,
                written_at=now,
            )
            self._write(lease, _GONE, record)
        if confirmed:
            self._local(lease).unlink(missing_ok=True)

    def doubt(self, lease: str) -> None:
        """Write down that something of a lease that has ended may exist still.

        A superseded driver may write it, too: it makes the next command look once more.
        """
        entry = self.entry(lease)
        if entry is not None and entry.gone is not None and entry.gone.confirmed:
            doubted = entry.gone.model_copy(update={"confirmed": False})
            anyone = Mailbox(self._mailbox.store, self._mailbox.experiment)
            anyone.write(f"leases/{lease}/{_GONE}", doubted)
            self._known.clear()

    def confirm(self, lease: str) -> None:
        """Write down that the provider's listing showed nothing of a lease written off before."""
        entry = self.entry(lease)
        if entry is not None and entry.gone is not None and not entry.gone.confirmed:
            self._write(lease, _GONE, entry.gone.model_copy(update={"confirmed": True}))
        self._local(lease).unlink(missing_ok=True)

    def _write(self, lease: str, name: str, record: Record) -> None:
        """Write over a record, and forget what was read of it.

        Stores with times in whole seconds list the new one like the old one if both are of the
        same second and length.
        """
        path = f"leases/{lease}/{name}"
        try:
            self._mailbox.write(path, record)
        finally:
            self._known.pop(self._mailbox.key(path), None)

    def protect(self, lease: str, until: float, by: str) -> None:
        """Write down until when no reaper may touch a lease (0: it may).

        Args:
            lease: Its id.
            until: Epoch seconds.
            by: Who protects it.
        """
        record = Protection(until=until, by=by, written_at=self._clock.now())
        self._mailbox.write(f"leases/{lease}/protect.json", record)

    def protected_until(self, lease: str) -> float:
        """Epoch seconds until which no reaper may touch a lease; 0 where it may."""
        record = self._mailbox.read(f"leases/{lease}/protect.json", Protection)
        return record.until if record is not None else 0.0

    def reaping_failed(self, lease: str, message: str) -> int:
        """Count a reaper's failure at a lease.

        Returns:
            How many there were in a row.
        """
        before = self._mailbox.read(f"leases/{lease}/reaping.json", Reaping)
        failures = (before.failures if before else 0) + 1
        record = Reaping(failures=failures, message=message, written_at=self._clock.now())
        self._mailbox.write(f"leases/{lease}/reaping.json", record)
        return failures

    def spent(self) -> float:
        """What all leases of the experiment have cost so far."""
        entries, now = self.entries(), self._clock.now()
        return sum(entry.spent(now) for entry in entries)

    def used_s(self, since: float = 0.0) -> float:
        """Used seconds of ``budget.max_hours``: of the newest lease and of those it replaced.

        Args:
            since: Epoch seconds; a lease that ended before belongs to an earlier command.
        """
        entries, now, total = self.entries(), self._clock.now(), 0.0
        for newer, entry in enumerate(reversed(entries)):
            gone = entry.gone
            if gone is not None and (
                gone.reason not in (LOST, FULL) if newer else gone.written_at < since
            ):
                break
            total += entry.lived_s(now)
        return total

    def _local(self, lease: str) -> Path:
        return intent_path(lease, self._home)


def local_intents(home: Path | None = None) -> Iterator[Intent]:
    """Intents of this machine whose leases may be alive, whatever store they belong to."""
    for path in sorted(((home or local_home()) / "intents").glob("dy-*.json")):
        try:
            yield Intent.from_bytes(path.read_bytes())
        except (OSError, CorruptObject, NewerVersion):
            continue
