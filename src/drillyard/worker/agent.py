"""The agent: one a machine. Says that it lives, installs the code, claims, starts, buries, leaves.

It decides with nothing but the mailbox, so that work goes on when nobody drives any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.mailbox import Mailbox, open_store, pace
from drillyard.mailbox.driver_lock import driven
from drillyard.mailbox.mailbox import new_token
from drillyard.mailbox.records import Cancel, Claim
from drillyard.mailbox.status import Cause
from drillyard.mailbox.ticket_states import StateCache, TicketState, ticket_states
from drillyard.runs.code_archive import install
from drillyard.runs.webhook import tell
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.processes import ProcessId, marked
from drillyard.system.scratch import RUNTIME, temporary_below
from drillyard.worker import gpu, shares
from drillyard.worker.execution import SAID, Job, remove_scratch
from drillyard.worker.heartbeat import Heartbeat
from drillyard.worker.pool import Pool
from drillyard.worker.predecessors import Predecessors, worker_id
from drillyard.worker.speaker import Speaker

POLL_S = 0.2
SLOW_POLL_S = 1.0
"""While every slot is taken, or nobody posted anything for a while."""
DRIVER_POLL_S = 2.0
STOP_GRACE_S = 20.0
"""How long a ticket may take to stop when it was asked to; then it is killed."""
TERM_GRACE_S = 8.0
"""The same after SIGTERM: whoever sent it waits ten seconds."""
STORE_AWAY_S = 900.0
"""An agent without work and without a store leaves after this time."""
log = logging.getLogger(__name__)


class Agent:
    """The worker program of one machine.

    Args:
        order: What was rented.
        scratch: Local folder for code and attempts; its content is the agent's own.
        slots: Tickets at once on this machine; default all workers of the order.
        clock: Time.
        term_grace_s: How long tickets may take to stop after SIGTERM.
        paid: The machine costs money: it leaves when it is idle also while somebody drives, and
            at once when nobody does and everything is decided.
        bury: Called now and then while nobody drives, with the states of all tickets: ends what
            machines that vanished still hold.
    """

    def __init__(
        self,
        order: Order,
        scratch: Path,
        slots: int | None = None,
        clock: Clock = SYSTEM,
        *,
        term_grace_s: float = TERM_GRACE_S,
        paid: bool = False,
        bury: Callable[[Mapping[str, TicketState]], None] | None = None,
    ) -> None:
        self.order = order
        self.worker = worker_id(order.lease_id)
        self._scratch = scratch
        self._clock = clock
        self._mailbox = Mailbox(open_store(order.store_url), order.experiment)
        self._pace_s = pace(self._mailbox.store)
        self._term_grace_s = term_grace_s
        self._paid = paid
        self._bury = bury
        self._pool = Pool(slots or order.workers, order.preload, order.threads)
        self._me = ProcessId.current()
        self._paths: tuple[Path, ...] = ()
        self._cache = StateCache()
        self._speaker = Speaker(self._mailbox, self.worker, clock)
        self._heart = Heartbeat(self._mailbox, order, self.worker, self._pool.slots, clock)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._terminated = False
        self._why_leaving = "the mailbox cannot be read"
        self._broken = ""
        self._useful_at = clock.monotonic()
        self._store_away_since: float | None = None
        self._next_driver_look = 0.0
        self._next_predecessor_look: float | None = None
        self._driven = True
        self._told = False
        self._cancel: Cancel | None = None

    def run(self) -> int:
        """Work until there is nothing left to do; the exit code."""
        self._listen_to_signals()
        self._heart.start()
        try:
            self._set_up()
        except Exception as error:
            log.exception("this worker cannot be set up")
            hint = f" ({error.hint})" if isinstance(error, DrillyardError) and error.hint else ""
            self._heart.tell("failed", f"{error}{hint}")
            return 2 if isinstance(error, UserError) else 4
        else:
            self._heart.tell("ready")
            log.info("worker %s is ready, %d slots", self.worker, self._pool.slots)
            self._work()
            self._heart.tell("leaving", self._why_leaving)
            return 4 if self._broken else 0
        finally:
            self._pool.close()
            self._heart.stop()

    # -- setup --------------------------------------------------------------------------------

    def _set_up(self) -> None:
        self._pool.warm_up(then=self._wake)
        order = self.order
        self._paths = tuple(
            install(self._mailbox, order.code, order.requirements, self._scratch / "code")
        )
        if order.gpus:
            trouble = self._pool.call(gpu.look, timeout_s=300.0)
            if trouble is not None:
                raise UserError(
                    f"resources.gpus is {order.gpus}, and no GPU is usable here: {trouble}",
                    hint="install a torch with CUDA and a driver, or set resources.gpus to 0 and "
                    "resources.device to auto",
                )
        self._predecessors = Predecessors(
            self._mailbox, self._me, self._heart.record, self._orphans, self._clock,
            self.predecessor_lost_to,
        )  # fmt: skip
        self._next_predecessor_look = self._clock.monotonic()
        sweep = getattr(self._mailbox.store, "sweep", None)
        if sweep is not None:
            sweep(order.experiment)

    @property
    def predecessor_lost_to(self) -> Cause:
        """What ended an earlier agent in this one's place that left without a word."""
        return Cause.INFRASTRUCTURE

    def _orphans(self) -> Iterator[ProcessId]:
        """Living processes that an earlier agent in this one's place may have left."""
        place = {RUNTIME: os.environ[RUNTIME]} if RUNTIME in os.environ else {}
        return marked(self.order.lease_id, **place)

    # -- the loop -----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            self._reap()
            if self._terminated and self._paid:
                # Seconds of notice: no look at a bucket that may be slow or away.
                cause = Cause.PREEMPTION if self._cancel is None else Cause.CANCELLED
                self._leave(cause, "this machine is being taken away", self._term_grace_s)
                return
            try:
                states = ticket_states(self._mailbox, self._cache)
                cancel = self._cancel = self._mailbox.cancelled()
                self._look_for_predecessors()
                self._look_for_driver(states)
                self._tell_of_end(states)
                self._store_away_since = None
            except InfrastructureError as error:
                if self._leave_without_store(error):
                    return
                self._pause(SLOW_POLL_S)
                continue
            if self._terminated:
                cause = Cause.CANCELLED if cancel is not None else Cause.PREEMPTION
                self._leave(cause, "the worker was asked to end", self._term_grace_s)
                return
            if self.order.deadline is not None and self._clock.now() >= self.order.deadline:
                limit = self.order.deadline_of or "budget.max_hours or budget.max_cost"
                self._leave(Cause.TIME_LIMIT, f"{limit} ended the lease", STOP_GRACE_S)
                return
            if cancel is not None and not cancel.drain:
                for slot in self._pool.running:
                    self._pool.stop(slot, Cause.CANCELLED, cancel.reason)
            self._kill_late(STOP_GRACE_S)
            claimed = self._claim_some(states)
            if self._broken and not self._pool.running:
                self._why_leaving = self._broken
                return
            if self._idle(states):
                self._why_leaving = "nothing left to do"
                return
            if not claimed:
                self._pause(self._poll_s)

    def _claim_some(self, states: dict[str, TicketState]) -> int:
        claimed = 0
        # What is claimed is worked on: others are warm, or can start a process where we cannot.
        if not self._pool.warm or self._broken:
            return 0
        for name, state in states.items():
            if self._pool.free <= 0 or self._terminated or self._broken:
                break
            if state.claimable is None or (
                state.ticket.environment not in self.order.environments
            ):
                continue
            claim = Claim(
                ticket=name, attempt=state.claimable, worker=self.worker, token=new_token(),
                claimed_at=self._clock.now(),
            )  # fmt: skip
            try:
                if not self._mailbox.claim(claim):
                    continue
            except InfrastructureError as error:
                # The claim may be there. It is ours by its token, and found again below.
                log.warning("claiming %s: %s", name, error)
                found = self._found_again(claim)
                if not found:
                    continue
            claimed += 1
            log.info("claimed %s, attempt %d", name, claim.attempt)
            self._start(state, claim)
        return claimed

    def _found_again(self, claim: Claim) -> bool:
        try:
            now = self._mailbox.read_claim(claim.ticket, claim.attempt)
        except InfrastructureError:
            # If it is there after all, nobody works on it: say so as soon as the store is back.
            why = "the store went away while claiming"
            self._speaker.owe(self._speaker.infrastructure(claim, why))
            return False
        return now is not None and now.token == claim.token

    def _start(self, state: TicketState, claim: Claim) -> None:
        job = Job(
            store_url=self.order.store_url,
            experiment=self.order.experiment,
            ticket=state.ticket,
            claim=claim,
            scratch=self._scratch / "attempts" / f"{claim.ticket}.{claim.attempt}",
            paths=self._paths,
            has_code=self.order.code is not None,
            place=self._pool.free_place,
            gpus=shares.gpus(shares.visible_gpus(), self._pool.free_place, self.order.gpus),
        )
        try:
            self._pool.start(job)
        except Exception as error:
            log.exception("no process for %s", claim.ticket)
            self._broken = f"no process can be started: {error}"
            self._speaker.say(self._speaker.infrastructure(claim, self._broken))

    def _reap(self) -> None:
        for slot, code in self._pool.reap():
            self._useful_at = self._clock.monotonic()
            if code != SAID:
                self._speaker.silent(slot, code)
            remove_scratch(slot.job)
        self._speaker.say_again()

    # -- leaving ------------------------------------------------------------------------------

    def _idle(self, states: dict[str, TicketState]) -> bool:
        """True when nothing was to be done for the order's idle time and nobody waits."""
        now = self._clock.monotonic()
        claimable = any(
            s.claimable is not None and s.ticket.environment in self.order.environments
            for s in states.values()
        )
        if (
            self._pool.running
            or claimable
            or self._speaker.owed
            or (self._driven and not self._paid)
        ):
            self._useful_at = now
            return False
        over = self._paid and not self._driven and all(s.status.ended for s in states.values())
        return (over and bool(states)) or now - self._useful_at >= self.order.idle_s

    def _look_for_predecessors(self) -> None:
        now = self._clock.monotonic()
        if self._next_predecessor_look is not None and now >= self._next_predecessor_look:
            wait_s = self._predecessors.step(now)
            self._next_predecessor_look = None if wait_s is None else now + wait_s

    def _look_for_driver(self, states: dict[str, TicketState]) -> None:
        """See whether anybody drives; without one, ``on_driver_loss: stop`` stops the work."""
        now = self._clock.monotonic()
        if now < self._next_driver_look:
            return
        self._next_driver_look = now + max(DRIVER_POLL_S, 3 * self._pace_s)
        self._driven = driven(self._mailbox)
        if not self._driven and self._bury is not None:
            self._bury(states)
        if self._driven or all(s.status.ended for s in states.values()):
            return
        spec = self._mailbox.experiment_record().spec
        if spec.get("on_driver_loss") == "stop" and self._mailbox.driver_numbers():
            order = Cancel(
                reason="nobody drives this experiment any more (on_driver_loss: stop)",
                by=self.worker, written_at=self._clock.now(),
            )  # fmt: skip
            if self._mailbox.create("control/cancel.json", order):
                log.warning("%s", order.reason)

    def _tell_of_end(self, states: dict[str, TicketState]) -> None:
        """What a driver does at the end, where there is none."""
        ended = bool(states) and all(s.status.ended for s in states.values())
        if ended and not self._driven and not self._told:
            tell(self._mailbox, states, f"worker {self.worker}", self._clock)
        self._told = ended and not self._driven

    def _leave(self, cause: Cause, reason: str, grace_s: float) -> None:
        """Stop every ticket, wait for them, say what they could not say."""
        log.info("leaving: %s", reason)
        self._why_leaving = reason
        for slot in self._pool.running:
            self._pool.stop(slot, cause, reason)
        while self._pool.running:
            self._kill_late(grace_s)
            self._pool.wait([], POLL_S)
            self._reap()

    def _kill_late(self, grace_s: float) -> None:
        now = self._clock.monotonic()
        for slot in self._pool.running:
            if slot.stopping_since is not None and now - slot.stopping_since > grace_s:
                log.warning("%s did not stop within %.0f s", slot.job.ticket.ticket, grace_s)
                self._pool.kill(slot)

    def _leave_without_store(self, error: InfrastructureError) -> bool:
        now = self._clock.monotonic()
        if self._store_away_since is None:
            self._store_away_since = now
            log.warning("the mailbox cannot be read: %s", error)
        over = self.order.deadline is not None and self._clock.now() >= self.order.deadline
        if self._terminated or over:
            cause = Cause.TIME_LIMIT if over else Cause.PREEMPTION
            self._leave(cause, "the worker was asked to end", self._term_grace_s)
            return True
        return not self._pool.running and now - self._store_away_since > STORE_AWAY_S

    @property
    def terminated(self) -> bool:
        """True once somebody asked this process to end."""
        return self._terminated

    @property
    def driven(self) -> bool:
        """Whether anybody drove the experiment at the last look."""
        return self._driven

    @property
    def _poll_s(self) -> float:
        # A child's end wakes the agent at once, whatever the pause is.
        if self._pool.free:
            return max(POLL_S, self._pace_s)
        return max(SLOW_POLL_S, 5 * self._pace_s)

    def _pause(self, seconds: float) -> None:
        self._pool.wait([self._wake_read], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _wake(self) -> None:
        os.write(self._wake_write, b"w")

    def _terminate(self) -> None:
        self._terminated = True
        self._wake()

    def _listen_to_signals(self) -> None:
        def on_term(_number: int, _frame: object) -> None:
            self._terminate()

        signal.signal(signal.SIGTERM, on_term)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def run_agent(
    order: Order,
    scratch: Path,
    slots: int | None = None,
    clock: Clock = SYSTEM,
    make: Callable[..., Agent] = Agent,
) -> int:
    """Be the agent of a lease until there is nothing left to do.

    Returns:
        Exit code: 0 done, 2 the user's code or requirements cannot be installed, 4 machinery.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_below(scratch):
            return make(order, scratch, slots, clock).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
