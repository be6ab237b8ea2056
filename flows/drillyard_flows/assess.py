"""The flow ``assess``: plays a policy or a baseline from given initial conditions in parallel.

``drillyard assess`` does the same without Prefect.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact

from drillyard.documents.json_types import JsonObject
from drillyard.evaluation.assessment import Assessed, Request, play, summary
from drillyard.evaluation.request import asked
from drillyard.report.assessment import check_unused, write
from drillyard_flows import plain_errors

MOST_ROWS = 500
"""The most rows of the table, which Prefect stores in its database."""


@task(name="assess", task_run_name="conditions from {request.first}", retries=0)
def part(request: Request) -> list[Assessed]:
    """Plays some of the conditions in a separate process, because simulators need their own."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(play, request).result()


@flow(name="assess", flow_run_name="assess {what}", retries=0)
def assess(
    what: str = "experiments/cstr.yaml",
    conditions: str = "experiments/conditions.csv",
    policy: str = "p-controller",
    which: str = "best",
    success: str = "",
    max_steps: int | None = None,
    workers: int = 2,
    seed: int = 1,
    out: str | None = None,
    store: str | None = None,
) -> JsonObject:
    """Plays an episode from each condition.

    Args:
        what: A trained experiment or run, or an experiment file for a baseline.
        conditions: A CSV, JSON or YAML file: a list of reset values.
        policy: ``agent``, or a baseline.
        which: ``best`` or ``final`` policy of the agent.
        success: An expression of final states, ``episode_return``, ``length``, ``terminated``,
            ``truncated``.
        max_steps: Longest episode in steps; None: the simulator's own limit.
        workers: Number of parallel tasks.
        seed: Seed of the first episode.
        out: Folder for the CSV files; None: no files.
        store: URL of the store that has the run.

    Returns:
        Means over all conditions. The table artifact has one row for each condition.

    Raises:
        UserError: The request cannot work.
        RunFailed: A value is not finite.
    """
    plain_errors.install()
    if out:
        check_unused(Path(out), "out")
    request = asked(
        what,
        Path(conditions),
        policy=policy,
        which=which,
        max_steps=max_steps,
        success=success,
        seed=seed,
        store=store,
    )
    episodes = [e for played in part.map(request.parts(workers)).result() for e in played]
    create_table_artifact(
        key="drillyard-assessment",
        table=[episode.row for episode in episodes[:MOST_ROWS]],
        description=f"{request.baseline or 'agent'} on {request.simulator['id']}: return and "
        "final state by initial condition",
    )
    if out:
        write(request, episodes, Path(out), "out")
    return {**summary(episodes)}
