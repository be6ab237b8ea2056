"""``drillyard configure``: asks for a backend's settings and saves them for you alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drillyard.documents.json_types import Json, JsonObject


BlockOption = Annotated[
    str | None,
    typer.Option(
        "--block",
        metavar="NAME",
        help="Save them in Prefect under this name instead, for `backend: KIND/NAME`.",
    ),
]


def configure(
    backend: Annotated[str, typer.Argument(help="Backend; see `drillyard list backends`.")],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Save this setting without asking. Repeatable."
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Print each setting and where it came from, without asking."),
    ] = False,
    block: BlockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for the settings of a backend and save them in ~/.drillyard (mode 0600).

    With --block they are saved in Prefect, where everyone in a team can use them by name.

    Give secrets as references: env:NAME, file:PATH or secret:NAME (a Prefect secret block).
    """
    from drillyard.backend.settings.resolve import fields_of
    from drillyard.backend.settings.rows import rows
    from drillyard.errors import refuse_together

    kind = backend.partition("/")[0]
    fields = fields_of(kind)
    if show or as_json:
        described, problems = rows(backend)
        refuse_together(problems)
        _show(described, as_json)
        return
    if not fields:
        typer.echo(f"{kind} has no settings")
        return
    from drillyard.backend.settings.write import write

    settings = _parsed(kind, sets) if sets else _prompted(kind)
    if not settings:
        typer.echo("Nothing was changed.")
        return
    if block is not None:
        _save_block(kind, block, settings)
        return
    path = write(kind, settings)
    many = f"{len(settings)} setting{'s' * (len(settings) != 1)}"
    typer.echo(f"wrote {many} of {kind} to {path}; test them with `drillyard doctor --on {kind}`")


def _show(settings: list[JsonObject], as_json: bool) -> None:
    if as_json:
        print_json(settings)
        return
    for row in settings:
        value = "-" if row["value"] is None else row["value"]
        typer.echo(f"{row['name']}: {value}  ({row['from']})")
        typer.echo(f"    {row['help']} [{row['environment']}]")


def _save_block(kind: str, name: str, settings: Mapping[str, Json]) -> None:
    """Saves a block. Its secrets are looked up now, because it stores the encrypted values."""
    from drillyard.backend.settings.references import blocks, reveal
    from drillyard.backend.settings.resolve import fields_of, is_secret

    fields = fields_of(kind)
    values = {
        key: reveal(value, f"backends.{kind}.{key}", secret=is_secret(key, fields))
        for key, value in settings.items()
    }
    text = blocks("--block").save(kind, name, values)
    typer.echo(f"saved {len(values)} settings; use them with `backend: {text}`")


def _parsed(kind: str, sets: list[str]) -> JsonObject:
    from drillyard.backend.settings.write import validated
    from drillyard.errors import ConfigError

    settings: JsonObject = {}
    for text in sets:
        name, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(
                f"{text!r} is not name=value", file="--set", value=text, allowed="--set name=value"
            )
        name = name.strip().removeprefix(f"backends.{kind}.")
        settings[name] = None if value in ("", "null") else validated(kind, name, value)
    return settings


def _prompted(kind: str) -> JsonObject:
    from drillyard.backend.settings.references import REFERENCE_WORDS
    from drillyard.backend.settings.resolve import fields_of, is_secret
    from drillyard.backend.settings.rows import rows
    from drillyard.backend.settings.write import validated
    from drillyard.errors import ConfigError

    fields = fields_of(kind)
    known = {str(row["name"]): row for row in rows(kind)[0]}
    typer.echo("Press Enter to keep the value in brackets. Type a dash to remove a setting.")
    settings: JsonObject = {}
    for name, row in known.items():
        typer.echo(f"\n{name}: {row['help'] or 'no description'}")
        if is_secret(name, fields):
            typer.echo(f"  This is a secret. Give {REFERENCE_WORDS}.")
        while True:
            now = "" if row["value"] is None else str(row["value"])
            text = typer.prompt(f"  {name}", default=now, show_default=bool(now)).strip()
            if text == now and not (row["required"] and not now):
                break
            if text == "-":
                settings[name] = None
                break
            try:
                settings[name] = validated(kind, name, text)
                break
            except ConfigError as error:
                typer.echo(f"  {error.message}; allowed: {error.allowed}")
    return settings
