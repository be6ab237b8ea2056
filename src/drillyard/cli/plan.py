"""``drillyard plan``: shows what a run would rent, create and cost, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.arguments import Arguments, with_arguments
from drillyard.cli.common import (
    FileArgument,
    JsonOption,
    OfflineOption,
    StoreOption,
    finding_json,
    print_findings,
    print_json,
)
from drillyard.runs.locate import store_of
from drillyard.system.clock import SYSTEM
from drillyard.system.terminal import console

if TYPE_CHECKING:
    from drillyard.backend import Cost
    from drillyard.checks.cost_plan import Offer, Plan
    from drillyard.documents.json_types import JsonObject

OF_STAGE = ("experiment", "backend", "places", "machines", "max_cost", "cost")
"""What the JSON document has of each stage."""


@with_arguments("name")
def plan_command(
    file: FileArgument,
    arguments: Arguments,
    store: StoreOption = None,
    offline_ok: OfflineOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show machines, price and resources; check permissions and quota. Creates nothing."""
    from drillyard.checks.cost_plan import plan

    loaded = arguments.load(file)
    result = plan(loaded, store_of(loaded, store), offline_ok=offline_ok, strict=strict)
    if as_json:
        print_json(as_dict(result))
    else:
        show(result)
    if not result.possible:
        raise typer.Exit(2)


def as_dict(result: Plan) -> JsonObject:
    """Returns the plan as JSON."""
    spec, order, cost = result.loaded.spec, result.order, result.cost
    stages = {name: as_dict(stage) for name, stage in result.stages.items()}
    of_stages: JsonObject = {
        name: {key: stage[key] for key in OF_STAGE} for name, stage in stages.items()
    }
    return {
        "schema_version": 1,
        "experiment": spec.name,
        "backend": spec.backend,
        "places": [_place(offer, result) for offer in result.offers],
        "possible": result.possible,
        "machines": None if order is None else order.all_workers,
        "store": None if order is None else order.store_url,
        "hours": result.hours,
        "max_cost": spec.budget.max_cost,
        "cost": None if cost is None else cost.model_dump(mode="json"),
        **({"stages": of_stages} if of_stages else {}),
        "findings": [{**finding_json(f)} for f in result.findings],
    }


def _place(offer: Offer, result: Plan) -> JsonObject:
    """One place of the experiment, as JSON."""
    egress = offer.egress
    return {
        "backend": offer.place,
        "used": not offer.dropped,
        "why_not": offer.dropped or None,
        "per_hour": None if offer.cost.unpriced else offer.cost.per_hour,
        "total": None if offer.cost.unpriced else offer.cost.total,
        "currency": offer.cost.currency,
        "prices_of": offer.cost.prices_of or None,
        "egress_per_gb": None if egress is None else egress.per_gb,
        "egress_gb": result.read_gb if egress is not None else None,
    }


def show(result: Plan) -> None:
    """Prints the plan: what is rented, what is created, the price, the findings."""
    spec = result.loaded.spec
    for each in (result, *result.stages.values()):
        _show_machines(each)
    print_findings(result.findings)
    verdict = "can be run" if result.possible else "cannot be run"
    console().print(f"\n{spec.name}: {verdict}. Nothing was created.")


def _show_machines(result: Plan) -> None:
    """Prints what one experiment would rent, and its price."""
    from drillyard.system.tables import Table

    spec = result.loaded.spec
    if len(result.offers) > 1:
        _show_places(result)
    if result.order is not None and result.cost is not None:
        from drillyard.system.terminal import print_grid

        cost = result.cost
        if cost.parts:
            title = f"{spec.name} on {result.offers[0].place if result.offers else spec.where}"
            table = Table(title, cost.parts)
            table.text("will be created", lambda p: p.what)
            table.number("count", lambda p: p.count)
            table.text("where", lambda p: p.where)
            table.text("name", lambda p: p.name)
            table.number("an hour", lambda p: money(p.per_hour * p.count, cost))
            print_grid(table.text("", lambda p: p.note))
        stage = f"{spec.name}: " if spec.stage_of is not None else ""
        typer.echo(stage + bill(result))
        typer.echo()


def _show_places(result: Plan) -> None:
    """Prints the places in the order in which they are tried, and those that are not used."""
    from drillyard.system.tables import Table
    from drillyard.system.terminal import print_grid

    def reading(offer: Offer) -> str | None:
        if offer.egress is None:
            return None
        size = f" x {result.read_gb:.3g} GB" if result.read_gb else ""
        return f"{offer.egress.per_gb:g} {offer.egress.currency}{size}"

    def price(offer: Offer, amount: float) -> str:
        return "not known" if offer.cost.unpriced else money(amount, offer.cost)

    title = "places, cheapest first; the next one when there is no room"
    turns = {id(offer): turn for turn, offer in enumerate(result.offers, 1)}
    table = Table(title, result.offers)
    table.text("turn", lambda o: None if o.dropped else str(turns[id(o)]))
    table.text("place", lambda o: o.place)
    table.number("an hour", lambda o: price(o, o.cost.per_hour))
    table.number("at most", lambda o: price(o, o.cost.total))
    table.text("mailbox read, a GB", reading)
    print_grid(table.text("not used because", lambda o: o.dropped))


def money(amount: float, cost: Cost) -> str:
    """Formats an amount of money; ``-`` for zero."""
    return f"{amount:,.3f} {cost.currency}" if amount else "-"


def bill(result: Plan) -> str:
    """Returns the price in one sentence."""
    cost = result.cost
    if cost is None or cost.per_hour <= 0:
        return f"price: free ({cost.note})" if cost and cost.note else "price: free"
    text = f"price: {money(cost.per_hour, cost)} an hour"
    if result.hours is not None:
        text += f", at most {money(cost.total, cost)} in {result.hours:g} h"
    most = result.loaded.spec.budget.max_cost
    if most is not None:
        text += f" (budget.max_cost is {most:g})"
    if cost.prices_of:
        from drillyard.backend.prices import dated

        text += f"; prices of {dated(cost.prices_of, SYSTEM.now())}"
    return text + (f"; {cost.note}" if cost.note else "")
