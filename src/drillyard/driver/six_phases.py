"""``drive``: the only code that knows the order of the six phases.

Each phase is worked on once, here. Renting begins at once. Any other phase begins when whoever
shows it has joined it, or after ``GRACE_S`` without it: Prefect has been seen to hang for minutes.
An error that decides nothing (a store or a provider that is away) ends the session and nothing
else: machines keep working, and the same command adopts them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

from drillyard.driver.bodies import Bodies, Body, ReadyWorkers, Result
from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Kind, Outcome, outcome_of
from drillyard.driver.setup import Setup
from drillyard.driver.teardown import Teardown
from drillyard.driver.view import NoView, View
from drillyard.driver.work import Work
from drillyard.errors import (
    Bug,
    ControlPlaneError,
    CorruptObject,
    DrillyardError,
    ExperimentFailed,
    SearchEnded,
    Stopped,
    StoreUnavailable,
    UserError,
    WorkerLost,
)
from drillyard.mailbox import pace
from drillyard.tracking import Mirrors, behind

GRACE_S = 10.0
"""How long a phase waits to be shown before it begins anyway, in seconds."""
POLL_S = 0.05
STOP_PATIENCE_S = 30.0
"""How long running tickets may take to end after a stop request, in seconds. A worker kills a
ticket that ignores the request after 20 s, so that a longer wait is one for a dead worker."""
PACES = 5
"""A worker without a free slot looks for the request once in so many paces of the store."""
RETRY_S = 5.0
PROVISION_PATIENCE_S = 10.0
"""How long requests to an unreachable provider are repeated, in seconds."""
MIRROR_PATIENCE_S = 20.0
DECIDED = (UserError, ExperimentFailed, Stopped, WorkerLost, SearchEnded, CorruptObject)
"""Errors after which leases are useless. All other errors decide nothing."""
log = logging.getLogger(__name__)
_State = Callable[[float], float | None]


class Session:
    """One experiment from an open driver to the end of its teardown, in steps.

    Args:
        driver: Open, with tickets to do.
        bodies: Gets every phase when it begins.
        settle: Where results are verified.
        showing: Whether a view may still join an offered phase.
        on_all_ended: Called once when every ticket has ended, before the teardown.
        hurry: Set when this process must end soon, so that it does not wait for running tickets.
    """

    def __init__(
        self,
        driver: Driver,
        bodies: Bodies,
        settle: Executor,
        *,
        showing: Callable[[], bool] = lambda: False,
        on_all_ended: Callable[[], None] = lambda: None,
        hurry: threading.Event | None = None,
    ) -> None:
        self._driver = driver
        self._bodies = bodies
        self._showing = showing
        self._on_all_ended = on_all_ended
        self._hurry = hurry or threading.Event()
        self._state: _State = self._provision
        self._body: Body | None = None
        self._offered_at = 0.0
        self._failing_since: float | None = None
        self._setup: Setup | None = None
        self._teardown: Teardown | None = None
        self._teardown_began = 0.0
        self.wake = threading.Event()
        """Set when the next step should come at once."""
        self._work = Work(driver, bodies, settle, self._wake_at_the_end)
        driver.on_change(self._wake_at_the_end)
        self.error: DrillyardError | None = None
        """The error outside the runs, if there was one."""
        self.torn_down = False
        """Whether the teardown is confirmed."""

    def step(self, now: float) -> float | None:
        """Go one step further.

        Returns:
            Seconds until the next step; None at the end.
        """
        try:
            pause_s = self._state(now)
        except Exception as error:
            return self._failed(error, now)
        self._failing_since = None
        return pause_s

    def close(self) -> None:
        """End every offered body, also after a session that was interrupted."""
        if self._teardown is not None:
            self._teardown.abandon()
        rest = self.error
        if rest is None and self._driver.stopping.given:
            rest = Stopped("the experiment was stopped before this had ended")
        rest = rest or ControlPlaneError("the session ended before this was decided")
        self._work.close(rest)
        if self._body is not None:
            self._body.future.set_exception(rest)
            self._body = None
        self._bodies.close()

    def _wake_at_the_end(self) -> None:
        """Take the next step at once if nothing more will follow: a study has many changes."""
        if self._driver.over:
            self.wake.set()

    # -- the phases, in their order -----------------------------------------------------------

    def _provision(self, now: float) -> float | None:
        self._offer("provision", now)
        self._driver.stopping.check()  # before anything costs money
        self._end(self._driver.provision())
        self._state = self._set_up
        return 0.0

    def _set_up(self, now: float) -> float | None:
        if not self._shown("setup", now):
            return POLL_S
        if self._setup is None:
            self._setup = self._driver.begin_setup()
        pause_s = self._setup.step(now)
        if pause_s is not None:
            return pause_s
        self._driver.workers_ready(self._setup.ready)
        self._end(ReadyWorkers(self._setup.ready))
        self._state = self._run
        return 0.0

    def _run(self, now: float) -> float | None:
        if self._driver.trouble is not None:
            return self._ended_by(self._driver.trouble)
        self._work.look()
        order = self._driver.stopping
        given_at = None if order.drains else order.given_at
        patience_s = STOP_PATIENCE_S + PACES * pace(self._driver.mailbox.store)
        late = given_at is not None and now - given_at > patience_s
        if not (self._work.over or late or self._hurry.is_set()):
            return Work.POLL_S
        self._on_all_ended()
        self._state = self._tear_down
        return 0.0

    def _tear_down(self, now: float) -> float | None:
        if not self._shown("teardown", now):
            return POLL_S
        if self._teardown is None:
            self._teardown, self._teardown_began = self._driver.begin_teardown(), now
        pause_s = self._teardown.step(now)
        if pause_s is not None:
            return pause_s
        took_s = self._driver.clock.monotonic() - self._teardown_began
        self._driver.times.at_least("teardown", took_s)
        self.torn_down = True
        self._end(None)
        return None

    # -- what is shown ------------------------------------------------------------------------

    def _offer(self, phase: str, now: float) -> Body:
        if self._body is None:
            self._body = Body(phase, phase)
            self._body.wakes(self.wake.set)
            self._offered_at = now
            self._bodies.offer(self._body)
        return self._body

    def _shown(self, phase: str, now: float) -> bool:
        """Offer a phase; True once it may begin."""
        body = self._offer(phase, now)
        late = now - self._offered_at >= GRACE_S
        return body.joined.is_set() or late or self._hurry.is_set() or not self._showing()

    def _end(self, result: Result) -> None:
        assert self._body is not None
        self._body.future.set_result(result)
        self._body = None

    # -- what goes wrong ----------------------------------------------------------------------

    def _failed(self, error: Exception, now: float) -> float | None:
        """Try again if that may help; otherwise the error ends the work."""
        if not isinstance(error, DrillyardError):
            log.error("the session failed", exc_info=error)
            error = Bug(f"the session failed: {error!r}")
        self._failing_since = now if self._failing_since is None else self._failing_since
        patience_s = (
            PROVISION_PATIENCE_S if self._state == self._provision else self._driver.patience_s
        )
        may_pass = isinstance(error, ControlPlaneError | StoreUnavailable) and error.retryable
        if may_pass and now - self._failing_since < patience_s:
            log.warning("trying again in %.0f s: %s", RETRY_S, error)
            return RETRY_S
        return self._ended_by(error)

    def _ended_by(self, error: DrillyardError) -> float | None:
        """Tear down if the leases are useless; else leave them alone."""
        if self._body is not None:
            self._body.future.set_exception(error)
            self._body = None
        if self._state == self._tear_down:
            # An unconfirmed teardown is reported before the error that led to it.
            self.error = error
            return None
        self.error = error
        # No lease existed before and none could be rented: half-created leases are ended.
        in_vain = self._state == self._provision and self._driver.adopts is False
        if not (isinstance(error, DECIDED) or in_vain):
            return None
        self._on_all_ended()
        self._state = self._tear_down
        return 0.0


def drive(
    driver: Driver,
    *,
    view: View | None = None,
    say: Callable[[str], None] = log.info,
    hurry: threading.Event | None = None,
    report: bool = True,
    mirror_patience_s: float = MIRROR_PATIENCE_S,
) -> Outcome:
    """Take an open driver through its phases, up to its report, and close it.

    Args:
        driver: Open, with tickets to do.
        view: Shows the phases; None: they are not shown.
        say: Gets sentences for the user.
        hurry: Set when this process must end soon, so that it does not wait for running tickets.
        report: Build the report.
        mirror_patience_s: Seconds to wait at the end until trackers have everything; 0: the rest
            follows from processes that outlive this one, or from the reaper.

    Returns:
        How it ended. It raises no errors of the experiment, its machines or Prefect.
    """
    view = view or NoView()
    bodies = Bodies()
    try:
        mirror = Mirrors(driver.mailbox, behind.targets(driver.mailbox), on_warning=say)
        error = _phases(driver, view, bodies, mirror, hurry)
        outcome = outcome_of(driver, error, _report(driver, say) if report else None)
    except BaseException as broken:
        bodies.outcome.set_exception(broken)
        # This process may live on, and with its heartbeat this driver would too.
        _close(driver, type(broken).__name__)
        raise
    bodies.outcome.set_result(outcome)
    _close(driver, outcome.word)
    if outcome.kind is Kind.STOPPED or not mirror_patience_s:
        mirror.leave()  # after a stop request, the command should end soon
    else:
        for sent in mirror.finish(mirror_patience_s):
            if sent.registered:
                say(sent.registered)
    view.end(outcome)
    return outcome


def _close(driver: Driver, outcome: str) -> None:
    try:
        driver.close(outcome)
    except DrillyardError as away:
        log.warning("the end of this driver could not be written: %s", away)


def _phases(
    driver: Driver, view: View, bodies: Bodies, mirror: Mirrors, hurry: threading.Event | None
) -> DrillyardError | None:
    """Take the session through its phases; returns the error outside the runs."""
    with ThreadPoolExecutor(8, "drillyard-settle") as settle:
        session = Session(
            driver, bodies, settle, showing=view.showing, on_all_ended=mirror.ask, hurry=hurry
        )
        try:
            mirror.start()
            view.begin(driver, bodies)
            with view.slots(driver):
                while (pause_s := session.step(driver.clock.monotonic())) is not None:
                    driver.clock.wait(session.wake, pause_s)
                    session.wake.clear()
        except DrillyardError as error:
            session.error = error
        finally:
            session.close()
    return session.error


def _report(driver: Driver, say: Callable[[str], None]) -> str | None:
    """Build the report; a failure is reported and changes nothing else."""
    from drillyard.report import build

    try:
        driver.save_timings()  # the report has a table of them
        return str(build(driver.mailbox).index)
    except Exception as error:
        say(f"the report could not be built: {error}")
        return None
