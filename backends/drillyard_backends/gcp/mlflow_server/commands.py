"""``drillyard mlflow gcp up | status | down``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from drillyard.cli.common import JsonOption
from drillyard.system import closed_output
from drillyard.system.terminal import confirm

ProjectOption = Annotated[
    str,
    typer.Option("--project", envvar="GOOGLE_CLOUD_PROJECT", help="Id of the project."),
]
RegionOption = Annotated[
    str,
    typer.Option("--region", envvar="DRILLYARD_MLFLOW_REGION", help="For example europe-west1."),
]
NameOption = Annotated[
    str,
    typer.Option("--name", help="Name of the server; the names of all its parts follow from it."),
]
MemberOption = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        help="Account that may use the server: user:me@x.org, serviceAccount:…, group:… "
        "Repeatable. No other account may use it.",
    ),
]
TierOption = Annotated[
    str | None,
    typer.Option("--tier", help="Machine type of the database; default: db-f1-micro."),
]
ImageOption = Annotated[
    str | None, typer.Option("--image", help="Your own image instead of a built one.")
]
DEFAULT_NAME = "drillyard-mlflow"


def register(app: typer.Typer) -> None:
    """Join the command line.

    Args:
        app: The application.
    """
    mlflow = typer.Typer(no_args_is_help=True, help="Manage your own MLflow servers.")
    gcp = typer.Typer(
        no_args_is_help=True,
        help="An MLflow server on Google Cloud: Cloud Run, Cloud SQL and a bucket. Only named "
        "accounts can use it.",
    )
    gcp.command("up")(up)
    gcp.command("status")(status)
    gcp.command("down")(down)
    mlflow.add_typer(gcp, name="gcp")
    app.add_typer(mlflow, name="mlflow")


def up(
    project: ProjectOption,
    region: RegionOption,
    name: NameOption = DEFAULT_NAME,
    member: MemberOption = None,
    tier: TierOption = None,
    image: ImageOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before costs arise.")] = False,
) -> None:
    """Create or repair the server; correct parts stay unchanged."""
    from drillyard.errors import ControlPlaneError
    from drillyard_backends.gcp.mlflow_server.names import SMALLEST
    from drillyard_backends.gcp.mlflow_server.server import MlflowServer
    from drillyard_backends.gcp.mlflow_server.tokens import AUTH

    server = MlflowServer(
        _choices(
            project=project,
            region=region,
            name=name,
            tier=tier,
            image=image,
            members=tuple(member or ()),
        )
    )
    url = server.url
    typer.echo(
        f"{url}\nin project {project}, with a database ({tier or SMALLEST} at first) that "
        "costs money while it exists, also after `down`."
    )
    confirm("Create it?", yes)
    server.up(_say)
    answer = server.ask()
    if not answer.closed:
        raise ControlPlaneError(
            f"{url} is open to strangers: {answer.words}",
            hint=f"drillyard mlflow gcp down --name {name}",
        )
    _say("closed to strangers", "yes")
    _say("to us", answer.words)
    typer.echo(f"\nexport MLFLOW_TRACKING_URI={url}\nexport MLFLOW_TRACKING_AUTH={AUTH}")


def status(
    project: ProjectOption,
    region: RegionOption,
    name: NameOption = DEFAULT_NAME,
    as_json: JsonOption = False,
) -> None:
    """Show every part of the server, and whether it answers; changes nothing.

    Exits with code 0 if the server answers and refuses strangers, else 4.
    """
    from dataclasses import asdict

    from drillyard.cli.common import print_json
    from drillyard_backends.gcp.mlflow_server.server import MlflowServer

    server = MlflowServer(_choices(project=project, region=region, name=name))
    parts = server.look()
    there = dict(parts)["server"].there
    answer = server.ask() if there else None
    good = all(s.ready for _, s in parts) and answer is not None and answer.closed
    good = good and answer is not None and answer.serving is not False
    if as_json:
        print_json(
            {
                "url": server.url,
                "ok": good,
                "parts": [{"part": title, **asdict(state)} for title, state in parts],
                "answer": asdict(answer) if answer else None,
            }
        )
    else:
        for title, state in parts:
            _say(title, state.words, "ok" if state.ready else "--")
        if answer is not None:
            _say("closed to strangers", "yes" if answer.closed else "NO")
            _say("to us", answer.words)
    if not good:
        raise typer.Exit(4)


def down(
    project: ProjectOption,
    region: RegionOption,
    name: NameOption = DEFAULT_NAME,
    delete_data: Annotated[
        bool,
        typer.Option(
            "--delete-data",
            help="Also delete all tracked data: database, files, secret, image, accounts.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the server. Tracked data stays, and the address is the same after `up`."""
    from drillyard_backends.gcp.mlflow_server.server import MlflowServer

    server = MlflowServer(_choices(project=project, region=region, name=name))
    if delete_data:
        confirm(f"Delete all that {server.url} ever tracked, for good?", yes)
    server.down(_say, delete_data)
    if not delete_data:
        typer.echo(
            "\nDatabase and files stay, and the database costs money; `up` serves them "
            "again at the same address."
        )


def _choices(**values: Any) -> Any:
    from drillyard_backends.gcp.mlflow_server.names import choose

    return choose(**values)


def _say(part: str, words: str, mark: str = "  ") -> None:
    from drillyard.system.redaction import redact

    closed_output.tell(redact(f"{mark} {part:<34} {words}", assignments=False))
