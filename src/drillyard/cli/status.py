"""``drillyard status``: shows the current state of every run of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption, print_json

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox
    from drillyard.mailbox.records import DriverRecord, StudyState
    from drillyard.results import ExperimentResults, RunResult
    from drillyard.system.tables import Grid

MOST_WORKERS = 8
"""Workers whose use is shown."""
STALE_S = 15.0
"""An older heartbeat is a warning. Only the driver decides whether a worker is dead."""


def status(
    name: NameArgument = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Show each run's phase, steps, speed, return, time left and heartbeat."""
    from drillyard.cli.output import show_stages
    from drillyard.results import collect
    from drillyard.runs.locate import open_mailbox
    from drillyard.spec.stages import staged_tree

    mailbox = open_mailbox(name, store)
    if staged_tree(mailbox.experiment_record().spec):
        show_stages(mailbox, as_json=as_json)
        return
    results = collect(mailbox, curves=False)
    around = surroundings(mailbox)
    if as_json:
        print_json(as_dict(results, around))
        return
    from drillyard.cli.output import print_grid

    print_grid(grid(results))
    for line in remarks(results, around):
        typer.echo(line)


class DriverRow(TypedDict):
    """The driver of an experiment."""

    host: str
    pid: int
    heartbeat_age_s: float | None


class WorkerRow(TypedDict):
    """A worker of an experiment."""

    worker: str
    state: str
    host: str
    message: str | None
    heartbeat_age_s: float | None
    usage: dict[str, float]
    """Last sample of its machine, under MLflow's names."""
    warnings: list[str]


class StopRow(TypedDict):
    """A request to stop."""

    reason: str
    by: str


class TrackingRow(TypedDict):
    """What the tracking server lacks."""

    uri: str
    runs: list[str]
    message: str


class Surroundings(TypedDict):
    """What works on an experiment."""

    study: StudyState | None
    driver: DriverRow | None
    workers: list[WorkerRow]
    cancelled: StopRow | None
    tracking: TrackingRow | None


def surroundings(mailbox: Mailbox) -> Surroundings:
    """Returns the driver, the workers, the study, and whether a stop was requested."""
    from drillyard.mailbox.driver_lock import process_alive

    drivers = [
        d for d in mailbox.drivers() if d.ended_at is None and process_alive(d) is not False
    ]
    driver = drivers[-1] if drivers else None
    cancel = mailbox.cancelled()
    workers = mailbox.workers()
    return {
        "study": mailbox.study_state(),
        "driver": None
        if driver is None
        else {
            "host": driver.host,
            "pid": driver.pid,
            "heartbeat_age_s": mailbox.age(f"driver/{driver.number}.json"),
        },
        "workers": [
            {
                "worker": w.worker,
                "state": w.state,
                "host": w.host,
                "message": w.message,
                "heartbeat_age_s": mailbox.age(f"workers/{w.worker}.json"),
                "usage": w.usage,
                "warnings": w.warnings,
            }
            for w in workers
        ],
        "cancelled": None if cancel is None else {"reason": cancel.reason, "by": cancel.by},
        "tracking": None if _lives(driver, mailbox) else _lacking(mailbox),
    }


def _lives(driver: DriverRecord | None, mailbox: Mailbox) -> bool:
    age = None if driver is None else mailbox.age(f"driver/{driver.number}.json")
    return age is not None and age <= STALE_S


def _lacking(mailbox: Mailbox) -> TrackingRow | None:
    """What trackers lack; while a driver lives, its mirror is a few seconds behind anyway."""
    from drillyard.tracking import behind

    found = [one for place in behind.targets(mailbox) if (one := behind.lacking(mailbox, place))]
    if not found:
        return None
    return {
        "uri": found[0].uri,
        "runs": [*found[0].runs],
        "message": "\n".join(one.sentence(mailbox.experiment) for one in found),
    }


def as_dict(results: ExperimentResults, around: Surroundings) -> dict[str, object]:
    """Returns the status as JSON."""
    whole, study = results.to_dict(), around["study"]
    kept = (
        "run",
        "trial",
        "seed",
        "status",
        "phase",
        "step",
        "total",
        "episodes",
        "episode_return",
        "steps_per_s",
        "eta_s",
        "wall_s",
        "heartbeat_age_s",
        "worker",
        "attempts",
        "resumes",
        "mean_return",
        "message",
        "hint",
    )
    return {
        "schema_version": 1,
        "experiment": results.name,
        "status": results.status,
        "store": results.store,
        "runs": [{k: run[k] for k in kept} for run in whole["runs"]],
        **around,
        "study": None if study is None else study.model_dump(mode="json"),
        "report": results.report,
        "warnings": list(results.warnings),
    }


def grid(results: ExperimentResults) -> Grid:
    """Returns a table with one row for each run."""
    from drillyard.results import formatting
    from drillyard.results.table import steps
    from drillyard.results.time_left import worth_showing
    from drillyard.system.durations import ago
    from drillyard.system.tables import Table

    title = f"{results.name}: {results.status}, {formatting.learner(results)}"
    table = Table(title, results.runs)
    table.text("run", lambda r: r.run)
    table.text("status", lambda r: r.status)
    table.text("phase", lambda r: r.phase)
    table.number("steps", steps)
    table.number("steps/s", lambda r: formatting.count(r.steps_per_s))
    table.number("return", lambda r: formatting.number(_shown_return(r)))
    table.number("time left", lambda r: formatting.duration(worth_showing(r.eta_s)))
    table.number("heartbeat", lambda r: ago(r.heartbeat_age_s))
    return table.number("attempts", lambda r: r.attempts)


def _shown_return(run: RunResult) -> float | None:
    """Returns the final evaluation, or else the latest training episodes."""
    return run.mean_return if run.mean_return is not None else run.episode_return


def usage_lines(workers: list[WorkerRow]) -> list[str]:
    """Returns what the machines at work use, and what is wrong with it."""
    from drillyard.system.utilisation import in_words

    alive = [
        worker
        for worker in workers
        if worker["state"] == "ready"
        and worker["heartbeat_age_s"] is not None
        and worker["heartbeat_age_s"] <= STALE_S
    ]
    shown = [(w, words) for w in alive if (words := in_words(w["usage"]))]
    lines = [f"worker {w['worker']} on {w['host']}: {words}" for w, words in shown[:MOST_WORKERS]]
    if len(shown) > MOST_WORKERS:
        lines.append(f"and {len(shown) - MOST_WORKERS} more workers: see --json")
    for worker in alive:
        where = f"worker {worker['worker']} on {worker['host']}"
        lines += [f"warning: {where}: {text}" for text in worker["warnings"]]
    return lines


def study_lines(study: StudyState | None) -> list[str]:
    """Returns lines on the progress of a study, its budgets, and why it stopped."""
    if study is None:
        return []
    counted = {"succeeded": study.succeeded, "pruned": study.pruned, "failed": study.failed}
    counts = ", ".join(f"{n} {k}" for k, n in counted.items() if n)
    lines = [f"study: {study.chosen} trials chosen" + (f", {counts}" if counts else "")]
    if study.best is not None:
        values = ", ".join(f"{k} {v:.6g}" for k, v in study.best_values.items())
        again = f", repeated as t{study.confirmed:04d}" if study.confirmed else ""
        lines.append(f"best: t{study.best:04d}, {values}{again}")
    if study.front:
        lines.append("front: " + ", ".join(f"t{n:04d}" for n in study.front))
    used = ", ".join(
        f"{name} {b['used']:.4g} of {b['limit']:g}" for name, b in study.budgets.items()
    )
    lines.append(f"budgets: {used}")
    if study.seeds_rule:
        lines.append(f"seeds: {study.seeds_rule}")
    if study.stopped:
        lines.append(f"no more trials: {study.stopped}")
    return lines


def remarks(results: ExperimentResults, around: Surroundings) -> list[str]:
    """Returns what the table cannot show: failures, silent workers, a missing driver."""
    from drillyard.results import formatting

    lines = []
    driver = around["driver"]
    age = None if driver is None else driver["heartbeat_age_s"]
    drives = age is not None and age <= STALE_S
    for run in results.runs:
        if run.message and run.status not in ("RUNNING", "SUCCEEDED"):
            lines.append(f"{run.run}: {run.message}")
            if run.hint:
                lines.append(f"  fix: {run.hint}")
        if run.heartbeat_age_s is not None and run.heartbeat_age_s > STALE_S:
            next_ = (
                "The driver continues it as soon as its machine is known to have ended it"
                if drives
                else f"`drillyard resume {results.name}` checks and continues"
            )
            lines.append(
                f"{run.run}: no heartbeat for {formatting.duration(run.heartbeat_age_s)}; its "
                f"worker may be dead. {next_}"
            )
    for worker in around["workers"]:
        if worker["state"] in ("starting", "failed") and worker["message"]:
            lines.append(f"worker {worker['worker']} on {worker['host']}: {worker['message']}")
    lines += usage_lines(around["workers"])
    lines += study_lines(around["study"])
    if around["cancelled"]:
        lines.append(
            f"stop requested by {around['cancelled']['by']}: {around['cancelled']['reason']}"
        )
    if around["tracking"]:
        lines.append(around["tracking"]["message"])
    if driver is not None and drives:
        lines.append(f"driver: process {driver['pid']} on {driver['host']}")
    if results.report:
        lines.append(f"report: {results.store}/{results.report}")
    lines += list(results.warnings)
    return lines
