"""``drillyard configure``: settings of a backend, asked for and kept where only you read them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from drillyard.cli.common import JsonOption, print_json


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("configure")(configure)


def configure(
    backend: Annotated[str, typer.Argument(help="The backend: `drillyard list backends`.")],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Keep this setting, ask nothing; may be repeated."
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Print what is set, and where it came from; ask nothing."),
    ] = False,
    block: Annotated[
        str | None,
        typer.Option(
            "--block",
            metavar="NAME",
            help="Keep them in Prefect under this name instead, for `backend: KIND/NAME`.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for the settings of a backend and keep them in ~/.drillyard (mode 0600).

    With --block they go into Prefect, where everyone of a team can use them by name.

    Secrets are references: env:NAME, file:PATH or secret:NAME (a Prefect secret block).
    """
    from drillyard.backend.settings.resolve import fields_of
    from drillyard.backend.settings.rows import rows
    from drillyard.errors import ConfigErrors

    kind = backend.partition("/")[0]
    fields = fields_of(kind)
    if show or as_json:
        found, problems = rows(backend)
        if problems:
            raise problems[0] if len(problems) == 1 else ConfigErrors(problems)
        _show(found, as_json)
        return
    if not fields:
        typer.echo(f"{kind} has no settings")
        return
    from drillyard.backend.settings.write import write

    given = _given(kind, sets) if sets else _asked(kind)
    if not given:
        typer.echo("nothing was changed")
        return
    if block is not None:
        _keep(kind, block, given)
        return
    path = write(kind, given)
    many = f"{len(given)} setting{'s' * (len(given) != 1)}"
    typer.echo(f"wrote {many} of {kind} to {path}; `drillyard doctor --on {kind}` tries them")


def _show(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for row in found:
        value = "-" if row["value"] is None else row["value"]
        typer.echo(f"{row['name']}: {value}  ({row['from']})")
        typer.echo(f"    {row['help']} [{row['environment']}]")


def _keep(kind: str, name: str, given: dict[str, Any]) -> None:
    """Save a block. Its secrets are looked up now: it keeps the value, encrypted."""
    from drillyard.backend.settings.references import blocks, reveal
    from drillyard.backend.settings.resolve import fields_of, is_secret

    fields = fields_of(kind)
    values = {
        key: reveal(value, f"backends.{kind}.{key}", secret=is_secret(key, fields))
        for key, value in given.items()
    }
    text = blocks("--block").save(kind, name, values)
    typer.echo(f"saved {len(values)} settings; in an experiment: `backend: {text}`")


def _given(kind: str, sets: list[str]) -> dict[str, Any]:
    from drillyard.backend.settings.write import validated
    from drillyard.errors import ConfigError

    found = {}
    for text in sets:
        name, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(
                f"{text!r} is not name=value", file="--set", value=text, allowed="--set name=value"
            )
        name = name.strip().removeprefix(f"backends.{kind}.")
        found[name] = None if value in ("", "null") else validated(kind, name, value)
    return found


def _asked(kind: str) -> dict[str, Any]:
    from drillyard.backend.settings.references import REFERENCE_WORDS
    from drillyard.backend.settings.resolve import fields_of, is_secret
    from drillyard.backend.settings.rows import rows
    from drillyard.backend.settings.write import validated
    from drillyard.errors import ConfigError

    fields = fields_of(kind)
    known = {row["name"]: row for row in rows(kind)[0]}
    typer.echo("Enter keeps what is in brackets; a dash takes a setting out.")
    found: dict[str, Any] = {}
    for name, row in known.items():
        typer.echo(f"\n{name}: {row['help'] or 'no description'}")
        if is_secret(name, fields):
            typer.echo(f"  a secret: give {REFERENCE_WORDS}")
        while True:
            now = "" if row["value"] is None else str(row["value"])
            text = typer.prompt(f"  {name}", default=now, show_default=bool(now)).strip()
            if text == now and not (row["required"] and not now):
                break
            if text == "-":
                found[name] = None
                break
            try:
                found[name] = validated(kind, name, text)
                break
            except ConfigError as error:
                typer.echo(f"  {error.message}; allowed: {error.allowed}")
    return found
