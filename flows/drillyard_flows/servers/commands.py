"""``drillyard up`` and ``down``: typed arguments in, lines out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Of all data, logs and passwords; default ~/.drillyard/up."),
]  # fmt: skip
ORDER = ("worker", "mlflow", "prefect")
"""In which they are stopped."""


def register(app: typer.Typer) -> None:
    """Add the commands to drillyard's command line.

    Args:
        app: The application.
    """
    app.command("up")(up)
    app.command("down")(down)


def up(
    folder: FolderOption = None,
    prefect_port: Annotated[
        int | None, typer.Option(min=1024, max=65535, show_default="4200, or as before")
    ] = None,
    mlflow_port: Annotated[
        int | None, typer.Option(min=1024, max=65535, show_default="5000, or as before")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start Prefect, MLflow and a worker on this machine: loopback only, with passwords.

    Repeat it at will: what lives is left alone, what died is started again.
    """
    from drillyard.cli.common import store_url
    from drillyard_flows.servers.house import House
    from drillyard_flows.servers.members import members, variables
    from drillyard_flows.servers.starting import start

    house = House.at(folder)
    with house.locked():
        prefect, mlflow = house.ports(prefect_port, mlflow_port)
        exports = house.exports(variables(house, prefect, mlflow))
        started = {}
        for member in members(house, prefect, mlflow, _absolute(store_url(store))):
            started[member.name] = start(house, member)
            if not as_json:
                typer.echo(f"{member.name}: {'started' if started[member.name] else 'is up'}")
    urls = {"prefect": f"http://127.0.0.1:{prefect}", "mlflow": f"http://127.0.0.1:{mlflow}"}
    if as_json:
        print_json({"started": started, "urls": urls, "exports": str(exports),
                    "folder": str(house.folder)})  # fmt: skip
        return
    typer.echo(f"Prefect {urls['prefect']}, MLflow {urls['mlflow']}")
    typer.echo(f"user names and passwords: {exports}; in this shell: source {exports}")
    typer.echo("then: drillyard deploy")


def _absolute(url: str) -> str:
    """A worker's flow runs start elsewhere."""
    return url if "://" in url else str(Path(url).expanduser().resolve())


def down(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Stop what up started. Flow runs stop at their last checkpoint; all data stays."""
    from drillyard_flows.servers.house import House
    from drillyard_flows.servers.starting import stop

    house = House.at(folder)
    say = (lambda text: None) if as_json else typer.echo
    with house.locked():
        stopped = {name: stop(house, name, say) for name in ORDER}
    if as_json:
        print_json({"stopped": stopped, "folder": str(house.folder)})
        return
    for name, was in stopped.items():
        typer.echo(f"{name}: {'stopped' if was else 'was not up'}")
