"""``drillyard up`` and ``down``: typed arguments in, lines out."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Of all data, logs and passwords; default ~/.drillyard/up."),
]


def _port(usual: int) -> Any:
    return typer.Option(min=1024, max=65535, show_default=f"{usual}, or as before")


ORDER = ("worker", "relay", "mlflow", "prefect", "postgresql")
"""In which they are stopped."""


class Database(StrEnum):
    """Where the servers keep their data."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


def register(app: typer.Typer) -> None:
    """Add the commands to drillyard's command line.

    Args:
        app: The application.
    """
    app.command("up")(up)
    app.command("down")(down)


def up(
    folder: FolderOption = None,
    prefect_port: Annotated[int | None, _port(4200)] = None,
    mlflow_port: Annotated[int | None, _port(5000)] = None,
    database: Annotated[
        Database | None,
        typer.Option(help="Of both servers, chosen once.", show_default="sqlite, or as before"),
    ] = None,
    postgresql_port: Annotated[int | None, _port(4202)] = None,
    mail: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Mail server through which alerts are sent, mailto://user:password@server?to=…; "
            "or env:NAME, file:PATH where that stands. Kept.",
        ),
    ] = None,
    relay_port: Annotated[int | None, _port(4201)] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start Prefect, MLflow and a worker on this machine: loopback only, with passwords.

    Repeat it at will: what lives is left alone, what died is started again.
    """
    from drillyard.backend.settings.references import reveal
    from drillyard.runs.locate import store_url
    from drillyard_flows.local_stack import postgresql, relay
    from drillyard_flows.local_stack.services import members, variables
    from drillyard_flows.local_stack.stack import LocalStack
    from drillyard_flows.local_stack.starting import start
    from drillyard_flows.local_stack.worker_health import without_proxy

    address = str(reveal(mail, "--mail", secret=True)) if mail else None
    if address is not None:
        relay.addressee(address)
    if database is Database.POSTGRESQL:
        postgresql.required()
    os.environ.update(without_proxy())
    house = LocalStack.at(folder)
    with house.locked():
        first = not house.read()
        chosen = house.database(database.value if database else None)
        wanted = {"prefect": prefect_port, "mlflow": mlflow_port}
        if house.mail(address):
            wanted["relay"] = relay_port
        if chosen == postgresql.NAME:
            wanted[postgresql.NAME] = postgresql_port
        ports = house.ports(wanted)
        exports = house.exports(variables(house, ports))
        started = {}
        for member in members(house, ports, _absolute(store_url(store))):
            started[member.name] = start(house, member)
            if not as_json:
                typer.echo(f"{member.name}: {'started' if started[member.name] else 'is up'}")
    urls = {name: f"http://127.0.0.1:{ports[name]}" for name in ("prefect", "mlflow")}
    if as_json:
        print_json(
            {
                "started": started,
                "urls": urls,
                "exports": str(exports),
                "folder": str(house.folder),
            }
        )
        return
    typer.echo(f"Prefect {urls['prefect']}, MLflow {urls['mlflow']}")
    typer.echo(f"user names and passwords: {exports}; in this shell: source {exports}")
    typer.echo("then: drillyard deploy")
    if first and chosen == "sqlite" and postgresql.programs() is not None:
        typer.echo(
            "PostgreSQL is installed, which serves more than a few flow runs at once: "
            "up --database postgresql --folder …"
        )


def _absolute(url: str) -> str:
    """A worker's flow runs start elsewhere."""
    return url if "://" in url else str(Path(url).expanduser().resolve())


def down(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Stop what up started. Flow runs stop at their last checkpoint; all data stays."""
    from drillyard_flows.local_stack.stack import LocalStack
    from drillyard_flows.local_stack.starting import stop

    house = LocalStack.at(folder)
    say = (lambda text: None) if as_json else typer.echo
    with house.locked():
        mine = house.read().get("ports", {}).keys() | {"worker"}
        stopped = {name: stop(house, name, say) for name in ORDER if name in mine}
    if as_json:
        print_json({"stopped": stopped, "folder": str(house.folder)})
        return
    for name, was in stopped.items():
        typer.echo(f"{name}: {'stopped' if was else 'was not up'}")
