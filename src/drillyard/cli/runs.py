"""``drillyard list experiments`` and ``drillyard list runs``: list what a store holds."""

from __future__ import annotations

from typing import TypedDict

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption, print_json


def register(app: typer.Typer) -> None:
    """Adds the commands to the group ``list``."""
    group = next((g.typer_instance for g in app.registered_groups if g.name == "list"), None)
    if group is None:
        group = typer.Typer(help="List experiments and runs.", no_args_is_help=True)
        app.add_typer(group, name="list")
    group.command("experiments", help="List the experiments of a store, newest first.")(
        list_experiments
    )
    group.command("runs", help="List the runs of an experiment.")(list_runs)


def list_experiments(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Prints one line for each experiment."""
    rows = experiment_rows(store)
    if as_json:
        print_json(rows)
        return
    from drillyard.cli.output import print_grid
    from drillyard.results import formatting
    from drillyard.results.table import Grid

    if not rows:
        typer.echo("no experiments")
        return
    cells = tuple(
        (
            r["name"],
            r["status"],
            f"{r['runs_finished']} / {r['runs']}",
            formatting.number(r["mean_return"]),
            formatting.moment(r["created_at"]),
        )
        for r in rows
    )
    header = ("experiment", "status", "runs", "mean return", "started")
    print_grid(Grid(f"experiments in {rows[0]['store']}", header, cells, frozenset({2, 3})))


class ExperimentRow(TypedDict):
    """An experiment of a store."""

    name: str
    store: str
    status: str
    runs: int
    runs_finished: int
    mean_return: float | None
    created_at: float | None
    problem: str | None


def experiment_rows(store: str | None = None) -> list[ExperimentRow]:
    """Returns the rows of ``list experiments``; an unreadable experiment has the reason."""
    from pathlib import Path

    from drillyard.errors import CorruptObject, NewerVersion
    from drillyard.mailbox import Mailbox, open_store
    from drillyard.results import collect
    from drillyard.runs.locate import experiments, store_url

    url = store_url(store)
    if "://" not in url and not Path(url).is_dir():
        return []  # reading must not create the folder
    opened = open_store(url)
    rows = []
    for name in experiments(opened):
        row: ExperimentRow = {
            "name": name,
            "store": opened.url,
            "status": "UNKNOWN",
            "runs": 0,
            "runs_finished": 0,
            "mean_return": None,
            "created_at": None,
            "problem": None,
        }
        try:
            results = collect(Mailbox(opened, name), curves=False)
        except (CorruptObject, NewerVersion) as error:
            row["problem"] = str(error)
        else:
            row["status"] = results.status
            row["runs"] = len(results.runs)
            row["runs_finished"] = sum(r.finished for r in results.runs)
            row["mean_return"] = results.agents[0].mean_return if results.agents else None
            row["created_at"] = results.created_at
        rows.append(row)
    return rows


def list_runs(
    name: NameArgument = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Prints one line for each run."""
    from drillyard.results import collect, runs_grid
    from drillyard.runs.locate import open_mailbox

    results = collect(open_mailbox(name, store), curves=False)
    if as_json:
        print_json(results.to_dict()["runs"])
        return
    from drillyard.cli.output import print_grid

    print_grid(runs_grid(results))
