"""``drillyard deploy-policy``, ``undeploy-policy``: serves a policy at a managed endpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json
from drillyard.cli.export import Which
from drillyard.system import closed_output

OnOption = Annotated[
    str, typer.Option("--on", metavar="BACKEND", help="Backend that serves it: `azure`.")
]


def deploy(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE|MODEL",
            help="Run (NAME/t0001-s1), NAME (its best run), folder of `drillyard export`, or "
            "models:/NAME@champion.",
        ),
    ],
    on: OnOption,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the endpoint; default: the experiment's.")
    ] = None,
    which: Annotated[
        Which, typer.Option("--policy", help="Best policy of the training, or the final one.")
    ] = Which.BEST,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deploy a policy to a managed endpoint. If it fails half-way, everything is removed.

    It costs money until you run `drillyard undeploy-policy`. Repeating it changes nothing.
    """
    from drillyard.policies.endpoints import endpoints_of, serveable
    from drillyard.policies.resolve import exported

    endpoints = endpoints_of(on, {})
    with exported(policy, store, which.value) as folder:
        index = serveable(folder)
        chosen = name or _name_of(str(index["experiment"]))
        endpoint = endpoints.deploy(
            folder, chosen, lambda step: closed_output.tell(f"{step} …", err=True)
        )
    if as_json:
        print_json(endpoint.to_json())
        return
    typer.echo(
        f"{endpoint.name}: {'deployed' if endpoint.made else 'already deployed'} at {endpoint.url}"
    )
    typer.echo(f"print its key with: {endpoint.key_command}")
    cost = (
        "costs"
        if endpoint.per_hour is None
        else f"costs {endpoint.per_hour:.3f} {endpoint.currency}"
    )
    typer.echo(
        f"it {cost} an hour until you run `drillyard undeploy-policy {endpoint.name} --on {on}`"
    )


def undeploy(
    name: Annotated[str, typer.Argument(help="Name of the endpoint.")],
    on: OnOption,
    as_json: JsonOption = False,
) -> None:
    """Delete an endpoint that deploy-policy created, and verify that it is gone."""
    from drillyard.errors import NotFound, nearest
    from drillyard.policies.endpoints import endpoints_of

    endpoints = endpoints_of(on, {})
    if not endpoints.undeploy(name):
        raise NotFound(f"there is no endpoint {name}", hint=nearest(name, endpoints.deployed()))
    if as_json:
        print_json({"name": name, "gone": True})
    else:
        typer.echo(f"{name} was deleted")


def _name_of(experiment: str) -> str:
    """Makes an endpoint's name from an experiment's: 3 to 32 characters of ``a-z 0-9 -``."""
    import re

    text = re.sub(r"[^a-z0-9]+", "-", experiment.lower()).strip("-")
    return (text if len(text) > 2 and text[0].isalpha() else f"policy-{text}")[:32].rstrip("-")
