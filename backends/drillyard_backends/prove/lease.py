"""The only lease of a proof: written down before it is rented, ended and confirmed at its end.

It is a lease like that of an experiment: in the ledger of the store and on this machine. So the
next proof finishes what a killed one left, and `drillyard reap` does so too.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

from drillyard.backend import Backend, Cost, Lease, Order, delays_of
from drillyard.driver.heartbeat import Heartbeat
from drillyard.errors import AlreadyDriven, DrillyardError, UserError
from drillyard.leases.intent_files import forget_intent
from drillyard.leases.ledger import Entry, Intent, Ledger, local_intents
from drillyard.leases.release import release_confirmed
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.system.clock import Clock
from drillyard.system.loops import Loop
from drillyard_backends.prove.probes import EXPERIMENT

log = logging.getLogger(__name__)


def new_lease_id() -> str:
    """Returns an id that no other proof has."""
    return f"dy-{secrets.token_hex(5)}"


class ProofLease:
    """The right to prove in a store, and the lease.

    Args:
        backend: Rents and ends.
        store_url: Store of the proof.
        clock: For waiting and times.
        home: The local folder; default ``DRILLYARD_HOME``.
    """

    def __init__(
        self, backend: Backend, store_url: str, clock: Clock, home: Path | None = None
    ) -> None:
        self._backend, self._clock, self._home = backend, clock, home
        self._url = store_url
        self.mailbox = Mailbox(open_store(store_url), EXPERIMENT)
        self._ledger = Ledger(self.mailbox, clock, home)
        self._swept = False
        self._own = ""
        self._lock = DriverLock(self.mailbox, clock)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the lock of the store's proofs, with a heartbeat, as the driver of a run does.

        Raises:
            UserError: Another proof is at work in this store.
        """
        lock = DriverLock(self.mailbox, self._clock)
        try:
            lock.take(["drillyard", "prove", self._backend.kind])
        except AlreadyDriven as error:
            raise UserError(
                f"another `drillyard prove` is at work in {self.mailbox.store.url}: {error}",
                hint="wait for its end; if it was killed on another machine, wait a minute",
            ) from error
        self._lock, self._own = lock, self.mailbox.key(f"driver/{lock.number}.json")
        beat = Heartbeat(lock, lambda error: log.warning("%s", error))
        loop = Loop("prove-heartbeat", beat.step)
        loop.start()
        try:
            yield
        finally:
            loop.stop()
            with contextlib.suppress(DrillyardError):
                lock.release("ended")
                if self._swept:
                    self.mailbox.store.delete(self._own)

    def left(self, *, stored: bool = True) -> list[Lease]:
        """Leases of earlier proofs that are not known to be gone.

        Args:
            stored: False: only those that this machine knows of.

        Raises:
            StoreUnavailable: The store cannot be read.
        """
        entries = self._open() if stored else []
        leases = {entry.lease.lease_id: entry.lease for entry in entries}
        for intent in self._intents():
            lease = Entry(intent, None, None).lease
            leases.setdefault(lease.lease_id, lease)
        return [leases[key] for key in sorted(leases)]

    def _open(self) -> list[Entry]:
        return [entry for entry in self._ledger.entries() if entry.unseen]

    def _intents(self) -> Iterator[Intent]:
        for intent in local_intents(self._home):
            same = intent.order.experiment == EXPERIMENT and intent.order.store_url == self._url
            if same and intent.backend == self._backend.kind:
                yield intent

    def intend(self, order: Order, cost: Cost) -> None:
        """Writes down what is about to be rented.

        Raises:
            StoreUnavailable: It could not be written down; nothing may be rented.
            Superseded: Another proof took over; this one rents nothing.
        """
        self._lock.must_drive()
        ordinal = max((e.intent.ordinal for e in self._ledger.entries()), default=0) + 1
        self._ledger.intend(order, self._backend.kind, ordinal, cost)

    def rented(self, lease: Lease) -> None:
        """Writes down what the provider gave."""
        self._ledger.rented(lease)

    def end(self, lease: Lease) -> None:
        """Ends a lease and writes down its end, which the provider's listing has confirmed.

        Raises:
            TeardownUnconfirmed: A part of it may be alive. It stays in the ledger.
        """
        timeout_s = delays_of(self._backend).teardown_s
        release_confirmed(self._backend, lease, timeout_s=timeout_s, clock=self._clock)
        self._ledger.gone(lease.lease_id, "proved")
        self._ledger.confirm(lease.lease_id)
        forget_intent(lease.lease_id, self._home)

    def sweep(self) -> None:
        """Deletes the folder of the store, unless it names a lease that may be alive.

        The ledger goes last, and this process's own lock when it is released.

        Raises:
            Superseded: Another proof took over; the folder is that proof's now.
            StoreUnavailable: The store cannot be read.
        """
        self._lock.must_drive()
        if self.left():
            return
        ledger = self.mailbox.key("leases/")
        keys = [info.key for info in self.mailbox.store.list(self.mailbox.key(""))]
        for key in sorted(keys, key=lambda key: (key.startswith(ledger), "intent.json" in key)):
            if key != self._own:
                self.mailbox.store.delete(key)
        self._swept = True
