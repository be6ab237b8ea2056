"""The flow ``experiment``: the six phases of one experiment as Prefect tasks.

Prefect shows and schedules; the mailbox decides. Every result that this flow relies on is an
accepted manifest, and whoever runs the flow asks the mailbox, not Prefect, how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from drillyard.driver.driver import Driver
from drillyard.errors import (
    ConfigError,
    CorruptObject,
    DrillyardError,
    ExperimentFailed,
    InfrastructureError,
    RunFailed,
    Stopped,
    TeardownUnconfirmed,
    UserError,
    WorkerLost,
)
from drillyard.leases.budget import longest_s
from drillyard.mailbox.records import PHASES, Phase, TicketRecord
from drillyard.spec.load import Loaded
from drillyard.tracking import Mirror, resolve_uri
from drillyard_flows import artifacts, form, hooks, limits, plain_errors
from drillyard_flows.aftermath import Aftermath
from drillyard_flows.attached import find
from drillyard_flows.events import Watch, finished
from drillyard_flows.opening import Request, checked, opened
from drillyard_tasks.common import reference
from drillyard_tasks.evaluate import evaluate
from drillyard_tasks.provision import provision
from drillyard_tasks.setup import setup
from drillyard_tasks.store import store as store_results
from drillyard_tasks.teardown import teardown
from drillyard_tasks.train import train

SETUP_TIMEOUT_S = 1800.0
MIRROR_PATIENCE_S = 20.0
THREADS = 96
"""Threads that only wait. Tickets are watched by one thread of the driver, whatever this is."""

DECIDED = (UserError, ExperimentFailed, Stopped, WorkerLost, CorruptObject)
"""What decides a run. Anything else happened to the control plane."""

_TASKS: dict[Phase, Any] = {
    Phase.TRAIN: train,
    Phase.EVALUATE: evaluate,
    Phase.STORE: store_results,
}


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
    return driven(form.asked(locals()), _work, study=False)


Work = Callable[[Driver, dict[str, str]], tuple[dict[str, Any], DrillyardError | None]]
"""What stands between setup and teardown: driver, where -> results, and why some are missing."""


def driven(request: Request, work: Work, *, study: bool) -> dict[str, Any] | State[Any]:
    """The body of a flow: drive an experiment, or do the flow's part for the driver of a command.

    Args:
        request: What was asked for.
        work: The tasks between setup and teardown.
        study: Whether the file must have a ``study:``, or must have none.

    Raises:
        DrillyardError: How it ended, when not well.
    """
    plain_errors.install()
    driver = find(request.store or "", request.name or "")
    own = driver is None
    if driver is None:
        loaded = checked(request)
        _fits(loaded, study)
        driver, todo = opened(loaded, request)
        if not todo:
            return _finished(driver)
    outcome = "undecided"
    mirror: Mirror | None = None
    try:
        if own:
            mirror = _mirror(driver)
            _tag(driver)
        # Tasks take no tags from the flow run: see ``tags_of``.
        with limits.slots(driver), Watch(driver), TagsContext():
            result = _phases(driver, work, mirror)
        outcome = "succeeded"
        return result
    except Stopped as error:
        outcome = "cancelled"
        return Cancelled(message=error.message)
    except DECIDED as error:
        outcome = type(error).__name__
        raise
    finally:
        if own:
            driver.close(outcome)
        if mirror is not None and outcome == "cancelled":
            mirror.leave()
        elif mirror is not None and (told := mirror.finish(MIRROR_PATIENCE_S).registered):
            get_run_logger().info(told)


def _fits(loaded: Loaded, study: bool) -> None:
    """Refuse a file that the other flow is for."""
    if (loaded.spec.study is not None) is not study:
        raise ConfigError(
            "the file has no study" if study else "the file is a study", file=loaded.file.name,
            field="study", allowed="a study" if study else "an experiment of one trial",
            hint=f"start a deployment of the flow `{'experiment' if study else 'study'}`",
        )  # fmt: skip


def _mirror(driver: Driver) -> Mirror:
    """Metrics go to MLflow from here too, where no command does it."""
    uri = resolve_uri(driver.loaded.spec.tracking.mlflow, driver.mailbox.store.url)
    mirror = Mirror(driver.mailbox, uri, on_warning=get_run_logger().warning)
    mirror.start()
    return mirror


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


def _tag(driver: Driver) -> None:
    """Give the flow run of a deployment the tags that one of a command is begun with."""
    from prefect.client.orchestration import get_client

    wanted = sorted({*(flow_run.tags or []), *tags_of(driver)})
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(str(flow_run.id)), tags=wanted)
    except Exception as error:  # a page without them must not end the work
        get_run_logger().debug("the flow run has no tags: %s", error)


def _phases(driver: Driver, work: Work, mirror: Mirror | None) -> dict[str, Any]:
    where = {"store": driver.mailbox.store.url, "experiment": driver.mailbox.experiment}
    decided = False
    failure: DrillyardError | None = None
    try:
        provision(**where)
        setup(**where, timeout_s=SETUP_TIMEOUT_S)
        Aftermath.of(driver).allowed = True
        references, failure = work(driver, where)
        if mirror is not None:
            mirror.ask()  # while machines are torn down, so that pages can link to MLflow's
        decided = True
    except DECIDED:
        decided = True
        raise
    except Exception:
        # Prefect's API or the store is away. That says nothing about the work: machines go on,
        # and whoever started this flow waits for the mailbox's answer.
        raise
    except BaseException:
        # The process is told to end (SIGTERM, cancelled in the UI): flush, then give back.
        driver.stop("the flow was told to end")
        decided = True
        raise
    finally:
        if decided:
            _tear_down(where)
    report, verdict = _shown(driver)
    if failure is not None:
        raise failure
    finished(driver, verdict, artifacts.address(driver, report) if report else None)
    return {**where, "runs": references, "report": report}


def _finished(driver: Driver) -> dict[str, Any]:
    """What a run of the flow returns that had nothing to do; nothing was rented."""
    get_run_logger().info("nothing to do: every run is finished")
    mailbox = driver.mailbox
    found: dict[str, Any] = {}
    for state in driver.states().values():
        accepted = mailbox.accepted(state.ticket.run, state.ticket.phase)
        if accepted is not None:
            found[accepted.run] = reference(accepted)
    return {"experiment": mailbox.experiment, "store": mailbox.store.url,
            "runs": found, "report": _shown(driver)[0]}  # fmt: skip


def _shown(driver: Driver) -> tuple[str | None, str]:
    """Show the results; returns where the report is, and the result in a sentence."""
    report, verdict = artifacts.publish(driver)
    if verdict:
        get_run_logger().info(verdict)
    if report:
        get_run_logger().info("report: %s", report)
    return report, verdict


def _tear_down(where: dict[str, str]) -> None:
    """As a task, so that it is seen; as a plain call where Prefect cannot be reached."""
    from drillyard.driver.active import current

    try:
        teardown(**where)
    except TeardownUnconfirmed:
        raise
    except Exception as error:
        get_run_logger().warning("teardown without Prefect: %s", error)
        current(**where).teardown()


def _work(driver: Driver, where: dict[str, str]) -> tuple[dict[str, Any], DrillyardError | None]:
    """Train, evaluate and store all runs, side by side.

    Returns:
        Run -> reference of its stored result, and why runs have none.

    Raises:
        Stopped: On request; nothing failed.
        InfrastructureError: The control plane failed before the mailbox decided.
    """
    futures: dict[str, dict[Phase, PrefectFuture[Any]]] = {}
    identity = driver.mailbox.experiment_record().identity
    names = {record.run: record.name for record in driver.mailbox.runs()}
    posted = _by_run([state.ticket for state in driver.states().values()])
    for run, tickets in posted.items():
        before: list[PrefectFuture[Any]] = []
        for phase in PHASES:
            if phase not in tickets:
                continue
            ticket = tickets[phase].ticket
            own_name = f"{phase.value} {names[run]}" if names.get(run) else None
            future = _TASKS[phase].with_options(
                task_run_name=own_name or _TASKS[phase].task_run_name,
                tags=tags_of(driver) if phase is Phase.TRAIN else None,
                # What the mailbox calls open is open, whatever Prefect remembers.
                refresh_cache=driver.mailbox.accepted(run, phase) is None,
            ).submit(
                **where, identity=identity, generation=driver.generation(ticket),
                run=run, ticket=ticket, timeout_s=longest_s(driver.spec, phase),
                wait_for=before,
            )  # fmt: skip
            futures.setdefault(run, {})[phase] = future
            before = [future]
    references: dict[str, Any] = {}
    failed: dict[str, BaseException] = {}
    stopped: Stopped | None = None
    for run, chain in futures.items():
        for phase, future in chain.items():
            future.wait()
            state = future.state
            if state.is_cancelled():
                stopped = Stopped(state.message or "stopped on request")
            elif state.is_completed():
                found = future.result()
                references[run] = _verified(driver, run, phase, found)
                continue
            elif not state.is_pending():  # pending: what it waits for has not succeeded
                error = _raised(future)
                failed.setdefault(run, error)
            break
    undecided = [e for e in failed.values() if not isinstance(e, DECIDED)]
    if undecided:
        raise undecided[0]
    if stopped is not None:
        raise stopped
    return references, _failure(failed, len(futures)) if failed else None


def _failure(failed: Mapping[str, BaseException], runs: int) -> DrillyardError:
    """All of them as one error, which is the experiment's fault unless no run's machine lived.

    Args:
        failed: Run -> why it has no result.
        runs: In all.
    """
    first = next(iter(failed.values()))
    text = f"{len(failed)} of {runs} runs failed: " + "; ".join(
        f"{run}: {error}" for run, error in failed.items()
    )
    lost = all(isinstance(error, WorkerLost) for error in failed.values())
    return (WorkerLost if lost else RunFailed)(text, hint=getattr(first, "hint", None))


def _raised(future: PrefectFuture[Any]) -> BaseException:
    try:
        future.result(raise_on_failure=True)
    except BaseException as error:
        return error
    return InfrastructureError(f"a task ended as {future.state.name}")


def _verified(driver: Driver, run: str, phase: Phase, found: dict[str, Any]) -> dict[str, Any]:
    """A task's reference against the mailbox: Prefect's cache is not believed.

    Raises:
        CorruptObject: The accepted manifest is not there, changed, or another one.
    """
    accepted = driver.mailbox.accepted(run, phase)
    if accepted is None or accepted.manifest_sha256 != found["manifest_sha256"]:
        raise CorruptObject(
            f"{run}: Prefect remembers a result of `{phase.value}` that the mailbox does not have",
            hint="run the same command again: what is missing is done again",
        )
    driver.mailbox.manifest(accepted)
    return found


def _by_run(tickets: list[TicketRecord]) -> dict[str, dict[Phase, TicketRecord]]:
    runs: dict[str, dict[Phase, TicketRecord]] = {}
    for ticket in tickets:
        runs.setdefault(ticket.run, {})[ticket.phase] = ticket
    return runs
