"""Shows a session on Prefect's pages: each of its phases as a task run.

The session decides the order of the phases; this module decides which task shows which phase.
``ATTACHED`` holds the session that the running flow shows, if a command or a program drives it. A
flow run of a deployment drives its own session.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import Any

from prefect import Task
from prefect.context import FlowRunContext, TagsContext
from prefect.futures import PrefectFuture

from drillyard.driver.bodies import TRIAL, Bodies, Body
from drillyard.driver.driver import Driver
from drillyard.driver.stages import Stages
from drillyard.mailbox.records import Phase
from drillyard_flows.events import Watch
from drillyard_flows.stage_graph import Graph
from drillyard_tasks.machines import provision, setup, teardown
from drillyard_tasks.parts import stage, trial
from drillyard_tasks.session import Session
from drillyard_tasks.work import evaluate, store, train

ATTACHED: ContextVar[tuple[Driver, Bodies] | None] = ContextVar("drillyard-session", default=None)
"""The session that a flow in this context shows, or None."""

GRAPH: ContextVar[Graph | None] = ContextVar("drillyard-graph", default=None)
"""The stages that the running flow shows, or None."""
_OF_MACHINES: dict[str, Task[..., Any]] = {
    "provision": provision,
    "setup": setup,
    "teardown": teardown,
}
_LAST = (Phase.STORE.value, TRIAL)
"""Phases that no other phase waits for."""


def present(driver: Driver, bodies: Bodies) -> None:
    """Shows every phase as a task run, until the session has no more phases.

    Args:
        driver: Driver that knows the progress of runs.
        bodies: The session's phases.
    """
    # Those that have not ended, and those that the next phase of their run waits for. A study has
    # thousands, so that no others are kept.
    futures: dict[str, PrefectFuture[Any]] = {}
    tasks = _Tasks(driver)
    context = FlowRunContext.get()
    # Tasks take no tags from the flow run: see ``tags_of``.
    with Watch(driver), TagsContext():
        for body in bodies.follow():
            before = futures.pop(body.before, None) if body.before is not None else None
            futures[body.key] = tasks.submit(body, [before] if before is not None else [])
            if context is not None:
                # Prefect keeps the state of each result, to find the task of a result that another
                # task gets. These tasks get none: ``before`` says what they follow.
                context.run_results.clear()
            futures[body.key].add_done_callback(partial(_forget, futures, tasks.session, body))
        for future in list(futures.values()):
            future.wait()


def _forget(
    futures: dict[str, PrefectFuture[Any]], session: Session, body: Body, _: PrefectFuture[Any]
) -> None:
    session.forget(body.key)
    if body.phase in _LAST:
        futures.pop(body.key, None)


def present_graph(graph: Graph) -> None:
    """Shows every stage as a task run, until the list ends.

    Args:
        graph: The stages of a session.
    """
    futures: dict[str, PrefectFuture[Any]] = {}
    with TagsContext():
        for body in graph.bodies.follow():
            before = [futures[key] for key in graph.after[body.key] if key in futures]
            futures[body.key] = stage.submit(body, return_state=False, wait_for=before)
        for future in futures.values():
            future.wait()


def tags_of(driver: Driver | Stages) -> list[str]:
    """Returns the tags of this experiment's flow run and of its `train` task runs in Prefect.

    Short tasks have no tags: before each task with tags, Prefect requests a slot of their
    concurrency limits from its server, in a transaction that reads and then writes. SQLite refuses
    it when another request has written in between (HTTP 503), and the client retries two seconds
    later, which users would wait for at the end of an experiment. A limit by tag is useful for
    trainings only, and those have tags.
    """
    spec = driver.loaded.spec
    tags = ["drillyard", f"experiment:{spec.name}"]
    tags += [f"backend:{text}" for text in spec.places]
    if spec.learner is not None:
        tags.append(f"algorithm:{spec.learner.algorithm}")
    return tags


class _Tasks:
    """Starts the task run that shows a phase."""

    def __init__(self, driver: Driver) -> None:
        self.session = Session(driver)
        tags = tags_of(driver)
        # Prefect reads a task's source each time it makes one.
        self._of_runs = {
            Phase.TRAIN.value: train.with_options(tags=tags),
            Phase.EVALUATE.value: evaluate,
            Phase.STORE.value: store,
        }

    def submit(self, body: Body, before: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        """Starts the task run of a phase."""
        if body.phase == TRIAL:
            return trial.submit(body)
        self.session.offer(body)
        if body.phase in _OF_MACHINES:
            return _OF_MACHINES[body.phase].submit(self.session)
        return self._of_runs[body.phase].submit(self.session, body.run, wait_for=before)
