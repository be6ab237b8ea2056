"""``drillyard plan``: what a run would rent, create and pay, and what is missing for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from drillyard.cli.common import (
    FREE,
    FileArgument,
    GlobalsOption,
    JsonOption,
    OfflineOption,
    OnOption,
    SetOption,
    StoreOption,
    TunableOption,
    console,
    finding_json,
    load_file,
    print_findings,
    print_json,
)
from drillyard.runs.locate import store_url

if TYPE_CHECKING:
    from drillyard.backend import Cost
    from drillyard.checks.cost_plan import Plan


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("plan", context_settings=FREE)(plan_command)


def plan_command(
    context: typer.Context,
    file: FileArgument,
    sets: SetOption = None,
    globals_: GlobalsOption = None,
    tunables: TunableOption = None,
    on: OnOption = None,
    store: StoreOption = None,
    offline_ok: OfflineOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show machines, price and what will be created; check rights and quota. Creates nothing."""
    from drillyard.checks.cost_plan import plan

    loaded = load_file(file, sets, globals_, context, on, tunables)
    made = plan(loaded, store_url(store, loaded.spec), offline_ok=offline_ok, strict=strict)
    if as_json:
        print_json(as_dict(made))
    else:
        show(made)
    if not made.possible:
        raise typer.Exit(2)


def as_dict(made: Plan) -> dict[str, Any]:
    """The plan as a program reads it."""
    spec, order, cost = made.loaded.spec, made.order, made.cost
    return {
        "schema_version": 1,
        "experiment": spec.name,
        "backend": spec.backend,
        "possible": made.possible,
        "machines": None if order is None else order.workers,
        "store": None if order is None else order.store_url,
        "hours": made.hours,
        "max_cost": spec.budget.max_cost,
        "cost": None if cost is None else cost.model_dump(mode="json"),
        "findings": [finding_json(f) for f in made.findings],
    }


def show(made: Plan) -> None:
    """Print the plan: what is rented, what is created, the bill, the findings."""
    from drillyard.results.table import Grid

    spec = made.loaded.spec
    if made.order is not None and made.cost is not None:
        from drillyard.cli.output import print_grid

        cost = made.cost
        if cost.parts:
            rows = tuple(
                (p.what, str(p.count), p.where, p.name, money(p.per_hour * p.count, cost), p.note)
                for p in cost.parts
            )
            header = ("will be created", "count", "where", "name", "an hour", "")
            title = f"{spec.name} on {spec.backend}"
            print_grid(Grid(title, header, rows, frozenset({1, 4})))
        typer.echo(bill(made))
        typer.echo()
    print_findings(made.findings)
    word = "can be run" if made.possible else "cannot be run as it is"
    console().print(f"\n{spec.name}: {word}. Nothing was created.")


def money(amount: float, cost: Cost) -> str:
    """An amount as people write it; nothing for what is free."""
    return f"{amount:,.3f} {cost.currency}" if amount else "-"


def bill(made: Plan) -> str:
    """The sum in a sentence."""
    cost = made.cost
    if cost is None or cost.per_hour <= 0:
        return f"price: free ({cost.note})" if cost and cost.note else "price: free"
    text = f"price: {money(cost.per_hour, cost)} an hour"
    if made.hours is not None:
        text += f", at most {money(cost.total, cost)} in {made.hours:g} h"
    most = made.loaded.spec.budget.max_cost
    if most is not None:
        text += f" (budget.max_cost is {most:g})"
    if cost.prices_of:
        text += f"; prices of {cost.prices_of}"
    return text + (f"; {cost.note}" if cost.note else "")
