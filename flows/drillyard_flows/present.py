"""A session on Prefect's pages: each of its phases as a task run, as the session offers them.

The session decides what comes when; here is only which task shows what. ``ATTACHED`` holds the
session that the running flow is to show, where a command or a program drives it; a flow run of a
deployment drives one itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from prefect import Task
from prefect.context import TagsContext
from prefect.futures import PrefectFuture

from drillyard.driver.bodies import TRIAL, Bodies, Body
from drillyard.driver.driver import Driver
from drillyard.mailbox.records import Phase
from drillyard_flows.events import Watch
from drillyard_tasks.evaluate import evaluate
from drillyard_tasks.provision import provision
from drillyard_tasks.publisher import Publisher
from drillyard_tasks.setup import setup
from drillyard_tasks.store import store
from drillyard_tasks.teardown import teardown
from drillyard_tasks.train import train
from drillyard_tasks.trial import trial

ATTACHED: ContextVar[tuple[Driver, Bodies] | None] = ContextVar("drillyard-session", default=None)
"""The session that a flow of this context shows; None: it has none yet."""

_OF_RUNS: dict[str, Task[..., Any]] = {
    Phase.TRAIN.value: train,
    Phase.EVALUATE.value: evaluate,
    Phase.STORE.value: store,
}


def present(driver: Driver, bodies: Bodies) -> None:
    """Show every phase as a task run, until the session offers no more and all are shown.

    Args:
        driver: Knows how far runs are.
        bodies: The session's phases.
    """
    futures: dict[str, PrefectFuture[Any]] = {}
    tasks = _Tasks(driver)
    # Tasks take no tags from the flow run: see ``tags_of``.
    with Watch(driver), TagsContext():
        for body in bodies.follow():
            before = futures.get(body.before.key) if body.before is not None else None
            futures[body.key] = tasks.submit(body, [before] if before is not None else [])
        for future in futures.values():
            future.wait()


def tags_of(driver: Driver) -> list[str]:
    """Tags of this experiment's flow run and of its `train` task runs in Prefect.

    Not of the short tasks: before each task with tags, Prefect asks its server for a slot of their
    concurrency limits, in a transaction that reads and then writes. On SQLite that is refused at
    once when another request has written in between (HTTP 503), and the client comes again two
    seconds later: at the end of an experiment, that is what a person waits for. A limit by tag
    that somebody sets holds for trainings, which is what it is wanted for.
    """
    spec = driver.loaded.spec
    found = ["drillyard", f"experiment:{spec.name}", f"backend:{spec.backend}"]
    if spec.learner is not None:
        found.append(f"algorithm:{spec.learner.algorithm}")
    return found


class _Tasks:
    """Which task shows a phase, and with what."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._publisher = Publisher()
        mailbox = driver.mailbox
        self._place = {
            "store": mailbox.store.url,
            "experiment": mailbox.experiment,
            "identity": mailbox.experiment_record().identity,
        }

    def submit(self, body: Body, before: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        """Begin the task run of a phase."""
        if body.phase == "provision":
            return provision.submit(body, self._driver)
        if body.phase == "setup":
            return setup.submit(body)
        if body.phase == "teardown":
            return teardown.submit(body)
        if body.phase == TRIAL:
            return trial.submit(body)
        task = _OF_RUNS[body.phase].with_options(
            tags=tags_of(self._driver) if body.phase == Phase.TRAIN.value else None,
            # What the mailbox calls open is open, whatever Prefect remembers.
            refresh_cache=self._driver.mailbox.accepted(body.run, Phase(body.phase)) is None,
        )
        return task.submit(
            body,
            self._driver,
            self._publisher,
            **self._place,
            ticket=body.key,
            generation=self._driver.generation(body.key),
            wait_for=before,
        )
