"""Hosts of copies of the simulator, in slots of a worker that have no ticket.

A training with ``simulator.copies_on: workers`` posts an invitation (``simulators.hosts.posted``).
The worker follows the attempt that has the ticket: it starts one host in each free slot, starts it
again when it ends, and ends it with the attempt. One training has all hosts at a time, so
trainings are claimed one after the other, in the order of the queue.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import InfrastructureError, NewerVersion
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.driver_lock import host
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.simulators.hosts.posted import PostedInvitation, path_of
from drillyard.simulators.hosts.providers import PATIENCE_S, start_host
from drillyard.system.files import PRIVATE, write_file

AGAIN_S, LONGEST_S = 1.0, 30.0
"""Seconds until a host that has ended is started again; doubled each time that it fails."""
_DOUBLED = 5
"""Doublings after which it stays at the longest."""
JOINED_S = 2 * PATIENCE_S
"""A host that lives longer has joined: it looks for its learner for about half of this time."""
END_S = 5.0
"""Seconds between SIGTERM and SIGKILL for a host."""
_REFUSED = 2
"""Exit code of a host that its learner refuses: starting it again would not help."""
log = logging.getLogger(__name__)


def training_now(states: Iterable[TicketState]) -> TicketState | None:
    """The training that other trainings wait for: the one that runs, or else the next one.

    Args:
        states: States of tickets, in queue order.
    """
    trainings = [s for s in states if s.ticket.phase is Phase.TRAIN]
    running = (s for s in trainings if s.status is Status.RUNNING)
    return next(running, next((s for s in trainings if s.claimable is not None), None))


@dataclass
class _HostProcess:
    process: subprocess.Popen[bytes]
    attempt: tuple[str, int]
    started_at: float
    ending_since: float | None = None


class CopyHosts:
    """The hosts that one worker runs.

    Args:
        mailbox: Where trainings post their invitations.
        order: What was rented; without ``hosts`` this does nothing.
        scratch: Local folder of the worker.
        tell: Receives what the worker does, for its record; empty if it hosts nothing.

    Attributes:
        only: The run that it hosts for; None: whichever trains.
    """

    def __init__(
        self, mailbox: Mailbox, order: Order, scratch: Path, tell: Callable[[str], None]
    ) -> None:
        self.only: str | None = None
        self._mailbox, self._scratch, self._tell = mailbox, scratch, tell
        self._on = order.hosts > 0
        self._look_s = max(AGAIN_S, pace(mailbox.store))
        self._hosts: list[_HostProcess] = []
        self._training: TicketState | None = None
        self._attempt: tuple[str, int] | None = None
        self._next = 0.0
        self._failures = self._started = 0
        self._refused = False

    @property
    def needed(self) -> bool:
        """True while there is a training that this worker hosts for, or soon will."""
        return self._training is not None

    def waits(self, state: TicketState) -> bool:
        """True for a training that is not the next one: one training at a time has all hosts.

        Args:
            state: A ticket.
        """
        now = self._training
        return (
            now is not None
            and state.ticket.phase is Phase.TRAIN
            and now.ticket.ticket != state.ticket.ticket
        )

    def follow(self, now: float, states: Mapping[str, TicketState]) -> int:
        """Collect what has ended, and end hosts whose attempt has.

        Args:
            now: Monotonic seconds.
            states: States of all tickets.

        Returns:
            Slots that hosts take.
        """
        if not self._on:
            return 0
        self._collect(now)
        states_of_run = (s for s in states.values() if self.only in (None, s.ticket.run))
        training = self._training = training_now(states_of_run)
        attempt = None
        if training is not None and training.status is Status.RUNNING and training.attempt:
            attempt = training.ticket.run, training.attempt
        if attempt != self._attempt:
            self._attempt, self._failures, self._refused, self._next = attempt, 0, False, now
        for each in self._hosts:
            if each.attempt != attempt and each.ending_since is None:
                each.ending_since = now
                each.process.terminate()
        return len(self._hosts)

    def fill(self, now: float, free: int, paths: Sequence[Path]) -> None:
        """Start a host in each free slot, if there is an invitation.

        Args:
            now: Monotonic seconds.
            free: Slots without a ticket and without a host.
            paths: Folders for the front of ``sys.path``.
        """
        if not self._on:
            return
        self._tell(self._message())
        if free <= 0 or self._attempt is None or self._refused or now < self._next:
            return
        self._next = now + self._look_s
        path = path_of(*self._attempt)
        try:
            posted = self._mailbox.read(path, PostedInvitation)
        except (InfrastructureError, NewerVersion) as error:
            log.warning("hosts of copies cannot be started now: %s", error)
            return
        if posted is None or not posted.addresses:
            return
        try:
            self._start(posted, now, free, paths)
        except (
            OSError
        ) as error:  # no process, or no room for the file; tickets of this worker go on
            log.warning("no host of copies can be started now: %s", error)
            self._failed(now)

    def _start(
        self, posted: PostedInvitation, now: float, number: int, paths: Sequence[Path]
    ) -> None:
        assert self._attempt is not None
        # A host that was started before may be reading the earlier one.
        file = write_file(
            self._scratch / "invitation.json", posted.invitation().to_json(), PRIVATE
        )
        for _ in range(number):
            self._started += 1
            name = f"{host()}-{self._started}"
            started = start_host(file, name, first=paths)
            self._hosts.append(_HostProcess(started, self._attempt, now))
            log.info("%s hosts copies for %s, attempt %d", name, *self._attempt)

    def _failed(self, now: float) -> None:
        """A host was not started, or ended before it had joined."""
        self._failures += 1
        self._next = now + min(AGAIN_S * 2 ** min(self._failures, _DOUBLED), LONGEST_S)

    def _message(self) -> str:
        if self._refused and self._attempt is not None:
            return f"{self._attempt[0]} refuses hosts of copies: `drillyard logs` says why"
        if self._failures and self._attempt is not None:
            run = self._attempt[0]
            return f"hosts of copies for {run} end before they join: see `drillyard logs`"
        living = [h for h in self._hosts if h.ending_since is None]
        return f"hosts copies for {living[0].attempt[0]}" if living else ""

    def close(self) -> None:
        """End all hosts now; their learners go back to their last checkpoint."""
        for each in self._hosts:
            each.process.kill()
        for each in self._hosts:
            each.process.wait()
        self._hosts = []

    def _collect(self, now: float) -> None:
        for each in list(self._hosts):
            code = each.process.poll()
            joined = each.attempt == self._attempt and now - each.started_at > JOINED_S
            if joined:
                self._failures = 0
            if code is None:
                if each.ending_since is not None and now - each.ending_since > END_S:
                    each.process.kill()
                continue
            self._hosts.remove(each)
            if each.ending_since is not None or each.attempt != self._attempt:
                continue
            log.info("a host of copies has ended with code %d", code)
            self._refused = self._refused or code == _REFUSED
            if code != 0 and not joined:
                self._failed(now)
                continue
            self._failures = 0
            self._next = now + AGAIN_S
