"""``drillyard results``: what an experiment reached, as a table, JSON, CSV or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("results")(results)


def results(
    name: NameArgument = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[
        bool,
        typer.Option(
            "--csv", help="Print CSV: policies; with --top, runs; of a study, a line a seed."
        ),
    ] = False,
    parquet: Annotated[
        Path | None,
        typer.Option("--parquet", metavar="FILE", help="Write a study's seeds to a Parquet file."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, metavar="N", help="Only the N best runs, or trials."),
    ] = None,
) -> None:
    """Show agent and baselines with intervals, and every run; of a study, its best trials."""
    from drillyard.cli.common import open_mailbox
    from drillyard.errors import ConfigError
    from drillyard.results.trials import is_study

    if as_json and as_csv:
        raise ConfigError("--json and --csv exclude each other", file="command line",
                          hint="leave one of them out")  # fmt: skip
    mailbox = open_mailbox(name, store)
    if is_study(mailbox.experiment_record()):
        _study(mailbox, top, as_json=as_json, as_csv=as_csv, parquet=parquet)
        return
    if parquet is not None:
        raise ConfigError(
            f"--parquet is for studies, and {mailbox.experiment!r} is a plain experiment",
            file="command line", hint="use --csv",
        )  # fmt: skip
    _experiment(mailbox, top, as_json=as_json, as_csv=as_csv)


def _study(
    mailbox: Mailbox, top: int | None, *, as_json: bool, as_csv: bool, parquet: Path | None
) -> None:
    from drillyard.cli.common import print_json
    from drillyard.cli.output import print_grid
    from drillyard.results import study_table
    from drillyard.results.trials import collect_trials, run_rows

    study = collect_trials(mailbox)
    chosen = study.top(top)
    if as_csv or parquet is not None:
        rows = list(run_rows(mailbox, study, chosen))
        if parquet is not None:
            study_table.runs_parquet(rows, parquet)
            typer.echo(f"{len(rows):,} rows: {parquet}", err=as_csv or as_json)
        if as_csv:
            typer.echo(study_table.runs_csv(rows), nl=False)
            return
    if as_json:
        print_json(study.to_json(chosen))
    elif parquet is None:
        print_grid(study_table.trials_grid(study, top))
        typer.echo("")
        typer.echo(study_table.verdict(study))
        report = mailbox.key("report/index.html")
        if mailbox.store.stat(report):
            typer.echo(f"report: {mailbox.store.url}/{report}")


def _experiment(mailbox: Mailbox, top: int | None, *, as_json: bool, as_csv: bool) -> None:
    from drillyard.results import (
        collect,
        policies_csv,
        runs_csv,
        runs_grid,
        score_grids,
        verdict,
    )

    found = collect(mailbox, curves=as_json)
    if as_json:
        if top is not None:
            import dataclasses

            from drillyard.results.table import best_runs

            runs = tuple(best_runs(found, top))
            names = {r.run for r in runs}
            curves = tuple(c for c in found.curves if c.run in names)
            found = dataclasses.replace(found, runs=runs, curves=curves)
        typer.echo(found.to_json())
        return
    if as_csv:
        typer.echo(policies_csv(found) if top is None else runs_csv(found, top), nl=False)
        return
    from drillyard.cli.output import print_grid

    for grid in score_grids(found):
        print_grid(grid)
        typer.echo("")
    print_grid(runs_grid(found, top))
    typer.echo("")
    typer.echo(verdict(found))
    for warning in found.warnings:
        typer.echo(f"note: {warning}", err=True)
    if found.report:
        typer.echo(f"report: {found.store}/{found.report}")
