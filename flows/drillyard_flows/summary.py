"""The summary that ``drillyard run`` prints: results, report and outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import typer

from drillyard.mailbox import Mailbox
from drillyard.results import collect, stages
from drillyard.results.study_table import print_study
from drillyard.results.table import print_results
from drillyard.results.trials import collect_trials, is_study
from drillyard.spec.stages import staged_tree
from drillyard.system.durations import duration
from drillyard.system.terminal import print_grid


def show(mailbox: Mailbox, report: str | None, *, as_json: bool, wall_s: float) -> None:
    """Prints the tables of results: of a study the best trials, of a composite the stages.

    Args:
        mailbox: The experiment.
        report: Location of the report.
        as_json: Print one JSON document instead.
        wall_s: Duration of this command in seconds.
    """
    record = mailbox.experiment_record()
    document: Callable[[], Mapping[str, Any]]
    if staged_tree(record.spec):
        whole = stages.read(mailbox)
        document = partial(stages.as_dict, whole)
        tables = partial(print_grid, stages.grid(whole))
    elif is_study(record):
        study = collect_trials(mailbox)
        document, tables = study.to_json, partial(print_study, study)
    else:
        results = collect(mailbox, curves=False)
        document, tables = results.to_dict, partial(print_results, results)
    if as_json:
        more = {"report": report, "wall_s": round(wall_s, 3)}
        typer.echo(json.dumps({**document(), **more}, ensure_ascii=False))
        return
    tables()
    typer.echo(f"\nwall time: {duration(wall_s)}")
    if report:
        typer.echo(f"report:    {report}")
