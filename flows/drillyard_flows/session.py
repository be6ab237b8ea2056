"""One ``drillyard run`` from an open driver to its last line.

The flow runs in a thread, so that this one can draw and hear Ctrl-C. Prefect shows the work and
does not decide it: when its API goes away, this module waits for the mailbox itself, and every
answer printed here comes from the mailbox.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from drillyard.driver.driver import Driver
from drillyard.driver.reconcile import DONE
from drillyard.errors import (
    ControlPlaneError,
    CorruptObject,
    DrillyardError,
    ExperimentFailed,
    Stopped,
    Superseded,
    TeardownUnconfirmed,
    UserError,
    WorkerLost,
)
from drillyard.mailbox.records import PHASES
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import by_run, worst
from drillyard_flows import server as prefect_server
from drillyard_flows import settings
from drillyard_flows.aftermath import Aftermath
from drillyard_flows.interrupts import Interrupts
from drillyard_flows.progress import Display, Run

if TYPE_CHECKING:
    from drillyard_flows.opening import Request

DRAW_EVERY_S = 0.25
AFTERMATH_S = 60.0
"""The flow's last tasks and artifacts, once every ticket has ended."""
ANSWER_S = 10.0
"""For an answer of our own server; whether its process lives is known without it."""
FOREIGN_ANSWER_S = 3.0
SETUP_TIMEOUT_S = 1800.0
DECIDED = (UserError, ExperimentFailed, Stopped, WorkerLost, CorruptObject, TeardownUnconfirmed)
"""Errors after which nothing that is rented is of use any more."""


def views(driver: Driver) -> list[Run]:
    """Where every run is."""
    runs = by_run(driver.at_work())
    if driver.study is not None:
        # The study itself says a line for each trial that ended; a thousand of them are no news.
        runs = {run: own for run, own in runs.items() if not all(s.status.ended for s in own)}
    found = []
    for run, own in runs.items():
        own.sort(key=lambda s: PHASES.index(s.ticket.phase))
        current = next((s for s in own if not s.status.ended), own[-1])
        board = driver.board(run) if current.status is Status.RUNNING else None
        status = worst(own)
        if current.status is Status.RUNNING:
            status = Status.RUNNING
        found.append(Run(run, current.ticket.phase, status, board))
    return found


class Waiter(threading.Thread):
    """Waits for every ticket without Prefect.

    Args:
        driver: Set up.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(name="waiter", daemon=True)
        self._driver = driver
        self.error: DrillyardError | None = None
        """What ended the waiting before the mailbox had decided everything."""

    def run(self) -> None:
        """Wait; how single tickets ended stands in the mailbox."""
        if self._driver.study is not None:
            while not self._driver.over:
                time.sleep(DRAW_EVERY_S)
            return
        for ticket in self._driver.states():
            try:
                self._driver.wait(ticket)
            except DrillyardError as error:
                if not self._driver.states()[ticket].status.ended:
                    self.error = error
                    return


def still_answers(server: prefect_server.Server) -> bool:
    """Whether the API is there; one of ours that has died is known at once, a slow one waited for.

    Args:
        server: One that has answered before.
    """
    try:
        server.wait(ANSWER_S if server.ours else FOREIGN_ANSWER_S)
    except ControlPlaneError:
        return False
    return True


class FlowThread(threading.Thread):
    """Prefect's part: import it, wait for its API, run the flow.

    Args:
        driver: Open; the flow's tasks find it by store and name.
        request: For the flow run's parameters.
        server: The API.
    """

    def __init__(self, driver: Driver, request: Request, server: prefect_server.Server) -> None:
        super().__init__(name="prefect-flow", daemon=True)
        self._driver, self._request, self._server = driver, request, server
        self.error: BaseException | None = None
        self.report: str | None = None
        self.returned = False
        self.reached = False
        """Whether the API has answered: before, no task of it can hang."""

    def run(self) -> None:
        """Run the flow; what it raises is kept in ``error``."""
        try:
            self._run()
        except BaseException as error:
            self.error = error

    def _run(self) -> None:
        import prefect.settings as prefect_settings
        from prefect import tags

        from drillyard_flows.experiment import tags_of
        from drillyard_flows.heartbeats import Heartbeats
        from drillyard_flows.opening import words

        self._server.wait()
        self.reached = True
        frequency = prefect_settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY
        interval_s = frequency.value()
        changed: dict[Any, Any] = {frequency: None}  # its thread is joined at the end
        if self._server.ours:
            # Said once more: a program that imported Prefect before has its settings read already.
            changed[prefect_settings.PREFECT_API_URL] = self._server.api_url
        driver, request = self._driver, self._request
        with contextlib.ExitStack() as stack:
            flow = chosen = _flow_of(self._driver)
            if not self._server.ours and interval_s is not None:
                # They serve automations that find zombies; a server that ends with us has none.
                beats = Heartbeats(float(interval_s))
                stack.callback(beats.end)
                flow = chosen.with_options(on_running=[beats.begin])
            stack.enter_context(prefect_settings.temporary_settings(changed))
            stack.enter_context(tags(*tags_of(driver)))
            state = flow(
                file=str(driver.loaded.file),
                store=driver.mailbox.store.url,
                name=driver.mailbox.experiment,
                sets=list(request.sets),
                globals_files=[str(g) for g in request.globals_],
                backend=request.backend or "",
                parameters=words(request.values),
                tunables=list(request.tunables),
                return_state=True,
            )
        found = state.result(raise_on_failure=False)
        if isinstance(found, BaseException) and not state.is_cancelled():
            raise found
        self.report = found.get("report") if isinstance(found, dict) else None
        self.returned = True


def _flow_of(driver: Driver) -> Any:
    if driver.study is not None:
        from drillyard_flows.study import study

        return study
    from drillyard_flows.experiment import experiment

    return experiment


class Session:
    """Drives an open driver to its end.

    Args:
        driver: Open, with tickets to do.
        request: What was asked for.
        display: Where progress is shown.
        on_all_ended: Called once when every ticket has ended, before anything is torn down.
    """

    def __init__(
        self,
        driver: Driver,
        request: Request,
        display: Display,
        on_all_ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._driver = driver
        self._request = request
        self._display = display
        self._on_all_ended = on_all_ended
        self._server: prefect_server.Server | None = None
        self._torn_down = False
        self._ended_at: float | None = None
        self._told = False
        self.report: str | None = None
        self.stopped = False
        """A signal was heard."""

    def run(self) -> DrillyardError | None:
        """Do everything up to and including teardown.

        Returns:
            What went wrong with the machinery or on request; None when the mailbox says the rest.
        """
        with Interrupts(self._driver, self._display.say, self._leave) as interrupts:
            try:
                error = self._work(interrupts)
            finally:
                self.stopped = interrupts.since is not None
                if self._server is not None:
                    self._server.release()
                aftermath = Aftermath.of(self._driver)
                aftermath.join(AFTERMATH_S)
                self.report = self.report or aftermath.built
            return error

    # -- with Prefect -------------------------------------------------------------------------

    def _work(self, interrupts: Interrupts) -> DrillyardError | None:
        try:
            self._server = prefect_server.acquire()
            self._display.say(f"Prefect: {self._server.ui_url}")
        except ControlPlaneError as failure:
            refused = self._without_prefect(failure)
            if refused is not None:
                return refused
        try:
            # Beside the server's start, not after it; the task `provision` adopts this lease.
            if self._driver.spec.resources.limit is None:
                self._driver.provision()
        except DrillyardError as error:
            return self._tear_down() or error
        if self._server is not None:
            if self._server.ours:
                settings.use_api(self._server.api_url, folder=self._server.home)
            else:
                settings.use_api(self._server.api_url)
            flow = FlowThread(self._driver, self._request, self._server)
            flow.start()
            self._watch(lambda: not flow.is_alive() or self._abandoned(flow, interrupts))
            if flow.is_alive():
                # Left behind, it complains about its API while the interpreter ends: Prefect's log
                # handler then fails, and logging would print that with a traceback.
                logging.raiseExceptions = False
            judged = self._judge(flow)
            if judged is not None or self._torn_down:
                return judged
        return self._plainly(interrupts)

    def _watch(self, done: Callable[[], bool]) -> None:
        while not done():
            self._display.update(views(self._driver))
            self._tell_when_ended()
            time.sleep(DRAW_EVERY_S)
        self._display.update(views(self._driver))

    def _tell_when_ended(self) -> None:
        if not self._all_ended():
            return
        if not self._told:
            self._told = True
            self._on_all_ended()
        if self._driver.study is not None or all(
            state.status in DONE for state in self._driver.states().values()
        ):
            Aftermath.of(self._driver).begin(self._driver)

    def _all_ended(self) -> bool:
        return self._driver.over

    def _abandoned(self, flow: FlowThread, interrupts: Interrupts) -> bool:
        """True when the work is over and Prefect does not come to an end of its own.

        A task that ended while the API was away hangs for minutes otherwise (159 s, measured). A
        server that has yet to answer is not away: on a busy machine a short experiment is over
        before it is up, and has its pages all the same.
        """
        if interrupts.since is not None and time.monotonic() - interrupts.since > AFTERMATH_S:
            return True
        if not self._all_ended():
            self._ended_at = None
            return False
        self._ended_at = self._ended_at or time.monotonic()
        waited = time.monotonic() - self._ended_at
        if waited < 5.0:
            return False
        assert self._server is not None
        return waited > AFTERMATH_S or (flow.reached and not still_answers(self._server))

    def _judge(self, flow: FlowThread) -> DrillyardError | None:
        """What the flow's end means; None with ``returned`` False: go on without Prefect."""
        self.report = flow.report
        if flow.returned:
            self._torn_down = True
            return None
        error = flow.error
        if isinstance(error, Superseded):
            return error  # the other driver's machines, the other driver's word
        if isinstance(error, DECIDED):
            return self._tear_down() or error
        refused = self._without_prefect(
            error or ControlPlaneError("Prefect's API does not answer")
        )
        if refused is not None:
            return refused
        return self._tear_down() if self._all_ended() else None

    def _without_prefect(self, error: BaseException) -> DrillyardError | None:
        """Say that it goes on; or why not: what Prefect counts is not begun uncounted."""
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        limit = self._driver.spec.resources.limit
        if limit is not None and self._driver.lease is None:
            return ControlPlaneError(
                f"Prefect, which counts the limit {limit!r}, cannot be asked: {text[:300]}",
                hint="the same command again once it answers; or without resources.limit",
            )
        self._display.say(
            f"going on without Prefect's pages, results are not affected ({text[:300]})"
        )
        return None

    # -- without Prefect ----------------------------------------------------------------------

    def _plainly(self, interrupts: Interrupts) -> DrillyardError | None:
        """The same six phases as plain calls."""
        try:
            self._driver.provision()
            self._driver.setup(SETUP_TIMEOUT_S)
        except DECIDED as error:
            return self._tear_down() or error
        except DrillyardError as error:
            return error  # undecided: machines go on, and the same command adopts them
        waiter = Waiter(self._driver)
        waiter.start()
        self._watch(
            lambda: (
                not waiter.is_alive()
                or (
                    interrupts.since is not None
                    and time.monotonic() - interrupts.since > AFTERMATH_S
                )
            )
        )
        if waiter.error is not None and not isinstance(waiter.error, DECIDED):
            return waiter.error
        return self._tear_down() or waiter.error

    def _tear_down(self) -> DrillyardError | None:
        if self._torn_down:
            return None
        try:
            self._driver.teardown()
        except DrillyardError as error:
            return error
        self._torn_down = True
        return None

    def _leave(self) -> None:
        """Second Ctrl-C: sign out from the server, leave the rest as it is."""
        if self._server is not None:
            self._server.release()
