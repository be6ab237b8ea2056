"""The last words of ``drillyard run``: results, report, and how it ended."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from drillyard.driver.driver import Driver
from drillyard.driver.outcome import failures
from drillyard.driver.outcome import stopped as stopped_text
from drillyard.errors import (
    ControlPlaneError,
    DrillyardError,
    Stopped,
    Superseded,
    TeardownUnconfirmed,
)
from drillyard.mailbox import Mailbox
from drillyard.mailbox.command_hints import command
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.results import collect
from drillyard.results.trials import is_study


def build_report(mailbox: Mailbox, say: Any) -> str | None:
    """Build the report; what fails is said, and fails nothing."""
    try:
        from drillyard.report import build

        return str(build(mailbox).index)
    except Exception as error:
        say(f"the report could not be built: {error}")
        return None


def show(mailbox: Mailbox, report: str | None, *, as_json: bool, wall_s: float) -> None:
    """Print the table of results.

    Args:
        mailbox: The experiment.
        report: Where the report is.
        as_json: One JSON document instead.
        wall_s: Time of this command.
    """
    if is_study(mailbox.experiment_record()):
        _show_study(mailbox, report, as_json=as_json, wall_s=wall_s)
        return
    results = collect(mailbox, curves=False)
    if as_json:
        document = {**results.to_dict(), "report": report, "wall_s": round(wall_s, 3)}
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    from rich.console import Console

    from drillyard.results import table

    if sys.stdout.isatty():
        console = Console()
        for grid in table.score_grids(results):
            console.print(table.rich_table(grid, console.width))
        console.print(table.runs_table(results))
    else:
        for grid in table.score_grids(results):
            typer.echo(table.plain_table(grid))
            typer.echo("")
        typer.echo(table.plain_table(table.runs_grid(results)))
    _last_lines(report, wall_s)


def _show_study(mailbox: Mailbox, report: str | None, *, as_json: bool, wall_s: float) -> None:
    """The best trials and the answer; never every run: there may be thousands."""
    from drillyard.cli.output import print_study
    from drillyard.results.trials import collect_trials

    study = collect_trials(mailbox)
    if as_json:
        document = {**study.to_json(), "report": report, "wall_s": round(wall_s, 3)}
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    print_study(study)
    _last_lines(report, wall_s)


def _last_lines(report: str | None, wall_s: float) -> None:
    typer.echo("")
    typer.echo(f"wall time: {wall_s:.1f} s")
    if report:
        typer.echo(f"report:    {report}")


def verdict(
    driver: Driver, machinery: DrillyardError | None, *, stopped: bool
) -> DrillyardError | None:
    """How the experiment ended, as the error that sets the exit code; None: done.

    Args:
        driver: Whose experiment it is; the mailbox is read anew.
        machinery: What went wrong outside the runs.
        stopped: A signal was heard.
    """
    mailbox, name = driver.mailbox, driver.mailbox.experiment
    if driver.study is not None:
        return _study_verdict(driver, machinery)
    wanted = driver.states()
    states = {t: s for t, s in ticket_states(mailbox).items() if t in wanted}
    ended = {state.status for state in states.values()}
    again = f"{command('resume', mailbox)} goes on from the last checkpoints"
    if ended <= {Status.SUCCEEDED, Status.PRUNED}:
        return machinery
    if isinstance(machinery, TeardownUnconfirmed | Superseded):
        return machinery
    failed = failures(mailbox, states)
    if failed is not None:
        return failed
    order = mailbox.cancelled()
    if order is not None and (stopped or machinery is None or isinstance(machinery, Stopped)):
        return Stopped(stopped_text(mailbox, order.reason), hint=again)
    if machinery is not None:
        return machinery
    left = sum(not s.status.ended for s in states.values())
    return ControlPlaneError(
        f"{name} is not decided: {left} tickets are open", hint=f"machines go on; {again}"
    )


def _study_verdict(driver: Driver, machinery: DrillyardError | None) -> DrillyardError | None:
    """How a study ended: a failed trial is no failure of the study."""
    assert driver.study is not None
    mailbox = driver.mailbox
    again = f"{command('resume', mailbox)} goes on"
    if isinstance(machinery, TeardownUnconfirmed | Superseded):
        return machinery
    judged = driver.study.verdict()
    if judged is not None:
        return judged
    order = mailbox.cancelled()
    if order is not None and (machinery is None or isinstance(machinery, Stopped)):
        return Stopped(stopped_text(mailbox, order.reason), hint=again)
    if machinery is not None or driver.study.over:
        return machinery
    return ControlPlaneError(
        f"{mailbox.experiment} is not decided: its study is not over", hint=again
    )
