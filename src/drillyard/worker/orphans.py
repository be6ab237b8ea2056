"""Ends the processes and claims of dead workers of the same lease on this machine."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterable

from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import STALE_S, host, process_alive
from drillyard.mailbox.mailbox import WorkerCache, sha256_hex
from drillyard.mailbox.records import WORKER_STATES, WorkerRecord
from drillyard.mailbox.silence import Silence
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.clock import Clock
from drillyard.system.operating_system import CONTINUE
from drillyard.system.processes import ProcessId, end, send
from drillyard.worker import endings

GRACE_S = 8.0
"""Seconds for processes of a dead worker, which notice its death, to write a checkpoint."""
AGAIN_S = 5.0
"""Seconds between two checks of a worker whose process is not visible here."""
WATCHED_S = 15.0
"""For which the heartbeat of such a worker must stay the same."""
_POLL_S = 0.2


def worker_id(lease: str) -> str:
    """A new id of a worker on this machine; ids of earlier workers here have the same prefix."""
    return f"{_stem(lease, host())}{secrets.token_hex(3)}"


def _stem(lease: str, host: str) -> str:
    # With hundreds of machines, not every worker may read the records of all others.
    return f"{lease}-{sha256_hex(host.encode())[:4]}"


class OrphanCloser:
    """Ends what dead workers of a lease left on this machine, and their claims.

    A worker whose process is visible here is dead if its process is. Any other worker (the machine
    was restarted, or a container has the same host name) is dead without heartbeats, and a living
    neighbour with them.

    Args:
        mailbox: The experiment.
        me: The worker that takes over.
        record: Its own record.
        orphans: Returns their remaining processes; called only if a worker has died.
        clock: For the stamps.
        cause: Why they ended.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        me: ProcessId,
        record: WorkerRecord,
        orphans: Callable[[], Iterable[ProcessId]],
        clock: Clock,
        cause: Cause = Cause.INFRASTRUCTURE,
    ) -> None:
        self._mailbox = mailbox
        self._me = me
        self._record = record
        self._orphans = orphans
        self._clock = clock
        self._cause = cause
        self._cache: WorkerCache = {}
        self._silence = Silence()
        self._undecided = False
        """Whether some of them may still be working."""
        self._decided = {record.worker}
        self._dead: set[str] = set()
        """Dead workers whose claims are not closed yet."""
        self._left: list[ProcessId] = []
        """Processes of dead workers that may still be writing."""
        self._told_at = 0.0

    def step(self, now: float) -> float | None:
        """Check once.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None once all of them are decided.

        Raises:
            InfrastructureError: The store is unreachable; the next call continues.
        """
        if not self._dead:
            self._dead, self._undecided = self._look(now)
            if self._dead:
                self._tell_to_end(now)
        if self._dead:
            self._left = [process for process in self._left if process.alive()]
            if self._left and now - self._told_at < GRACE_S:
                return _POLL_S
            end(self._left, grace_s=0.0)
            self._close(self._dead)
            self._decided |= self._dead
            self._dead = set()
        return AGAIN_S if self._undecided else None

    def _look(self, now: float) -> tuple[set[str], bool]:
        """The dead workers, and whether others are undecided."""
        mine = self._record
        self._mailbox.workers(self._cache, WORKER_STATES, _stem(mine.lease, mine.host))
        store_now = self._mailbox.store.now()
        dead: set[str] = set()
        undecided = False
        for info, other in self._cache.values():
            name = other.worker
            if name in self._decided or (other.lease, other.host) != (mine.lease, mine.host):
                continue
            alive = process_alive(other) if other.pid else True
            if alive is None:
                # After an outage of the store every heartbeat is old, and the next one of a living
                # worker may come some seconds later.
                alive = self._silence.changed(name, info.updated_at)
                same_s = self._silence.seconds(name, info.updated_at, now, AGAIN_S)
                silent_s = store_now - info.updated_at
                if not alive and (same_s < WATCHED_S or silent_s < STALE_S):
                    undecided = True
                    continue
            if alive:
                self._decided.add(name)
            else:
                dead.add(name)
        return dead, undecided

    def _tell_to_end(self, now: float) -> None:
        spared = {self._me.pid, os.getppid()}
        self._left = [
            p for p in self._orphans() if p.pid not in spared and p.started < self._me.started
        ]
        self._told_at = now
        for process in self._left:
            send(process, signal.SIGTERM)
            # A stopped process receives only SIGKILL until it is continued.
            send(process, CONTINUE)

    def _close(self, dead: set[str]) -> None:
        for name, state in ticket_states(self._mailbox).items():
            if state.status is not Status.RUNNING or state.attempt is None:
                continue
            claim = self._mailbox.read_claim(name, state.attempt)
            if claim is None or claim.worker not in dead:
                continue
            accepted = self._mailbox.accepted(state.ticket.run, state.ticket.phase)
            message = f"worker {claim.worker} died"
            if accepted is not None and accepted.attempt == claim.attempt:
                ending = endings.succeeded(claim, self._clock, message, accepted.status)
            else:
                ending = endings.failed(
                    claim,
                    self._clock,
                    self._cause,
                    message,
                    hint="the next attempt continues from the last checkpoint, if any",
                )
            self._mailbox.end(ending.model_copy(update={"by": self._record.worker}))
