"""The flow ``experiment``: the six phases of one experiment as Prefect tasks.

Prefect shows and schedules; the mailbox decides. The session drives: that of a command, or, in a
flow run of a deployment, one in a thread of this process.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from drillyard.driver.bodies import Bodies
from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Kind, Outcome
from drillyard.driver.session import drive
from drillyard.errors import Bug, ConfigError
from drillyard.mailbox.mailbox import trial_id
from drillyard.mailbox.records import PHASES
from drillyard.spec.load import Loaded
from drillyard_flows import artifacts, form, hooks, limits, plain_errors
from drillyard_flows.events import finished
from drillyard_flows.present import ATTACHED, present, tags_of
from drillyard_flows.request import Request, checked, opened
from drillyard_tasks.common import reference

THREADS = 96
"""Threads that only wait. Tickets are watched by one thread of the driver, whatever this is."""


def run_name() -> str:
    """What a flow run is called: the experiment."""
    given = flow_run.parameters
    file = str(given.get("file") or "experiment")
    preset = not Path(file).suffix  # cstr/ppo makes the experiment cstr-ppo
    return str(given.get("name") or (file.replace("/", "-") if preset else Path(file).stem))


@flow(
    name="experiment",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=THREADS),  # type: ignore[arg-type]
    on_failure=[hooks.tear_down],
    on_crashed=[hooks.tear_down],
    on_cancellation=[hooks.stop_and_tear_down],
    retries=0,
)
def experiment(
    file: str = form.FILE,
    seeds: form.Count = form.SEEDS,
    steps: form.Steps = form.STEPS,
    backend: str = form.BACKEND,
    max_hours: form.Amount = form.MAX_HOURS,
    max_cost: form.Amount = form.MAX_COST,
    name: str = form.NAME,
    store: str = form.STORE,
    sets: list[str] = form.SETS,
    globals_files: list[str] = form.GLOBALS,
    parameters: list[str] = form.PARAMETERS,
    tunables: list[str] = form.TUNABLES,
) -> dict[str, Any] | State[Any]:
    """Train, evaluate and store every run of one experiment file.

    Its parameters are the fields of the form, described in ``form``.

    Returns:
        ``{"experiment", "store", "runs": {run: manifest of its stored result}, "report"}``.

    Raises:
        RunFailed: At least one run has no result.
    """
    return driven(form.asked(locals()), study=False)


def driven(request: Request, *, study: bool) -> dict[str, Any] | State[Any]:
    """The body of a flow: show the session of a command, or drive one and show it.

    Args:
        request: What was asked for.
        study: Whether the file must have a ``study:``, or must have none.

    Raises:
        DrillyardError: How it ended, when not well.
    """
    plain_errors.install()
    attached = ATTACHED.get()
    if attached is not None:
        driver, bodies = attached
        present(driver, bodies)
        return _returned(driver, bodies.outcome.result())
    loaded = checked(request)
    _check_kind(loaded, study)
    driver, todo = opened(loaded, request)
    if not todo:
        return _finished(driver)
    _tag(driver)
    return _alone(driver)


class _ThisFlow:
    """The stage of a session that this flow run drives: the flow itself."""

    def __init__(self) -> None:
        self.bodies: Bodies | None = None
        self.begun = threading.Event()
        self.presenting = True

    def begin(self, driver: Driver, bodies: Bodies) -> None:
        """Hand the phases to the flow's own thread."""
        self.bodies = bodies
        self.begun.set()

    def showing(self) -> bool:
        """True while the flow's own thread follows."""
        return self.presenting

    @contextmanager
    def slots(self, driver: Driver) -> Iterator[None]:
        """Hold the slots of ``resources.limit``."""
        with limits.slots(driver):
            yield

    def end(self, outcome: Outcome) -> None:
        """The flow ends by itself."""


def _alone(driver: Driver) -> dict[str, Any] | State[Any]:
    """Drive in a thread, show in this one.

    Where Prefect's API goes away, the session goes on to its end all the same.
    """
    log = get_run_logger()
    stage, hurry = _ThisFlow(), threading.Event()
    ended: list[Outcome] = []
    context = contextvars.copy_context()  # Prefect's settings live there
    thread = threading.Thread(
        target=lambda: ended.append(
            context.run(drive, driver, stage=stage, say=log.info, hurry=hurry)
        ),
        name="drillyard-session",
    )
    thread.start()
    try:
        while not stage.begun.wait(0.2):
            if not thread.is_alive():
                raise Bug("the session ended before it began")
        assert stage.bodies is not None
        try:
            present(driver, stage.bodies)
        except Exception as error:
            log.warning("going on without Prefect's pages, results are not affected (%s)", error)
        stage.presenting = False
        found = _returned(driver, stage.bodies.outcome.result())
        thread.join()
        return found
    except Exception:
        thread.join()
        raise
    except BaseException:
        # The process is told to end (SIGTERM, cancelled in the UI): flush, then give back.
        stage.presenting = False
        driver.stop("the flow was told to end")
        hurry.set()
        thread.join()
        raise


def _check_kind(loaded: Loaded, study: bool) -> None:
    """Refuse a file that the other flow is for."""
    if (loaded.spec.study is not None) is not study:
        raise ConfigError(
            "the file has no study" if study else "the file is a study",
            file=loaded.file.name,
            field="study",
            allowed="a study" if study else "an experiment of one trial",
            hint=f"start a deployment of the flow `{'experiment' if study else 'study'}`",
        )


def _tag(driver: Driver) -> None:
    """Give the flow run of a deployment the tags that one of a command is begun with."""
    from prefect.client.orchestration import get_client

    wanted = sorted({*(flow_run.tags or []), *tags_of(driver)})
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(str(flow_run.id)), tags=wanted)
    except Exception as error:  # a page without them must not end the work
        get_run_logger().debug("the flow run has no tags: %s", error)


def _returned(driver: Driver, outcome: Outcome) -> dict[str, Any] | State[Any]:
    """Show the result in Prefect, and end the flow as the session ended.

    Raises:
        DrillyardError: How it ended, when not well.
    """
    if outcome.kind is Kind.STOPPED:
        return Cancelled(message=str(outcome.error))
    if outcome.kind is Kind.UNDECIDED and outcome.error is not None:
        raise outcome.error
    verdict = _shown(driver, outcome.report)
    if outcome.error is not None:
        raise outcome.error
    report = outcome.report
    finished(driver, verdict, artifacts.address(driver, report) if report else None)
    return {**_place(driver), "runs": _references(driver), "report": report}


def _finished(driver: Driver) -> dict[str, Any]:
    """What a run of the flow returns that had nothing to do; nothing was rented."""
    from drillyard.report import build

    get_run_logger().info("nothing to do: every run is finished")
    report: str | None = None
    try:
        report = str(build(driver.mailbox).index)
    except Exception as error:
        get_run_logger().warning("the report could not be built: %s", error)
    _shown(driver, report)
    return {**_place(driver), "runs": _references(driver), "report": report}


def _place(driver: Driver) -> dict[str, str]:
    return {"store": driver.mailbox.store.url, "experiment": driver.mailbox.experiment}


def _references(driver: Driver) -> dict[str, Any]:
    """Run -> its last accepted result; of a study, trial -> its outcome."""
    if driver.study is not None:
        outcomes = driver.study.outcomes.items()
        return {trial_id(n): {"status": o.status.value, "values": o.values} for n, o in outcomes}
    found: dict[str, Any] = {}
    tickets = driver.states().values()
    for state in sorted(tickets, key=lambda s: PHASES.index(s.ticket.phase)):
        accepted = driver.mailbox.accepted(state.ticket.run, state.ticket.phase)
        if accepted is not None:
            found[accepted.run] = reference(accepted)
    return found


def _shown(driver: Driver, report: str | None) -> str:
    """Show the results; returns them in a sentence."""
    verdict = artifacts.publish(driver, report)
    if verdict:
        get_run_logger().info(verdict)
    if report:
        get_run_logger().info("report: %s", report)
    return verdict
