"""Drillyard's events for automations and webhooks, and the watch that sends them during a run.

    drillyard.experiment.finished   payload: text, report, cost
    drillyard.study.finished        the same, for a study
    drillyard.budget.reached        payload: limit, used, allowed, text; once for each limit
    drillyard.run.preempted         payload: run, attempt, text
    drillyard.lease.reaped, drillyard.lease.undeletable, drillyard.reap.finished: the flow ``reap``

If an event cannot be sent, that is logged and nothing fails.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from drillyard.documents.json_types import Json
from drillyard.driver.driver import Driver
from drillyard.leases.ledger import Ledger
from drillyard.leases.spending import so_far
from drillyard.mailbox.status import Status

FINISHED = "drillyard.experiment.finished"
STUDY_FINISHED = "drillyard.study.finished"
BUDGET = "drillyard.budget.reached"
PREEMPTED = "drillyard.run.preempted"
SHARE = 0.8
"""Share of a limit at which an event is sent."""
LOOK_EVERY_S = 5.0
log = logging.getLogger(__name__)


def emit(event: str, driver: Driver, **payload: Json) -> None:
    """Sends an event about an experiment.

    Args:
        event: Name of the event.
        driver: Driver of the experiment.
        **payload: Content of the event.
    """
    from prefect.events import emit_event

    name = driver.mailbox.experiment
    try:
        emit_event(
            event=event,
            resource={
                "prefect.resource.id": f"drillyard.experiment.{name}",
                "prefect.resource.name": name,
                "drillyard.store": driver.mailbox.store.url,
            },
            payload=payload,
        )
    except Exception as error:
        log.warning("the event %s was not sent: %s", event, error)


def finished(driver: Driver, verdict: str, report: str | None) -> None:
    """Sends the event that an experiment or a study ended, with the result."""
    name = FINISHED
    if driver.study is not None:
        from drillyard.results.study_table import verdict as study_verdict
        from drillyard.results.trials import collect_trials

        name, verdict = STUDY_FINISHED, study_verdict(collect_trials(driver.mailbox))
    emit(
        name,
        driver,
        text=verdict or f"{driver.mailbox.experiment} is finished",
        report=report or "none",
        cost=so_far(driver.mailbox),
    )


class Watch:
    """Watches budgets and preemptions while a block runs.

    Args:
        driver: An open driver.
        send: Sends an event; tests replace it.
    """

    def __init__(self, driver: Driver, send: Callable[..., None] = emit) -> None:
        self._driver = driver
        self._send = send
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = time.time()
        self._ledger = Ledger(driver.mailbox)
        self._told: set[tuple[str, object]] = set()

    def __enter__(self) -> Watch:
        """Starts a thread that has the Prefect settings of this one."""
        import contextvars

        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._look_on,), name="budget-watch", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Checks once more, and stops."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def look(self) -> None:
        """Sends the events that are due, each of them once."""
        for limit, used, allowed, unit in self._budgets():
            if used >= SHARE * allowed and self._first("budget", limit):
                self._send(
                    BUDGET,
                    self._driver,
                    limit=limit,
                    used=used,
                    allowed=allowed,
                    text=f"{used:.2f} of {allowed:g} {unit} are used ({limit})",
                )
        for state in self._driver.states().values():
            lost = state.status is Status.PREEMPTED
            if lost and self._first(state.ticket.ticket, state.attempt):
                self._send(
                    PREEMPTED,
                    self._driver,
                    run=state.ticket.run,
                    attempt=state.attempt,
                    text=f"{state.ticket.run} lost its machine; another attempt follows",
                )

    def _first(self, kind: str, what: object) -> bool:
        new = (kind, what) not in self._told
        self._told.add((kind, what))
        return new

    def _budgets(self) -> Iterator[tuple[str, float, float, str]]:
        budget, ledger = self._driver.spec.budget, self._ledger
        if budget.max_hours is not None:
            used = ledger.used_s(self._began) / 3600.0
            yield "budget.max_hours", used, budget.max_hours, "hours"
        if budget.max_cost is not None:
            yield "budget.max_cost", ledger.spent(), budget.max_cost, "at list prices"

    def _look_on(self) -> None:
        last = False
        while True:
            try:
                self.look()
            except Exception as error:  # for example a store that is briefly unavailable
                log.debug("budgets were not checked: %s", error)
            if last:
                return
            last = self._over.wait(LOOK_EVERY_S)
