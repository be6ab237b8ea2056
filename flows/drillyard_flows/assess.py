"""The flow ``assess``: a policy or a baseline from given initial conditions, in parallel tasks.

``drillyard assess`` is the same without Prefect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact

from drillyard.errors import UserError
from drillyard.evaluation.assessment import FILES, Assessed, Request, play, summary
from drillyard.evaluation.request import asked
from drillyard.report.assessment import texts
from drillyard_flows import plain_errors

MOST_ROWS = 500
"""Of the table; it is kept in Prefect's database."""


@task(name="assess", task_run_name="conditions from {request.first}", retries=0)
def part(request: Request) -> list[Assessed]:
    """Play some of the conditions, in a process of their own: simulators share no interpreter."""
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
) -> dict[str, Any]:
    """Play an episode from each condition.

    Args:
        what: An experiment or a run that was trained, or an experiment file for a baseline.
        conditions: A CSV, JSON or YAML file: a list of reset values.
        policy: ``agent``, or a baseline.
        which: ``best`` or ``final`` policy of the agent.
        success: An expression of final states, ``episode_return``, ``length``, ``terminated``,
            ``truncated``.
        max_steps: Longest episode; None for the simulator's own.
        workers: Tasks side by side.
        seed: Of the first episode.
        out: A folder for the CSV files; None for none.
        store: URL of the store that has the run.

    Returns:
        Means over all conditions; the table artifact has a row a condition.

    Raises:
        UserError: Something that was asked for cannot work.
        RunFailed: Something is not finite.
    """
    plain_errors.install()
    there = [Path(out) / name for name in FILES if out and (Path(out) / name).exists()]
    if there:
        raise UserError(
            f"{there[0]} is there already; nothing was played", hint="choose another folder"
        )
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
    found = [one for played in part.map(request.parts(workers)).result() for one in played]
    create_table_artifact(
        key="drillyard-assessment",
        table=[one.row for one in found[:MOST_ROWS]],
        description=f"{request.baseline or 'agent'} on {request.simulator['id']}: return and "
        "final state by initial condition",
    )
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
        for name, text in texts(request, found).items():
            (Path(out) / name).write_text(text, encoding="utf-8")
    return summary(found)
