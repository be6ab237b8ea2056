"""The summary that ``drillyard run`` prints: results, report and outcome."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from drillyard.mailbox import Mailbox
from drillyard.results import collect
from drillyard.results.trials import is_study
from drillyard.system.durations import duration

if TYPE_CHECKING:
    from collections.abc import Callable


def build_report(mailbox: Mailbox, say: Callable[[str], object]) -> str | None:
    """Builds the report. A failure is reported and not raised."""
    try:
        from drillyard.report import build

        return str(build(mailbox).index)
    except Exception as error:
        say(f"the report could not be built: {error}")
        return None


def show(mailbox: Mailbox, report: str | None, *, as_json: bool, wall_s: float) -> None:
    """Prints the table of results.

    Args:
        mailbox: The experiment.
        report: Location of the report.
        as_json: Print one JSON document instead.
        wall_s: Duration of this command in seconds.
    """
    if is_study(mailbox.experiment_record()):
        _show_study(mailbox, report, as_json=as_json, wall_s=wall_s)
        return
    results = collect(mailbox, curves=False)
    if as_json:
        document = {**results.to_dict(), "report": report, "wall_s": round(wall_s, 3)}
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    from drillyard.results.table import print_results

    print_results(results)
    _last_lines(report, wall_s)


def _show_study(mailbox: Mailbox, report: str | None, *, as_json: bool, wall_s: float) -> None:
    """Prints the best trials and the verdict; there may be thousands of runs."""
    from drillyard.results.study_table import print_study
    from drillyard.results.trials import collect_trials

    study = collect_trials(mailbox)
    if as_json:
        document = {**study.to_json(), "report": report, "wall_s": round(wall_s, 3)}
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    print_study(study)
    typer.echo("")
    _last_lines(report, wall_s)


def _last_lines(report: str | None, wall_s: float) -> None:
    typer.echo(f"wall time: {duration(wall_s)}")
    if report:
        typer.echo(f"report:    {report}")
