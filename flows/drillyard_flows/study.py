"""The flow ``study``: trials, and the phases of their runs, as task runs.

The driver chooses and judges the trials; this flow shows them. A trial is a task run, because a
subflow would cost a second each.
"""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from drillyard_flows import form, hooks
from drillyard_flows.experiment import THREADS, driven, run_name
from drillyard_tasks.common import FlowResult


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
    more: list[str] = form.MORE,
) -> FlowResult:
    """Chooses, runs and judges the trials of a study file.

    Its parameters are the fields of the form; see ``form``.

    Returns:
        ``{"experiment", "store", "runs": {trial: its outcome}, "report"}``.

    Raises:
        RunFailed: Too many trials failed.
    """
    request = form.request_of(locals(), flow_run.scheduled_start_time, flow_run.tags)
    return driven(request, study=True, more=more)
