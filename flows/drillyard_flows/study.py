"""The flow ``study``: provision and setup once, a task run a trial, teardown once.

The driver's own thread chooses the trials and judges them; this flow shows them as they come. A
trial is a task run, not a subflow, which would cost a second each. Limits of Prefect on the tag
``trial`` limit how many are shown at once; how many run is said by ``resources.workers``.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from drillyard.driver.driver import Driver
from drillyard.driver.outcome import stopped
from drillyard.errors import Bug, DrillyardError, Stopped
from drillyard.mailbox.mailbox import trial_id
from drillyard_flows import form, hooks
from drillyard_flows.experiment import THREADS, driven, run_name
from drillyard_tasks.trial import trial

FOLLOW_S = 1.0


@flow(
    name="study",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=THREADS),  # type: ignore[arg-type]
    on_failure=[hooks.tear_down],
    on_crashed=[hooks.tear_down],
    on_cancellation=[hooks.stop_and_tear_down],
    retries=0,
)
def study(
    file: str = form.STUDY_FILE,
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
    """Choose, run and judge the trials of a study file.

    Its parameters are the fields of the form, described in ``form``.

    Returns:
        ``{"experiment", "store", "runs": {trial: its outcome}, "report"}``.

    Raises:
        RunFailed: Too many trials failed.
    """
    return driven(form.asked(locals()), _trials, study=True)


def _trials(driver: Driver, where: dict[str, str]) -> tuple[dict[str, Any], DrillyardError | None]:
    """Show every trial as a task run, until there will be no more.

    Raises:
        Stopped: On request.
        DrillyardError: The study's loop cannot go on.
    """
    search = driver.study
    if search is None:
        raise Bug("the flow `study` was given an experiment without one")
    futures: list[PrefectFuture[Any]] = []
    seen = 0
    while True:
        found = search.follow(seen, FOLLOW_S)
        for record in found:
            if record.number not in search.earlier:
                futures.append(trial.submit(
                    **where, trial=record.number, label=record.label,
                    task_name=trial_id(record.number),
                ))  # fmt: skip
        seen += len(found)
        if not found and search.over:
            break
    for future in futures:
        future.wait()
    if search.error is not None:
        raise search.error
    order = driver.mailbox.cancelled()
    if order is not None:
        raise Stopped(stopped(driver.mailbox, order.reason))
    _say(driver)
    outcomes = search.outcomes
    references = {
        trial_id(n): {"status": o.status.value, "values": o.values} for n, o in outcomes.items()
    }
    return references, search.verdict()


def _say(driver: Driver) -> None:
    state = driver.mailbox.study_state()
    if state is not None and state.best is not None:
        get_run_logger().info("best: %s, %s", trial_id(state.best), state.best_values)
