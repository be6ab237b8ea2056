"""``drillyard results``: prints results as a table, JSON, CSV or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox


def results(
    name: NameArgument = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write CSV to this file, or to the terminal (`-`): one line for each policy; "
            "with --top, for each run; for a study, for each seed.",
        ),
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option("--parquet", metavar="FILE", help="Write a study's seeds to a Parquet file."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, metavar="N", help="Show only the N best runs or trials."),
    ] = None,
) -> None:
    """Show agent and baselines with intervals, and every run; for a study, its best trials."""
    from drillyard.errors import misused
    from drillyard.results.trials import is_study
    from drillyard.runs.locate import open_mailbox
    from drillyard.spec.stages import staged_tree

    if as_json and csv is not None:
        raise misused("--json and --csv cannot be combined", hint="use one of them")
    mailbox = open_mailbox(name, store)
    if staged_tree(mailbox.experiment_record().spec):
        from drillyard.cli.output import show_stages

        show_stages(mailbox, as_json=as_json)
        return
    if is_study(mailbox.experiment_record()):
        _study(mailbox, top, as_json=as_json, csv=csv, parquet=parquet)
        return
    if parquet is not None:
        message = f"--parquet is for studies, and {mailbox.experiment!r} is a plain experiment"
        raise misused(message, hint="use --csv")
    _experiment(mailbox, top, as_json=as_json, csv=csv)


def _study(
    mailbox: Mailbox, top: int | None, *, as_json: bool, csv: Path | None, parquet: Path | None
) -> None:
    from drillyard.cli.common import print_json
    from drillyard.cli.output import write_csv
    from drillyard.results import study_table
    from drillyard.results.study_table import print_study
    from drillyard.results.trials import collect_trials, run_rows

    study = collect_trials(mailbox)
    chosen = study.top(top)
    if csv is not None or parquet is not None:
        rows = list(run_rows(mailbox, study, chosen))
        if parquet is not None:
            study_table.runs_parquet(rows, parquet)
            typer.echo(f"{len(rows):,} rows: {parquet}", err=csv is not None or as_json)
        if csv is not None:
            write_csv(study_table.runs_csv(rows), csv)
            return
    if as_json:
        print_json(study.to_json(chosen))
    elif parquet is None:
        print_study(study, top)
        report = mailbox.key("report/index.html")
        if mailbox.store.stat(report):
            typer.echo(f"report: {mailbox.store.url}/{report}")


def _experiment(mailbox: Mailbox, top: int | None, *, as_json: bool, csv: Path | None) -> None:
    from drillyard.results import collect, policies_csv, runs_csv, verdict
    from drillyard.results.table import best_runs, print_results

    results = collect(mailbox, curves=as_json)
    if as_json:
        if top is not None:
            import dataclasses

            runs = tuple(best_runs(results, top))
            names = {r.run for r in runs}
            curves = tuple(c for c in results.curves if c.run in names)
            results = dataclasses.replace(results, runs=runs, curves=curves)
        typer.echo(results.to_json())
        return
    from drillyard.cli.output import write_csv

    if csv is not None:
        write_csv(policies_csv(results) if top is None else runs_csv(results, top), csv)
        return
    print_results(results, top)
    typer.echo(f"\n{verdict(results)}")
    for warning in results.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if results.report:
        typer.echo(f"report: {results.store}/{results.report}")
