"""Drives the stages of a composite: each as soon as what it waits for is there.

Every stage is an experiment with its own driver, lease and teardown, so that nothing of a stage
depends on how another one ends. This module decides when a stage begins and when a service stops.
After a crash, the same command goes on: finished stages are not repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from drillyard.driver.driver import Driver
from drillyard.driver.heartbeat import Heartbeat
from drillyard.driver.outcome import Kind, Outcome
from drillyard.driver.stage import Stage
from drillyard.driver.stage_data import StageData
from drillyard.driver.stage_outcome import combined, decided
from drillyard.errors import Bug, DrillyardError, RunFailed, Superseded
from drillyard.mailbox import Mailbox
from drillyard.mailbox.driver_lock import DriverLock
from drillyard.mailbox.fenced import Fenced
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.stage_records import (
    STATE,
    Release,
    StagesState,
    StageState,
    release_key,
)
from drillyard.mailbox.status import Status
from drillyard.mailbox.store_clock import StoreClock
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs import submit
from drillyard.runs.stages import stages_of
from drillyard.spec.load import Loaded
from drillyard.spec.stages import upstream
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loops import Loop, beside, run_steps

POLL_S = 0.3
CANCEL_EVERY_S = 1.0
"""Seconds between two looks for an order to stop, and for the address of a service."""
OpenDriver = Callable[[Loaded], Driver]
Drive = Callable[[Driver, str], Outcome]
Watch = Callable[[list[StageState]], None]
Beside = Callable[[str, Callable[[], None]], None]
"""Name of a stage and its work -> returns at once, and does the work beside the steps."""
log = logging.getLogger(__name__)


class Stages:
    """The stages of one composite: ``step`` decides what begins and stops, and never waits.

    The work of a stage is done beside the steps. Whatever is interrupted, and also in the command
    that follows:

    - A stage begins once all stages that it names have succeeded, and the services are ready.
    - Stages that do not name each other run side by side.
    - What a stage gets from others is written before its driver opens, and stays the same.
    - A stage without success ends only the stages that name it, which do not begin.
    - A finished stage is not repeated.

    Args:
        loaded: The composite, for which ``is_staged`` holds.
        mailbox: Its mailbox.
        open_driver: Makes the driver of a stage.
        drive: Takes an open driver through its phases.
        say: Gets sentences for the user.
        allow_change: Continue although the settings of training changed.
        clock: For waiting. Times in records are the store's.
        on_change: Gets the states whenever one has changed.
        run_beside: Does the work of a stage beside the steps; default: in a thread.
    """

    def __init__(
        self,
        loaded: Loaded,
        mailbox: Mailbox,
        open_driver: OpenDriver,
        drive: Drive,
        *,
        say: Callable[[str], None] = log.info,
        allow_change: bool = False,
        clock: Clock = SYSTEM,
        on_change: Watch = lambda states: None,
        run_beside: Beside = beside,
    ) -> None:
        self.loaded = loaded
        self.mailbox = mailbox
        self._open_driver = open_driver
        self._drive = drive
        self._say = say
        self._allow_change = allow_change
        self._clock = StoreClock(mailbox.store, clock)
        self._on_change = on_change
        self._beside = run_beside
        self._lock = DriverLock(mailbox, self._clock, say=say)
        self._own = Fenced(mailbox, self._lock.must_drive)
        self._superseded: DrillyardError | None = None
        beats = Heartbeat(self._lock, self._was_superseded).step
        self._heartbeat = Loop("drillyard-heartbeat", beats, self._clock)
        above = upstream(loaded.spec.children)
        self.stages: dict[str, Stage] = {}
        for name, own in stages_of(loaded).items():
            box = Mailbox(mailbox.store, own.spec.name)
            state = StageState(
                name=name,
                experiment=own.spec.name,
                workload=own.spec.workload,
                backend=own.spec.where,
                after=list(above[name]),
            )
            self.stages[name] = Stage(name, own, box, above[name], state)
        self._data = StageData(
            loaded.spec, {name: stage.mailbox for name, stage in self.stages.items()}
        )
        self._reason: str | None = None
        self._drains = False
        self._looked_at = float("-inf")
        self._shown: list[StageState] = []

    # -- before anything runs -----------------------------------------------------------------

    def open(self) -> list[str]:
        """Become the driver of the composite; refuse before anything is created.

        Returns:
            The stages that are not finished. If there are none, nothing was rented.

        Raises:
            IdentityChanged: A stage was changed under the same name.
            AlreadyDriven: Another command drives the composite.
            UserError: The code of the experiment cannot travel.
        """
        self._prepare_store()
        self._lock.check_free()
        bundle = submit.pack(self.loaded, self.mailbox)
        plans = {}
        for stage in self.stages.values():
            code = submit.pack(stage.loaded, stage.mailbox)
            plans[stage.name] = submit.plan(
                stage.loaded, stage.mailbox, code, allow_change=self._allow_change
            )
        whole = submit.plan(self.loaded, self.mailbox, bundle, clock=self._clock)
        self._lock.take(list(self.loaded.command))
        self._heartbeat.start()
        try:
            self._lock.must_drive()
            submit.write(whole, self.mailbox)
            self.mailbox.store.delete(self.mailbox.key("control/cancel.json"))
            for stage in self.stages.values():
                plan = plans[stage.name]
                if not stage.serves and plan.repeat is None and self._finished(stage):
                    stage.set(self._clock.now(), "succeeded", "finished before")
            todo = [s for s in self.stages.values() if not s.serves and not s.state.ended]
            for stage in self.stages.values():
                if stage.serves:
                    self._prepare_service(stage, [s for s in todo if stage.name in s.above])
            self._write()
        except BaseException:
            self.close("refused")
            raise
        left = [stage.name for stage in self.stages.values() if not stage.state.ended]
        if not left:
            self.close("complete")
        return left

    def _prepare_store(self) -> None:
        """Let each backend that has a store of its own create it, or refuse this one."""
        seen: set[str] = set()
        for stage in self.stages.values():
            if stage.state.backend in seen:
                continue
            seen.add(stage.state.backend)
            self._open_driver(stage.loaded).places.prepare_store(self.mailbox.store.url)

    def _finished(self, stage: Stage) -> bool:
        """Whether every ticket of a stage has its result, and none of its leases is open."""
        expected = [ticket for ticket, _, _ in submit.tickets(submit.plain(stage.loaded.spec))]
        states = ticket_states(stage.mailbox)
        done = (Status.SUCCEEDED, Status.PRUNED)
        return (
            all(t in states and states[t].status in done for t in expected) and not stage.leases()
        )

    def _prepare_service(self, stage: Stage, users: list[Stage]) -> None:
        """A service that has served before serves again as a further run of its stage.

        A finished result is final, so what served and was stopped is not opened again.
        """
        number = 1
        while stage.holds(release_key(run_id(1, number))):
            number += 1
        spec = stage.loaded.spec
        if users:
            seeds = list(range(1, number + 1))
            stage.loaded.spec = spec.model_copy(update={"seeds": seeds})
            return
        seeds = list(range(1, max(2, number)))
        stage.loaded.spec = spec.model_copy(update={"seeds": seeds})
        if number == 1 or self._finished(stage):
            stage.set(self._clock.now(), "succeeded", "nothing needs it now")
        else:
            stage.released = True  # its machines may still be there: it is driven to its end

    # -- the work -----------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Call ``step`` until the end, and close this driver; returns how they ended together."""
        try:
            outcome = self._run()
        except BaseException as broken:
            self.close(type(broken).__name__)
            raise
        self.close(outcome.word)
        return outcome

    def _run(self) -> Outcome:
        error: DrillyardError | None = None
        try:
            run_steps(self.step, self._clock)
        except DrillyardError as away:
            error = away
            self._leave()
        outcome = combined(
            self.mailbox,
            {name: (s.state, s.outcome) for name, s in self.stages.items()},
            self._superseded or error,
        )
        try:
            self._write()
        except DrillyardError as away:
            log.warning("the end of the stages could not be written: %s", away)
        return outcome

    def close(self, outcome: str) -> None:
        """End this driver; safe to call again."""
        self._heartbeat.stop()
        if self._lock.number:
            try:
                self._lock.release(outcome)
            except DrillyardError as away:
                log.warning("the end of this driver could not be written: %s", away)

    def stop(self, reason: str, drain: bool = False) -> None:
        """Ask every stage to stop; those that have not begun do not begin.

        Args:
            reason: For people.
            drain: Let running tickets finish.

        Raises:
            DrillyardError: A stage could not be asked; all others were.
        """
        self._drains = drain and (self._reason is None or self._drains)
        self._reason = self._reason or reason
        failed: DrillyardError | None = None
        for driver in self.drivers():
            try:
                driver.stop(reason, drain)
            except DrillyardError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def drivers(self) -> list[Driver]:
        """The drivers at work."""
        return [
            stage.driver
            for stage in self.stages.values()
            if stage.driver is not None and not stage.state.ended
        ]

    # -- one look -----------------------------------------------------------------------------

    def step(self, now: float) -> float | None:
        """Begin and stop what is due.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds until the next call; None once every stage has ended.

        Raises:
            Superseded: Another command drives the composite.
            StoreUnavailable: The store does not answer.
        """
        if self._superseded is not None:
            raise self._superseded
        for stage in self.stages.values():
            if stage.ended and not stage.state.ended:
                self._end(stage, stage.ended[0])
        if now - self._looked_at >= CANCEL_EVERY_S:
            self._looked_at = now
            self._look_at_store()
        for stage in self.stages.values():
            if stage.state.status == "waiting":
                self._begin_if_due(stage)
        for stage in self.stages.values():
            if stage.serves and stage.state.status in ("running", "serving"):
                self._release_if_due(stage)
        self._write()
        return None if all(stage.state.ended for stage in self.stages.values()) else POLL_S

    def _look_at_store(self) -> None:
        order = self.mailbox.cancelled()
        if order and (self._reason is None or (self._drains and not order.drain)):
            self.stop(order.reason, order.drain)
        for stage in self.stages.values():
            if stage.serves and stage.state.status in ("running", "serving"):
                serving = self._data.address(stage.name, stage.run)
                if serving is not None and serving != stage.address:
                    stage.address = serving
                    stage.set(self._clock.now(), "serving", f"at {serving.host}:{serving.port}")
                    self._say(f"{stage.name}: ready at {serving.host}:{serving.port}")
                    for user in self._users(stage):
                        if user.state.status == "running":  # a later attempt reads it
                            self._data.write(user.name, user.loaded.spec.seeds, self._services())

    def _begin_if_due(self, stage: Stage) -> None:
        above = [self.stages[name] for name in stage.above]
        bad = [s for s in above if s.state.ended and s.state.status != "succeeded"]
        gone = [s for s in above if s.serves and s.state.ended]
        if stage.released:  # only its machines are left
            self._begin(stage)
        elif self._reason is not None:
            stage.set(self._clock.now(), "stopped", f"was not started: {self._reason}")
        elif bad or gone:
            first = (bad or gone)[0]
            stage.set(
                self._clock.now(),
                "skipped",
                f"was not started, because {first.name} {first.how()}",
            )
            self._say(f"{stage.name}: {stage.state.message}")
        elif all(s.state.status == ("serving" if s.serves else "succeeded") for s in above):
            self._begin(stage)

    def _begin(self, stage: Stage) -> None:
        stage.set(self._clock.now(), "running", "")
        self._say(f"{stage.name}: starts on {stage.state.backend}")
        self._beside(f"stage-{stage.name}", lambda: self._work(stage))

    def _work(self, stage: Stage) -> None:
        """All of a stage, beside the steps."""
        try:
            self._data.write(stage.name, stage.loaded.spec.seeds, self._services())
            driver = self._open_driver(stage.loaded)
            if not driver.open():
                stage.ended.append(Outcome(Kind.SUCCEEDED))
                return
            stage.driver = driver  # from now on it takes orders; ``open`` deletes earlier ones
            if self._reason is not None:
                driver.stop(self._reason, self._drains)
            self._stop_without_service(stage)
            stage.ended.append(self._drive(driver, stage.name))
        except DrillyardError as error:
            stage.ended.append(decided(error))
        except BaseException as error:
            log.error("the stage %s failed", stage.name, exc_info=error)
            stage.ended.append(decided(Bug(f"the stage {stage.name} failed: {error!r}")))

    def _end(self, stage: Stage, outcome: Outcome) -> None:
        stage.outcome = outcome
        if outcome.kind is Kind.SUCCEEDED and stage.serves and not stage.released:
            outcome = stage.outcome = decided(
                RunFailed(
                    "the service ended before it was stopped",
                    hint="`start` must serve until it receives SIGTERM",
                )
            )
        if stage.failed_service is not None and outcome.kind is Kind.STOPPED:
            why = f"was stopped, because the service {stage.failed_service} ended"
            outcome = stage.outcome = decided(RunFailed(why))
        message = "" if outcome.error is None else outcome.error.message
        stage.set(self._clock.now(), outcome.kind.value, message)
        self._say(f"{stage.name}: {outcome.kind.value}" + (f": {message}" if message else ""))
        if outcome.kind is Kind.UNDECIDED:
            # Machines go on, and may use the services: those are left as they are.
            for service in stage.above:
                self._leave([self.stages[service]])
        if stage.serves and not stage.released:
            for user in self._users(stage):
                if user.state.status in ("running", "serving"):
                    user.failed_service = stage.name
                    self._stop_without_service(user)

    def _stop_without_service(self, stage: Stage) -> None:
        """Stop a stage whose service has ended; one that opens is stopped once it has."""
        if stage.failed_service is not None and stage.driver is not None:
            how = self.stages[stage.failed_service].how()
            stage.driver.stop(f"the service {stage.failed_service} {how}")

    def _release_if_due(self, stage: Stage) -> None:
        users = self._users(stage)
        if stage.released or not all(user.state.ended for user in users):
            return
        stage.released = True
        if any(user.state.status == "undecided" for user in users):
            return
        self._say(f"{stage.name}: stops, because nothing uses it any longer")
        order = Release(reason="every stage that uses it has ended", written_at=self._clock.now())
        stage.mailbox.create(release_key(stage.run), order)

    def _users(self, stage: Stage) -> list[Stage]:
        return [other for other in self.stages.values() if stage.name in other.above]

    def _services(self) -> dict[str, str]:
        return {name: stage.run for name, stage in self.stages.items() if stage.serves}

    def _leave(self, stages: Iterable[Stage] | None = None) -> None:
        """Stop driving without ending anything: the same command adopts the machines."""
        for stage in self.stages.values() if stages is None else stages:
            if stage.driver is not None and not stage.state.ended:
                stage.driver.close("left")

    def _was_superseded(self, error: Superseded) -> None:
        self._superseded = error

    # -- what is shown ------------------------------------------------------------------------

    def states(self) -> list[StageState]:
        """The stages, in the order of the file."""
        return [stage.state for stage in self.stages.values()]

    def _write(self) -> None:
        states = self.states()
        if states != self._shown:
            self._shown = states
            self._own.write(STATE, StagesState(stages=states))
            self._on_change(states)
