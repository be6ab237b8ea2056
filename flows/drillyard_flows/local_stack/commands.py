"""``drillyard up`` and ``down``: start and stop the servers of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from drillyard.cli.common import JsonOption, StoreOption, print_json
from drillyard.system import closed_output
from drillyard.system.proxies import spare_loopback

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="Folder for data, logs and passwords; default: ~/.drillyard/up."
    ),
]


def _port(usual: int) -> OptionInfo:
    option: OptionInfo = typer.Option(
        min=1024, max=65535, show_default=f"{usual}, or the previous one"
    )
    return option


ORDER = ("renting-worker", "worker", "relay", "mlflow", "prefect", "postgresql")
"""The order in which services are stopped; earlier versions also started a database."""


def register(app: typer.Typer) -> None:
    """Adds the commands to drillyard's command line.

    Args:
        app: The application.
    """
    app.command("up")(up)
    app.command("down")(down)


MailOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Mail server for alerts: mailto://user:password@server?to=…, "
        "or env:NAME or file:PATH with that address. It is saved for later starts.",
    ),
]


def up(
    folder: FolderOption = None,
    prefect_port: Annotated[int | None, _port(4200)] = None,
    mlflow_port: Annotated[int | None, _port(5000)] = None,
    mail: MailOption = None,
    relay_port: Annotated[int | None, _port(4201)] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start Prefect, MLflow and a worker on this machine: loopback only, with passwords.

    You can repeat the command: it starts only the services that are not running.
    """
    from drillyard.backend.settings.references import reveal
    from drillyard.runs.locate import store_url
    from drillyard_flows.local_stack import relay
    from drillyard_flows.local_stack.services import services, variables
    from drillyard_flows.local_stack.stack import PORTS, LocalStack
    from drillyard_flows.local_stack.starting import start

    address = str(reveal(mail, "--mail", secret=True)) if mail else None
    if address is not None:
        relay.recipients(address)
    spare_loopback()
    stack = LocalStack.at(folder)
    with stack.locked():
        stack.check_database()
        requested = {"prefect": prefect_port, "mlflow": mlflow_port}
        if stack.mail(address):
            requested["relay"] = relay_port
        usual = {**PORTS, **stack.read().get("ports", {})}
        ports = stack.ports(requested)
        exports = stack.exports(variables(stack, ports))
        started = {}
        say = (lambda text: None) if as_json else closed_output.tell
        for service in services(stack, ports, _absolute(store_url(store))):
            started[service.name] = start(stack, service, say)
            say(f"{service.name}: {'started' if started[service.name] else 'is already running'}")
    moved = {
        name: {"from": usual[name], "to": ports[name]}
        for name, port in requested.items()
        if port is None and ports[name] != usual[name]
    }
    urls = {name: f"http://127.0.0.1:{ports[name]}" for name in ("prefect", "mlflow")}
    if as_json:
        places = {"exports": str(exports), "folder": str(stack.folder)}
        print_json({"started": started, "urls": urls, "moved": moved, **places})
    else:
        _explain(urls, moved, exports)


def _explain(
    urls: Mapping[str, str], moved: Mapping[str, Mapping[str, int]], exports: Path
) -> None:
    from drillyard_flows.local_stack.stack import USER

    for name, change in moved.items():
        typer.echo(
            f"{name}: another program uses port {change['from']}, so it has port {change['to']}"
        )
    typer.echo(f"Prefect {urls['prefect']}, MLflow {urls['mlflow']}")
    typer.echo(f"user names and passwords: {exports}; to use them in this shell: source {exports}")
    typer.echo(
        f"  paste into a browser: {urls['prefect']} and {urls['mlflow']}, user {USER}, with the "
        "passwords of that file"
    )
    typer.echo(f"  paste into an experiment file: tracking: {{mlflow: {urls['mlflow']}}}")
    if moved:
        typer.echo("  shells and files that have the earlier port need the new one")
    typer.echo("next: drillyard deploy")


def _absolute(url: str) -> str:
    """Makes a path absolute, because a worker's flow runs start in another folder."""
    return url if "://" in url else str(Path(url).expanduser().resolve())


def down(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Stop what `up` started. Flow runs stop at their last checkpoint. All data is kept."""
    from drillyard_flows.local_stack.services import POOLS
    from drillyard_flows.local_stack.stack import LocalStack
    from drillyard_flows.local_stack.starting import stop

    stack = LocalStack.at(folder)
    say = (lambda text: None) if as_json else closed_output.tell
    with stack.locked():
        known = stack.read().get("ports", {}).keys() | POOLS.keys()
        stopped = {name: stop(stack, name, say) for name in ORDER if name in known}
    if as_json:
        print_json({"stopped": stopped, "folder": str(stack.folder)})
        return
    for name, was in stopped.items():
        typer.echo(f"{name}: {'stopped' if was else 'was not running'}")
