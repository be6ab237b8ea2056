"""The flow ``experiment``: the six phases of one experiment as Prefect tasks.

Prefect shows and schedules; the mailbox decides. A session does the work: the session of a
command, or, in a flow run of a deployment, a session in a thread of this process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from prefect import Flow, flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from drillyard.documents.json_types import JsonObject
from drillyard.driver.bodies import Bodies
from drillyard.driver.driver import Driver
from drillyard.driver.in_thread import Ended, InThread
from drillyard.driver.outcome import Kind, Outcome
from drillyard.driver.six_phases import drive
from drillyard.errors import ConfigError
from drillyard.mailbox.mailbox import trial_id
from drillyard.mailbox.records import PHASES
from drillyard.spec.load import Loaded
from drillyard.spec.stages import is_staged
from drillyard_flows import artifacts, form, growing, hooks, limits, live, plain_errors
from drillyard_flows.events import finished
from drillyard_flows.present import ATTACHED, GRAPH, present, present_graph, tags_of
from drillyard_flows.request import Request, checked, opened
from drillyard_flows.stage_graph import Graph
from drillyard_tasks.common import FlowResult, reference

LOOK_S = 0.2
THREADS = 96
"""Number of threads, which only wait. One thread of the driver watches all tickets."""


def run_name() -> str:
    """Returns the name of a flow run, which is the experiment's."""
    parameters = flow_run.parameters
    given = form.name_of(parameters, flow_run.scheduled_start_time, flow_run.tags)
    return given or form.called(parameters)


def flow_of(kind: str, file: str, description: str) -> Flow[..., FlowResult]:
    """Returns a flow that runs an experiment file; its parameters are the fields of ``form``.

    The flow returns ``{"experiment", "store", "runs": {run or trial: its result}, "report"}``.

    Args:
        kind: ``experiment`` or ``study``, which is what the file must be.
        file: Default of the field *Experiment*.
        description: What Prefect's pages say about the flow.
    """

    def body(
        file: str = file,
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
        more: list[str] = form.MORE,
    ) -> FlowResult:
        request = form.request_of(locals(), flow_run.scheduled_start_time, flow_run.tags)
        return driven(request, study=kind == "study", more=more)

    body.__name__ = body.__qualname__ = kind
    body.__doc__ = description
    return flow(
        name=kind,
        flow_run_name=run_name,
        task_runner=ThreadPoolTaskRunner(max_workers=THREADS),  # type: ignore[arg-type]
        on_failure=[hooks.tear_down],
        on_crashed=[hooks.tear_down],
        on_cancellation=[hooks.stop_and_tear_down],
        retries=0,
    )(body)


experiment = flow_of(
    "experiment",
    form.FILE,
    "Trains, evaluates and stores every run of one experiment file.",
)


def driven(request: Request, *, study: bool, more: Sequence[str] = ()) -> FlowResult:
    """The body of a flow: shows the session of a command, or drives a session and shows it.

    Args:
        request: The request.
        study: Whether the file must have a ``study:``, or must not have one.
        more: What a finished experiment gets more, see ``growing``.

    Raises:
        DrillyardError: The session failed.
    """
    plain_errors.install()
    attached = ATTACHED.get()
    if attached is not None:
        driver, bodies = attached
        live.link(driver.mailbox)
        present(driver, bodies)
        return _result(driver, bodies.outcome.result())
    graph = GRAPH.get()
    if graph is not None:
        present_graph(graph)
        return {"experiment": request.name, "store": request.store}
    request = growing.grown(request, more, str(flow_run.id or ""))
    loaded = checked(request)
    _check_kind(loaded, study)
    if is_staged(loaded.spec):
        return _staged(loaded, request)
    driver, todo = opened(loaded, request)
    if not todo:
        return _finished(driver)
    _tag(driver)
    live.link(driver.mailbox)
    return _alone(driver)


def _staged(loaded: Loaded, request: Request) -> FlowResult:
    """Drives the stages of a composite in a thread, and shows them in this one."""
    from drillyard.report.stages import built
    from drillyard_flows.stages import OneServer, driven, stages_of_request

    log, graph, hurry = get_run_logger(), Graph(), threading.Event()
    stages = stages_of_request(loaded, request, OneServer(), log.info, graph, hurry)
    if not stages.open():
        log.info("nothing to do: every stage is finished")
        return {"experiment": loaded.spec.name, "store": stages.mailbox.store.url}
    work = InThread(lambda: driven(stages, graph), stages, say=log.info, hurry=hurry)
    outcome = work.run(lambda ended: _shows(lambda: present_graph(graph)))
    report = built(stages.mailbox, log.warning)
    if outcome.kind is Kind.STOPPED:
        return Cancelled(message=str(outcome.error))
    if outcome.error is not None:
        raise outcome.error
    store = stages.mailbox.store.url
    return {"experiment": loaded.spec.name, "store": store, "report": report}


def _shows(show: Callable[[], None]) -> None:
    """Shows a session. If Prefect's API becomes unavailable, the session still continues."""
    try:
        show()
    except Exception as error:
        get_run_logger().warning(
            "continuing without Prefect's pages; results are not affected (%s)", error
        )


class _ThisFlow:
    """The view of a session that this flow run drives."""

    def __init__(self) -> None:
        self.bodies: Bodies | None = None
        self.begun = threading.Event()
        self.presenting = True

    def begin(self, driver: Driver, bodies: Bodies) -> None:
        """Passes the phases to the flow's own thread."""
        self.bodies = bodies
        self.begun.set()

    def showing(self) -> bool:
        """Returns True while the flow's own thread shows the session."""
        return self.presenting

    @contextmanager
    def slots(self, driver: Driver) -> Iterator[None]:
        """Holds the slots of ``resources.limit``."""
        with limits.slots(driver):
            yield

    def end(self, outcome: Outcome) -> None:
        """Does nothing: the flow ends by itself."""


def _alone(driver: Driver) -> FlowResult:
    """Drives a session in a thread and shows it in this one."""
    log = get_run_logger()
    view, hurry = _ThisFlow(), threading.Event()

    def shown(ended: Ended) -> None:
        while not view.begun.wait(LOOK_S):
            if ended(0.0):
                return
        bodies = view.bodies
        assert bodies is not None
        try:
            _shows(lambda: present(driver, bodies))
        finally:
            view.presenting = False

    def work() -> Outcome:
        # A flow run holds a slot of its work pool: what trackers lack follows from outside it.
        return drive(driver, view=view, say=log.info, hurry=hurry, mirror_patience_s=0.0)

    return _result(driver, InThread(work, driver, say=log.info, hurry=hurry).run(shown))


def _check_kind(loaded: Loaded, study: bool) -> None:
    """Refuses a file that needs the other flow."""
    if (loaded.spec.study is not None) is not study:
        raise ConfigError(
            "the file has no study" if study else "the file is a study",
            file=loaded.file.name,
            field="study",
            allowed="a study" if study else "an experiment of one trial",
            hint=f"start a deployment of the flow `{'experiment' if study else 'study'}`",
        )


def _tag(driver: Driver) -> None:
    """Gives the flow run of a deployment the same tags as the flow run of a command."""
    from prefect.client.orchestration import get_client

    all_tags = sorted({*(flow_run.tags or []), *tags_of(driver)})
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(str(flow_run.id)), tags=all_tags)
    except Exception as error:  # missing tags must not end the work
        get_run_logger().debug("the tags of the flow run could not be set: %s", error)


def _result(driver: Driver, outcome: Outcome) -> FlowResult:
    """Shows the result in Prefect, and returns or raises what the session ended with.

    Raises:
        DrillyardError: The session failed.
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


def _finished(driver: Driver) -> JsonObject:
    """Returns the result of a flow run that had nothing to do and rented nothing."""
    from drillyard.report.stages import built

    get_run_logger().info("nothing to do: every run is finished")
    report = built(driver.mailbox, get_run_logger().warning)
    _shown(driver, report)
    return {**_place(driver), "runs": _references(driver), "report": report}


def _place(driver: Driver) -> dict[str, str]:
    return {"store": driver.mailbox.store.url, "experiment": driver.mailbox.experiment}


def _references(driver: Driver) -> JsonObject:
    """Returns run -> its last accepted result; for a study, trial -> its outcome."""
    if driver.study is not None:
        outcomes = driver.study.outcomes.items()
        return {
            trial_id(n): {"status": o.status.value, "values": {**o.values}} for n, o in outcomes
        }
    references: JsonObject = {}
    tickets = driver.states().values()
    for state in sorted(tickets, key=lambda s: PHASES.index(s.ticket.phase)):
        accepted = driver.mailbox.accepted(state.ticket.run, state.ticket.phase)
        if accepted is not None:
            references[accepted.run] = reference(accepted)
    return references


def _shown(driver: Driver, report: str | None) -> str:
    """Shows the results; returns them in one sentence."""
    verdict = artifacts.publish(driver, report)
    if verdict:
        get_run_logger().info(verdict)
    if report:
        get_run_logger().info("report: %s", report)
    return verdict
