"""``drillyard status``: shows the current state of every run of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillyard.mailbox import Mailbox
    from drillyard.mailbox.records import Cancel, DriverRecord, StudyState, WorkerRecord
    from drillyard.results import ExperimentResults, RunResult
    from drillyard.system.tables import Grid
    from drillyard.tracking.behind import Lacking

MOST_WORKERS = 8
"""Workers whose use is shown."""
STALE_S = 15.0
"""An older heartbeat is a warning. Only the driver decides whether a worker is dead."""
OF_RUN = (
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
"""Fields of a run in the JSON document."""


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
    from drillyard.system.terminal import print_grid

    print_grid(grid(results))
    for line in remarks(results, around):
        typer.echo(line)


@dataclass(frozen=True)
class Surroundings:
    """What works on an experiment.

    Attributes:
        study: Its progress.
        driver: Its driver.
        driver_age_s: Age of the driver's heartbeat.
        workers: Its workers, each with the age of its heartbeat.
        cancelled: A request to stop.
        lacking: What trackers lack.
    """

    study: StudyState | None
    driver: DriverRecord | None
    driver_age_s: float | None
    workers: tuple[tuple[WorkerRecord, float | None], ...]
    cancelled: Cancel | None
    lacking: tuple[Lacking, ...]

    @property
    def drives(self) -> bool:
        """Whether the driver sends heartbeats."""
        return self.driver_age_s is not None and self.driver_age_s <= STALE_S

    def as_dict(self, experiment: str) -> dict[str, object]:
        """It as JSON."""
        driver, cancel, lacking = self.driver, self.cancelled, self.lacking
        fields = {"worker", "state", "host", "message", "usage", "warnings"}
        return {
            "study": self.study and self.study.model_dump(mode="json"),
            "driver": driver
            and {"host": driver.host, "pid": driver.pid, "heartbeat_age_s": self.driver_age_s},
            "workers": [
                {**worker.model_dump(include=fields), "heartbeat_age_s": age}
                for worker, age in self.workers
            ],
            "cancelled": cancel and {"reason": cancel.reason, "by": cancel.by},
            "tracking": {
                "uri": lacking[0].uri,
                "runs": [*lacking[0].runs],
                "message": "\n".join(entry.sentence(experiment) for entry in lacking),
            }
            if lacking
            else None,
        }


def surroundings(mailbox: Mailbox) -> Surroundings:
    """Returns the driver, the workers, the study, and whether a stop was requested."""
    from drillyard.mailbox.driver_lock import process_alive
    from drillyard.tracking import behind

    drivers = [
        d for d in mailbox.drivers() if d.ended_at is None and process_alive(d) is not False
    ]
    driver = drivers[-1] if drivers else None
    around = Surroundings(
        study=mailbox.study_state(),
        driver=driver,
        driver_age_s=mailbox.age(f"driver/{driver.number}.json") if driver else None,
        workers=tuple((w, mailbox.age(f"workers/{w.worker}.json")) for w in mailbox.workers()),
        cancelled=mailbox.cancelled(),
        lacking=(),
    )
    if around.drives:
        return around  # its mirror is a few seconds behind anyway
    records = (behind.lacking(mailbox, place) for place in behind.targets(mailbox))
    return replace(around, lacking=tuple(filter(None, records)))


def as_dict(results: ExperimentResults, around: Surroundings) -> dict[str, object]:
    """Returns the status as JSON."""
    return {
        "schema_version": 1,
        "experiment": results.name,
        "status": results.status,
        "store": results.store,
        "runs": [{k: run[k] for k in OF_RUN} for run in results.to_dict()["runs"]],
        **around.as_dict(results.name),
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
    table.number("return", lambda r: formatting.number(_latest_return(r)))
    table.number("time left", lambda r: formatting.duration(worth_showing(r.eta_s)))
    table.number("heartbeat", lambda r: ago(r.heartbeat_age_s))
    return table.number("attempts", lambda r: r.attempts)


def _latest_return(run: RunResult) -> float | None:
    """Returns the final evaluation, or else the latest training episodes."""
    return run.episode_return if run.mean_return is None else run.mean_return


def usage_lines(around: Surroundings) -> list[str]:
    """Returns what the machines at work use, and what is wrong with it."""
    from drillyard.system.utilisation import in_words

    alive = [
        (f"worker {w.worker} on {w.host}", w)
        for w, age in around.workers
        if w.state == "ready" and age is not None and age <= STALE_S
    ]
    used = [f"{where}: {words}" for where, w in alive if (words := in_words(w.usage))]
    lines = used[:MOST_WORKERS]
    if len(used) > MOST_WORKERS:
        lines.append(f"and {len(used) - MOST_WORKERS} more workers: see --json")
    return lines + [f"warning: {where}: {text}" for where, w in alive for text in w.warnings]


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


def _run_remarks(
    run: RunResult, results: ExperimentResults, around: Surroundings
) -> Iterator[str]:
    from drillyard.results import formatting

    if run.message and run.status not in ("RUNNING", "SUCCEEDED"):
        yield f"{run.run}: {run.message}"
        if run.hint:
            yield f"  fix: {run.hint}"
    if run.heartbeat_age_s is not None and run.heartbeat_age_s > STALE_S:
        continued = (
            "The driver continues it as soon as its machine is known to have ended it"
            if around.drives
            else f"`drillyard resume {results.name}` checks and continues"
        )
        yield (
            f"{run.run}: no heartbeat for {formatting.duration(run.heartbeat_age_s)}; its worker "
            f"may be dead. {continued}"
        )


def remarks(results: ExperimentResults, around: Surroundings) -> list[str]:
    """Returns what the table cannot show: failures, silent workers, a missing driver."""
    lines = [line for run in results.runs for line in _run_remarks(run, results, around)]
    for worker, _ in around.workers:
        if worker.state in ("starting", "failed") and worker.message:
            lines.append(f"worker {worker.worker} on {worker.host}: {worker.message}")
    lines += usage_lines(around)
    lines += study_lines(around.study)
    if around.cancelled:
        lines.append(f"stop requested by {around.cancelled.by}: {around.cancelled.reason}")
    lines += [entry.sentence(results.name) for entry in around.lacking]
    if around.driver is not None and around.drives:
        lines.append(f"driver: process {around.driver.pid} on {around.driver.host}")
    if results.report:
        lines.append(f"report: {results.store}/{results.report}")
    lines += list(results.warnings)
    return lines
