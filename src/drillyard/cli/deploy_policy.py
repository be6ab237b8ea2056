"""``drillyard deploy-policy``, ``undeploy-policy``: a policy at a cloud's managed endpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json
from drillyard.cli.export import Which

OnOption = Annotated[str, typer.Option("--on", metavar="BACKEND", help="Whose endpoint: `azure`.")]


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("deploy-policy")(deploy)
    app.command("undeploy-policy")(undeploy)


def deploy(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE|MODEL",
            help="A run (NAME/t0001-s1), NAME: its best, a folder of `drillyard export`, or "
            "models:/NAME@champion.",
        ),
    ],
    on: OnOption,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the endpoint; default: the experiment's.")
    ] = None,
    which: Annotated[
        Which, typer.Option("--policy", help="The best while training, or the last.")
    ] = Which.BEST,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a managed endpoint answer for a policy; what fails half-way is taken back.

    It costs money until `drillyard undeploy-policy`. The same command again changes nothing.
    """
    from drillyard.policies.endpoints import endpoints_of, serveable
    from drillyard.policies.resolve import exported

    endpoints = endpoints_of(on, {})
    with exported(policy, store, which.value) as folder:
        index = serveable(folder)
        chosen = name or _name_of(str(index["experiment"]))
        made = endpoints.deploy(folder, chosen, lambda step: typer.echo(f"{step} …", err=True))
    if as_json:
        print_json(made.to_json())
        return
    typer.echo(f"{made.name}: {'answers' if made.made else 'answered already'} at {made.url}")
    typer.echo(f"its key: {made.key_command}")
    cost = "costs" if made.per_hour is None else f"costs {made.per_hour:.3f} {made.currency}"
    typer.echo(f"it {cost} an hour until `drillyard undeploy-policy {made.name} --on {on}`")


def undeploy(
    name: Annotated[str, typer.Argument(help="Of the endpoint.")],
    on: OnOption,
    as_json: JsonOption = False,
) -> None:
    """Delete an endpoint that deploy-policy made, and see that it is gone."""
    from drillyard.errors import NotFound
    from drillyard.policies.endpoints import endpoints_of
    from drillyard.registry import nearest

    endpoints = endpoints_of(on, {})
    if not endpoints.undeploy(name):
        raise NotFound(f"there is no endpoint {name}", hint=nearest(name, endpoints.deployed()))
    if as_json:
        print_json({"name": name, "gone": True})
    else:
        typer.echo(f"{name} is gone")


def _name_of(experiment: str) -> str:
    """An endpoint's name of an experiment's: the clouds allow 3 to 32 of ``a-z 0-9 -``."""
    import re

    text = re.sub(r"[^a-z0-9]+", "-", experiment.lower()).strip("-")
    return (text if len(text) > 2 and text[0].isalpha() else f"policy-{text}")[:32].rstrip("-")
