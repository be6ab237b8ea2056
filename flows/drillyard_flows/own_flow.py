"""``session``: the six phases of an experiment as tasks of a flow of your own.

    from drillyard_flows import session
    from drillyard_tasks import evaluate, provision, setup, store, teardown, train

    with session("cstr.yaml") as experiment:
        provision(experiment)
        setup(experiment)
        for trained in [train.submit(experiment, run) for run in experiment.runs]:
            ...

Only what a task names is done. A later session, or ``drillyard run``, does the rest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError

from drillyard.checks.experiment import check
from drillyard.checks.refusal import refuse
from drillyard.driver.bodies import Bodies, Body
from drillyard.driver.compose import driver_of
from drillyard.driver.driver import Driver
from drillyard.driver.in_thread import InThread
from drillyard.driver.outcome import Outcome
from drillyard.driver.six_phases import drive
from drillyard.errors import (
    ConfigError,
    ControlPlaneError,
    ExperimentFailed,
    TeardownUnconfirmed,
    UserError,
    WorkerLost,
)
from drillyard.mailbox.records import Phase
from drillyard.runs import submit
from drillyard.runs.locate import store_of
from drillyard.spec.load import Loaded, load
from drillyard.spec.stages import is_staged
from drillyard.system.proxies import spare_loopback
from drillyard_flows import limits, live
from drillyard_flows.events import Watch
from drillyard_tasks.session import Session


@contextmanager
def session(
    what: Loaded | str | Path,
    *,
    store: str | Path | None = None,
    allow_change: bool = False,
) -> Iterator[OwnSession]:
    """Opens an experiment for the six tasks, and ends its machines at the end of the block.

    The block may do anything between two tasks. This process stays the driver meanwhile. A machine
    without work ends by itself, and the next task gets another one.

    Args:
        what: An experiment file, or the result of ``drillyard.load``.
        store: Where results are kept; default DRILLYARD_STORE or ``./drillyard-runs``.
        allow_change: Continue under the same name although results will differ.

    Yields:
        What the tasks take: ``runs``, ``name`` and ``store``. If everything is finished already,
        no machine is rented, and each task returns what there is.

    Raises:
        UserError: The file is wrong, has a study or stages, or another driver is alive; nothing
            was rented.
        InfrastructureError: Machines or the store failed, or a machine may still be listed.
    """
    spare_loopback()
    say = _log().info
    loaded = what if isinstance(what, Loaded) else load(what, command=["session", str(what)])
    _refuse_what_decides_itself(loaded)
    url = store_of(loaded, None if store is None else str(store))
    refuse(check(loaded, store=url, offline_ok=True))
    driver = driver_of(loaded, url, say=say, allow_change=allow_change, by_request=True)
    driver.open()
    opened = OwnSession(driver, say)
    if not driver.held:
        say("every run is finished: no machine is rented")
        yield opened
        return
    work = InThread(opened.work, driver, say=say)
    with work.running(), Watch(driver):
        try:
            if FlowRunContext.get() is not None:
                live.link(driver.mailbox)
            yield opened
        finally:
            opened.leave()
    error = work.outcome().error
    # A task has raised the failure of its run, and the flow decided what follows from it.
    if error is not None and not isinstance(error, ExperimentFailed | WorkerLost):
        raise error


class OwnSession(Session):
    """An experiment whose phases begin when a task names them. It is the view of its own session.

    Args:
        driver: Open, and by request.
        say: Gets sentences for the user.
    """

    def __init__(self, driver: Driver, say: Callable[[str], None]) -> None:
        super().__init__(driver)
        self._say = say
        trials = submit.plain(driver.spec)
        self.runs = [run for run, _, _ in submit.runs(trials)]
        """Ids of the runs, one for each seed: ``t0001-s42``."""
        self._news = threading.Condition()
        self._left = False
        self._end: Callable[[], Outcome] | None = None
        self._refused: set[str] = set()
        """Phases that cannot be requested now, whatever Prefect repeats."""

    def work(self) -> Outcome:
        """Works until the session has ended."""
        try:
            outcome = drive(self.driver, view=self, say=self._say)
        except BaseException as error:
            broken: Future[Outcome] = Future()
            broken.set_exception(error)
            self._over(broken.result)  # the session may have ended before it offered anything
            raise
        if isinstance(outcome.error, TeardownUnconfirmed):
            self._say(str(outcome.error))  # an exception in the flow would hide it
        return outcome

    @property
    def finished(self) -> bool:
        """Whether there was nothing to do when the session was opened."""
        return not self.driver.began

    def body(self, phase: str, run: str = "") -> Body:
        """Requests a phase, and returns it once it is offered.

        Args:
            phase: One of the six phases.
            run: The run, for `train`, `evaluate` and `store`.

        Raises:
            DrillyardError: The run does not exist, a phase before this one has no result, or the
                session ended before this phase began.
        """
        if self.finished:
            return self._known(phase, run)
        key = self.key(phase, run)
        self._refused.discard(key)
        try:
            if run:
                self.driver.request(run, Phase(phase))
            elif phase == "teardown":
                self.driver.release()
        except UserError:
            self._refused.add(key)
            raise
        with self._news:
            self._news.wait_for(lambda: key in self._bodies or self._end is not None)
            if key in self._bodies:
                return self._bodies[key]
            assert self._end is not None
        raise self._end().error or ControlPlaneError(
            f"the session ended before {key} began", hint="call the task before `teardown`"
        )

    def delivered(self, phase: str, run: str = "") -> bool:
        """Returns whether repeating a task would not help; also true if its phase cannot begin.

        Args:
            phase: One of the six phases.
            run: The run, for `train`, `evaluate` and `store`.
        """
        key = self.key(phase, run)
        over = self.finished or self._end is not None
        vain = key in self._refused or (over and key not in self._bodies)
        return vain or super().delivered(phase, run)

    def offer(self, body: Body) -> None:
        """Keeps a phase, and wakes the task that waits for it."""
        with self._news:
            super().offer(body)
            self._news.notify_all()

    def leave(self) -> None:
        """Says that no task follows."""
        self._left = True
        self.driver.release()

    def _known(self, phase: str, run: str) -> Body:
        """A phase of an experiment that is finished."""
        body = Body(phase, self.key(phase, run), run=run)
        accepted = self.driver.mailbox.accepted(run, Phase(phase)) if run in self.runs else None
        if run and accepted is None:
            self.driver.request(run, Phase(phase))  # says which runs there are
        body.future.set_result(accepted)
        super().offer(body)
        return body

    # -- what the session shows itself in -----------------------------------------------------

    def begin(self, driver: Driver, bodies: Bodies) -> None:
        """Starts to take the phases that the session offers."""
        threading.Thread(
            target=self._follow, args=(bodies,), name="drillyard-phases", daemon=True
        ).start()

    def showing(self) -> bool:
        """Returns whether a task may still join an offered phase."""
        return not self._left

    def slots(self, driver: Driver) -> AbstractContextManager[None]:
        """Holds the slots of ``resources.limit``; see ``limits.slots``."""
        return limits.slots(driver)

    def end(self, outcome: Outcome) -> None:
        """Does nothing: the flow continues by itself."""

    def _follow(self, bodies: Bodies) -> None:
        for body in bodies.follow():
            self.offer(body)
        self._over(bodies.outcome.result)

    def _over(self, end: Callable[[], Outcome]) -> None:
        with self._news:
            self._end = end
            self._news.notify_all()


def _refuse_what_decides_itself(loaded: Loaded) -> None:
    spec = loaded.spec
    what = "a study" if spec.study is not None else "stages" if is_staged(spec) else ""
    if what:
        raise ConfigError(
            f"{spec.name} has {what}, which decides itself what is done next",
            file=loaded.file.name if loaded.file else None,
            field="study" if spec.study is not None else "parts",
            allowed="an experiment without a study and without stages",
            hint=f"use `drillyard run`, or the flow `{'study' if spec.study else 'experiment'}`",
        )


def _log() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """The log of the flow run; outside one, drillyard's."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("drillyard")
