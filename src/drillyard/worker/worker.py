"""The worker of one machine: claims tickets, starts them, writes their endings, and exits.

It decides by the mailbox alone, so that work continues without a driver. ``step`` contains all
decisions: it receives the time, acts, and returns when to call it again.
Threads, signals and waiting are in ``loop``; processes are behind ``machine``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.mailbox import Mailbox, Store, open_store, pace
from drillyard.mailbox.records import Cancel, Claim, Phase
from drillyard.mailbox.status import Cause
from drillyard.mailbox.store_clock import StoreClock
from drillyard.mailbox.ticket_states import StateCache, TicketState, ticket_states
from drillyard.system import gpu_software
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.processes import ProcessId, marked
from drillyard.system.scratch import RUNTIME
from drillyard.worker import endings, machine_share
from drillyard.worker.claiming import Pauses, claim, may_join
from drillyard.worker.copy_hosts import CopyHosts
from drillyard.worker.execution import REPORTED
from drillyard.worker.heartbeat import Heartbeat
from drillyard.worker.machine import Exit, Job, Machine
from drillyard.worker.orphans import OrphanCloser, worker_id
from drillyard.worker.outbox import EndingOutbox
from drillyard.worker.pool import Pool
from drillyard.worker.preparation import Preparation
from drillyard.worker.running import RunningTickets
from drillyard.worker.without_driver import CloseLost, DriverWatch

POLL_S = 0.2
SLOW_POLL_S = 1.0
"""Pause while every slot is taken, or without new tickets for a while, in seconds."""
STOP_GRACE_S = 20.0
"""Seconds after a stop request in which a ticket may stop; then it is killed."""
TERM_GRACE_S = 8.0
"""The same after SIGTERM, whose sender usually waits ten seconds."""
STORE_AWAY_S = 900.0
"""A worker without work and without a store exits after this time, in seconds."""
ASK_S = 1.0
"""Seconds after SIGTERM in which it may read the mailbox before it stops its tickets."""
FLUSH_S = 5.0
"""How long the store may take for the last records after the last ticket, in seconds."""
_ASKED = "the worker was asked to end"
log = logging.getLogger(__name__)


class Worker:
    """The worker program of one machine.

    Args:
        order: What was rented.
        scratch: Local folder for code and attempts; its content is the worker's own.
        slots: Tickets at once on this machine; default all workers of the order.
        clock: For waiting and durations. Times in records and the lease's limit are the store's.
        machine: Where tickets run; default this machine.
        store: Store of the mailbox; default the store of the order.
        term_grace_s: How long tickets may take to stop after SIGTERM.
        paid: The machine costs money: it shuts down when it is idle, even with a driver, and at
            once if no driver is running and every ticket is decided.
        close_lost: Called from time to time without a driver, with the states of all tickets:
            closes the attempts of lost machines.

    Attributes:
        heart: Its heartbeat, which the caller of ``step`` also steps.
        exit_code: 0 done, 2 the user's code or requirements cannot be installed, 4 machinery;
            None while it works.
        unusable: Why this machine could not be set up.
    """

    unusable = ""

    def __init__(
        self,
        order: Order,
        scratch: Path,
        slots: int | None = None,
        clock: Clock = SYSTEM,
        *,
        machine: Machine | None = None,
        store: Store | None = None,
        term_grace_s: float = TERM_GRACE_S,
        paid: bool = False,
        close_lost: CloseLost | None = None,
    ) -> None:
        self.order = order
        self.id = worker_id(order.lease_id)
        store = store or open_store(order.store_url)
        self.clock = clock = StoreClock(store, clock)
        self.machine = machine or Pool(slots or order.workers, order, scratch)
        self.exit_code: int | None = None
        self._scratch = scratch
        self._mailbox = Mailbox(store, order.experiment)
        self._pace_s = pace(self._mailbox.store)
        self._term_grace_s = term_grace_s
        self._paid = paid
        self._outbox = EndingOutbox(self._mailbox, self.id, clock)
        on = self.machine
        self.heart = Heartbeat(self._mailbox, order, self.id, on.slots, clock, on.usage)
        me, lost_to = ProcessId.current(), self.predecessor_lost_to
        self._orphan_closer = OrphanCloser(
            self._mailbox, me, self.heart.record, self._orphans, clock, lost_to
        )
        self._next_orphan_look: float | None = 0.0
        self._running = RunningTickets(self.machine)
        self._pauses = Pauses()
        self._copy_hosts = CopyHosts(self._mailbox, order, scratch, self.heart.note)
        self._driver = DriverWatch(self._mailbox, self.id, clock, close_lost)
        self._preparation = Preparation(
            self.machine, self._mailbox, order, lambda text: self.heart.tell("starting", text)
        )
        self._paths: tuple[Path, ...] = ()
        self._phase: Callable[[float], float | None] = self._set_up
        self._cache = StateCache()
        self._terminated_at: float | None = None
        self._quiet_since: float | None = None
        """Since when no ticket runs, after SIGTERM."""
        self._leaving: tuple[Cause, str, float] | None = None
        self._broken = ""
        self._useful_at = clock.monotonic()
        self._store_away_since: float | None = None
        self._cancel: Cancel | None = None

    # -- called from outside ------------------------------------------------------------------

    def step(self, now: float) -> float | None:
        """Check the mailbox and the processes once, and act.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call, sooner when the machine wakes; None when this worker has
            ended, and ``exit_code`` is known.
        """
        return None if self.exit_code is not None else self._phase(now)

    def hurry(self, now: float) -> float | None:
        """Make sure that a worker that was asked to end does so, even if its store hangs.

        It is called in parallel to ``step``, which may hang in the store. It stops the tickets,
        kills those that do not stop, and reads no store.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None if this process should end now.
        """
        if self.exit_code is not None:
            return None
        if self._terminated_at is None:
            return ASK_S / 2
        if now - self._terminated_at >= ASK_S:
            self._running.stop(now, self._asked_because, _ASKED)
            self._running.kill_late(now, self._term_grace_s)
        if self._quiet_since is None or self._running.alive:
            self._quiet_since = now
        return None if now - self._quiet_since >= FLUSH_S else ASK_S / 2

    def terminate(self) -> None:
        """Ask this worker to end; safe in a signal handler."""
        if self._terminated_at is None:
            self._terminated_at = self.clock.monotonic()
        self.machine.wake()

    def close(self) -> None:
        """End everything that this worker started."""
        self._copy_hosts.close()
        self.machine.close()

    @property
    def terminated(self) -> bool:
        """True once this worker was asked to end."""
        return self._terminated_at is not None

    @property
    def driven(self) -> bool:
        """Whether the experiment had a driver at the last check."""
        return self._driver.driven

    # -- what subclasses change ---------------------------------------------------------------

    @property
    def predecessor_lost_to(self) -> Cause:
        """Why an earlier worker in the place of this one ended without a record."""
        return Cause.INFRASTRUCTURE

    def _orphans(self) -> Iterator[ProcessId]:
        """Living processes that may belong to an earlier worker in the place of this one."""
        place = {RUNTIME: os.environ[RUNTIME]} if RUNTIME in os.environ else {}
        return marked(self.order.lease_id, **place)

    # -- setup --------------------------------------------------------------------------------

    def _set_up(self, now: float) -> float | None:
        if self.terminated:
            return self._leave(now, self._asked_because, _ASKED, self._term_grace_s)
        try:
            paths = self._preparation.step(now)
        except Exception as error:
            known = isinstance(error, DrillyardError)
            log.error("this worker cannot be set up: %s", error, exc_info=not known)
            hint = f" ({error.hint})" if isinstance(error, DrillyardError) and error.hint else ""
            # "failed" ends the experiment: another machine would fail in the same way.
            users = isinstance(error, UserError)
            self.heart.tell("failed" if users else "leaving", f"{error}{hint}")
            self.exit_code = 2 if users else 4
            self.unusable = str(error)
            return None
        if paths is None:
            return SLOW_POLL_S
        self._paths = paths
        self.heart.tell("ready", software=gpu_software.installed(self.order.gpus))
        log.info("worker %s is ready, %d slots", self.id, self.machine.slots)
        self._useful_at = self.clock.monotonic()
        self._phase = self._work
        return 0.0

    # -- work ---------------------------------------------------------------------------------

    def _work(self, now: float) -> float | None:
        if self.terminated and (self._paid or self._store_away_since is not None):
            # Only seconds are left: it does not read a bucket, which may be slow or unreachable.
            reason = "this machine is being taken away" if self._paid else _ASKED
            return self._leave(now, self._asked_because, reason, self._term_grace_s)
        self._take_in()
        try:
            states = ticket_states(self._mailbox, self._cache)
            cancel = self._cancel = self._mailbox.cancelled()
            self._look_for_orphans(now)
            self._driver.look(now, states)
            self._store_away_since = None
        except InfrastructureError as error:
            return self._without_store(now, error)
        if self.terminated:
            return self._leave(now, self._asked_because, _ASKED, self._term_grace_s)
        if self._over:
            limit = self.order.deadline_of or "budget.max_hours or budget.max_cost"
            return self._leave(now, Cause.TIME_LIMIT, f"{limit} ended the lease", STOP_GRACE_S)
        if cancel is not None and not cancel.drain:
            self._running.stop(now, Cause.CANCELLED, cancel.reason)
        self._running.kill_late(now, STOP_GRACE_S)
        self._running.reserved = self._copy_hosts.follow(now, states)
        claimed = self._claim_some(states)
        if self._broken and not self._running:
            self._end(self._broken)
            return None
        if self._idle(states):
            self._end("nothing left to do")
            return None
        self._copy_hosts.fill(now, self._running.free, self._paths)
        return 0.0 if claimed else self._poll_s

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        claimed = 0
        together: list[tuple[TicketState, Claim]] = []
        # It works only on what it can start: another worker may be warm, or may start a process.
        if not self.machine.warm or self._broken or not self.heart.heard:
            return 0
        for state in states.values():
            if self._running.free <= 0 or self.terminated or self._broken:
                break
            if not self._takes(state) or not self._pauses.over(state, self.clock.monotonic()):
                continue
            joins = self.order.together > 1 and may_join(state)
            if together and not joins:
                continue  # those that wait for others have the last place
            made = claim(self._mailbox, self._outbox, state, self.id, self.clock)
            if made is None:
                continue
            claimed += 1
            if not joins:
                self._start([(state, made)])
                continue
            together.append((state, made))
            if len(together) == self.order.together:
                self._start(together)
                together = []
        if together:
            self._start(together)
        return claimed

    def _takes(self, state: TicketState) -> bool:
        """Whether this worker could do a ticket now."""
        if state.claimable is None or self._copy_hosts.waits(state):
            return False
        return state.ticket.environment in self.order.environments

    def _start(self, claimed: list[tuple[TicketState, Claim]]) -> None:
        """Start one process for tickets that were claimed."""
        if self.terminated:  # a slow store: SIGTERM came meanwhile
            for _, claim in claimed:
                ending = endings.failed(claim, self.clock, self._asked_because, _ASKED)
                self._outbox.write(ending)
            return
        place = self._running.free_place
        first, *others = (self._job(state, claim, place) for state, claim in claimed)
        try:
            self._running.start(replace(first, others=tuple(others)))
        except Exception as error:
            log.exception("no process for %s", claimed[0][1].ticket)
            self._broken = f"no process can be started: {error}"
            for _, claim in claimed:
                self._outbox.write(self._outbox.infrastructure(claim, self._broken))

    def _job(self, state: TicketState, claim: Claim, place: int) -> Job:
        train = state.ticket.phase is Phase.TRAIN
        return Job(
            store_url=self.order.store_url,
            experiment=self.order.experiment,
            ticket=state.ticket,
            claim=claim,
            scratch=self._scratch / "attempts" / f"{claim.ticket}.{claim.attempt}",
            paths=self._paths,
            has_code=self.order.code is not None,
            place=place,
            gpus=machine_share.gpus(self.machine.gpus(), place, self.order.gpus),
            together=self.order.together if train else 1,
        )

    def _take_in(self) -> None:
        if self._running.take_in(self._report_for):
            self._useful_at = self.clock.monotonic()
        self._outbox.write_again()

    def _report_for(self, job: Job, exit: Exit, stopped_by: tuple[Cause, str] | None) -> None:
        if exit.code == REPORTED and not job.others:
            return
        for each in job.all:  # one of several may have ended the process, for itself alone
            self._outbox.write_for(each, exit, stopped_by, shared=bool(job.others))

    def _look_for_orphans(self, now: float) -> None:
        if self._next_orphan_look is not None and now >= self._next_orphan_look:
            wait_s = self._orphan_closer.step(now)
            self._next_orphan_look = None if wait_s is None else now + wait_s

    @property
    def _poll_s(self) -> float:
        # A ticket's end wakes the worker at once, whatever the pause is.
        if self._running.free > 0:
            return max(POLL_S, self._pace_s)
        return max(SLOW_POLL_S, 5 * self._pace_s)

    # -- leaving ------------------------------------------------------------------------------

    def _idle(self, states: dict[str, TicketState]) -> bool:
        """True if there was no work for the order's idle time, and no driver waits."""
        now = self.clock.monotonic()
        useful = self._copy_hosts.needed or any(self._takes(s) for s in states.values())
        driven_on = self.driven and not self._paid
        if self._running or useful or self._outbox.unwritten or driven_on:
            self._useful_at = now
            return False
        over = self._paid and not self.driven and all(s.status.ended for s in states.values())
        return (over and bool(states)) or now - self._useful_at >= self.order.idle_s

    @property
    def _over(self) -> bool:
        """Whether the time of the lease is over."""
        return self.order.deadline is not None and self.clock.now() >= self.order.deadline

    @property
    def _asked_because(self) -> Cause:
        return Cause.PREEMPTION if self._cancel is None else Cause.CANCELLED

    def _without_store(self, now: float, error: InfrastructureError) -> float | None:
        if self._store_away_since is None:
            self._store_away_since = now
            log.warning("the mailbox cannot be read: %s", error)
        if self._over:
            return self._leave(now, Cause.TIME_LIMIT, _ASKED, self._term_grace_s)
        if self.terminated:
            return self._leave(now, self._asked_because, _ASKED, self._term_grace_s)
        if not self._running and now - self._store_away_since > STORE_AWAY_S:
            self._end("the mailbox cannot be read")
            return None
        return SLOW_POLL_S

    def _leave(self, now: float, cause: Cause, reason: str, grace_s: float) -> float | None:
        """Stop every ticket, wait for them, and write the endings that they could not write."""
        log.info("leaving: %s", reason)
        self._leaving = cause, reason, grace_s
        self._phase = self._wait_for_tickets
        return self._wait_for_tickets(now)

    def _wait_for_tickets(self, now: float) -> float | None:
        assert self._leaving is not None
        cause, reason, grace_s = self._leaving
        self._running.stop(now, cause, reason)
        self._running.kill_late(now, grace_s)
        self._take_in()
        if self._running:
            return POLL_S
        self._end(reason)
        return None

    def _end(self, reason: str) -> None:
        self.heart.tell("leaving", reason)
        self.exit_code = 4 if self._broken else 0
