"""``drillyard cost``: what machines cost, according to the ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli import completing
from drillyard.cli.common import JsonOption, StoreOption, print_json

if TYPE_CHECKING:
    from drillyard.leases.spending import Interval, Spending
    from drillyard.mailbox import Mailbox
    from drillyard.system.tables import Grid


def cost(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name of the experiment, or its location (gs://bucket/name); default: "
            "all experiments of the store.",
            autocompletion=completing.experiments,
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what machines cost, one row for each interval. Without NAME: for the whole store."""
    from drillyard.leases.spending import spending

    spendings = [spending(mailbox) for mailbox in _mailboxes(name, store)]
    if as_json:
        print_json(
            [
                {
                    "schema_version": 1,
                    "experiment": s.experiment,
                    "total": s.total,
                    "currency": s.currency,
                    "max_cost": s.max_cost,
                    "left": s.left,
                    "intervals": [asdict(i) for i in s.intervals],
                }
                for s in spendings
            ]
        )
        return
    from drillyard.system.terminal import print_grid

    print_grid(grid(spendings))
    for s in spendings:
        text = f"{s.experiment}: {s.total:,.2f} {s.currency}"
        if s.left is not None:
            text += f" of {s.max_cost:g}, {s.left:,.2f} left"
        typer.echo(text)


def _mailboxes(name: str | None, store: str | None) -> list[Mailbox]:
    from drillyard.mailbox import Mailbox
    from drillyard.runs.locate import experiments, open_mailbox, split_place

    newest = open_mailbox(name, store)
    if split_place(name, store)[0] is not None:
        return [newest]
    return [Mailbox(newest.store, name) for name in experiments(newest.store)]


def grid(spendings: list[Spending]) -> Grid:
    """Returns a table with one row for each interval."""
    from drillyard.results import formatting
    from drillyard.system.tables import Table

    def ended(row: Interval) -> str:
        if row.ended_at is None:
            return "may be running"
        return formatting.moment(row.ended_at) + ("" if row.confirmed else " (unseen)")

    table = Table("machines", [i for s in spendings for i in s.intervals])
    table.text("experiment", lambda i: i.experiment)
    table.text("lease", lambda i: i.lease)
    table.text("backend", lambda i: i.backend + (" Spot" if i.spot else ""))
    table.number("machines", lambda i: i.machines)
    table.text("began", lambda i: formatting.moment(i.began_at))
    table.text("ended", ended)
    table.number("for", lambda i: formatting.duration(i.seconds))
    table.number("an hour", lambda i: f"{i.per_hour:,.3f}" if i.per_hour else None)
    return table.number("cost", lambda i: f"{i.cost:,.2f} {i.currency}" if i.per_hour else None)
