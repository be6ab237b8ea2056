"""Writes ``workers/<id>.json`` every second: the heartbeat of the worker, with its state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from drillyard.backend import Order
from drillyard.errors import InfrastructureError
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.driver_lock import host
from drillyard.mailbox.records import WorkerRecord
from drillyard.system.clock import Clock
from drillyard.system.operating_system import boot_id, pid_namespace
from drillyard.system.processes import ProcessId
from drillyard.system.redaction import redact
from drillyard.system.utilisation import Monitor

BEAT_S = 1.0
log = logging.getLogger(__name__)


class Heartbeat:
    """Writes the record of one worker; stepped beside the worker, which may hang in the store.

    Args:
        mailbox: The experiment.
        order: What was rented.
        worker: The worker's id.
        slots: Tickets that it does at once.
        clock: Time.
        usage: Samples the use of the machine; None for no samples.

    Attributes:
        heard: Whether the record is in the store. Whoever finds a claim of this worker later
            learns there which lease it is of, so it claims nothing before.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        order: Order,
        worker: str,
        slots: int,
        clock: Clock,
        usage: Monitor | None = None,
    ) -> None:
        me = ProcessId.current()
        self._mailbox = mailbox
        self._clock = clock
        self._usage = usage
        self._lock = threading.Lock()
        self.heard = False
        self._every_s = max(BEAT_S, 2 * pace(mailbox.store))
        self._record = WorkerRecord(
            worker=worker,
            lease=order.lease_id,
            slots=slots,
            environments=order.environments,
            host=host(),
            pid=me.pid,
            pid_started=me.started,
            boot_id=boot_id(),
            pid_namespace=pid_namespace(),
            code=order.code,
            written_at=clock.now(),
        )

    @property
    def record(self) -> WorkerRecord:
        """The worker's record as it was last written."""
        return self._record

    def step(self, now: float) -> float:
        """Write the record.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call.
        """
        if self._usage is not None:
            self._usage.step(now)
            for _ in self._usage.take():
                seen = {"usage": self._usage.latest, "warnings": self._usage.warnings}
                with self._lock:
                    self._record = self._record.model_copy(update=seen)
        self._beat()
        return self._every_s

    def tell(
        self, state: str, message: str = "", software: Mapping[str, str] | None = None
    ) -> None:
        """Change the state, and write it now; ``software``: what the machine has."""
        with self._lock:
            update: dict[str, object] = {"state": state, "message": redact(message)}
            if state == "ready":
                update |= {"ready_at": self._clock.now(), "software": dict(software or {})}
            self._record = self._record.model_copy(update=update)
        self._beat()

    def note(self, message: str) -> None:
        """Change the message; the next heartbeat writes it."""
        if message != self._record.message:
            with self._lock:
                update = {"message": redact(message)}
                self._record = self._record.model_copy(update=update)

    def _beat(self) -> None:
        with self._lock:
            update = {"beat": self._record.beat + 1, "written_at": self._clock.now()}
            self._record = self._record.model_copy(update=update)
            try:
                path = f"workers/{self._record.worker}.json"
                self._mailbox.write(path, self._record, listed=True)
            except InfrastructureError as error:
                log.warning("no heartbeat: %s", error)
            else:
                self.heard = True
