"""``drillyard prices refresh``: fetches newer price lists of the clouds."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, print_json

if TYPE_CHECKING:
    from drillyard.backend import PriceUpdate, RefreshesPrices
    from drillyard.documents.json_types import JsonObject
    from drillyard.errors import DrillyardError

KEY_VARIABLE = "DRILLYARD_{}_PRICES_KEY"


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    group = typer.Typer(help="Fetch newer price lists of the clouds.", no_args_is_help=True)
    group.command("refresh")(refresh)
    # A group with one command needs a callback, or the command would take the place of the group.
    group.callback()(lambda: None)
    app.add_typer(group, name="prices")


def refresh(
    backends: Annotated[
        list[str] | None, typer.Argument(help="Backends: gcp, azure. Default: all of them.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="Reference to the API key that Google's interface needs: env:NAME, file:PATH. "
            "Default: env:DRILLYARD_GCP_PRICES_KEY. Azure's needs none.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch list prices from the clouds and use them on this machine from now on."""
    from drillyard.backend.settings.references import REFERENCE_WORDS, is_reference
    from drillyard.errors import ConfigError, DrillyardError

    if key is not None and not is_reference(key):
        raise ConfigError(
            "a key is written in plain text",
            field="--key",
            value="***",
            allowed=REFERENCE_WORDS,
            hint="put it into an environment variable, and name that: --key env:NAME",
        )
    rows: list[JsonObject] = []
    failed: list[DrillyardError] = []
    for kind, factory in _chosen(backends or []).items():
        try:
            update = factory.fetch_prices(_key(kind, key))
            rows.append(_kept(kind, update))
        except DrillyardError as error:
            failed.append(error)
            continue
        if not as_json:
            typer.echo(
                f"{kind}: {update.prices} prices of {update.table['date']}, kept in "
                f"{rows[-1]['file']}"
                + (f"; none for {', '.join(update.missing)}" if update.missing else "")
            )
    if as_json:
        print_json(rows)
    for other in failed[1:]:
        typer.echo(f"error: {other}", err=True)
    if failed:
        raise failed[0]


def _chosen(backends: list[str]) -> dict[str, RefreshesPrices]:
    """Returns the backends to refresh: those that are named, or all that can be.

    Raises:
        ConfigErrors: Some have no price interface.
    """
    from drillyard.backend import RefreshesPrices
    from drillyard.errors import ConfigErrors, misused, nearest
    from drillyard.registry import load, names

    able = {
        kind: factory
        for kind in names("backends")
        if isinstance(factory := load("backends", kind), RefreshesPrices)
    }
    wrong = [
        misused(
            "has no price interface that drillyard knows",
            "BACKEND",
            kind,
            allowed=", ".join(able),
            hint=nearest(kind, list(able)) if kind not in names("backends") else "leave it out",
        )
        for kind in backends
        if kind not in able
    ]
    if wrong:
        raise ConfigErrors(wrong)
    return {kind: able[kind] for kind in backends or able}


def _key(kind: str, key: str | None) -> str | None:
    from drillyard.backend.settings.references import reveal

    variable = KEY_VARIABLE.format(kind.upper().replace("-", "_"))
    reference = key or (f"env:{variable}" if os.environ.get(variable) else None)
    return None if reference is None else str(reveal(reference, "--key", secret=True))


def _kept(kind: str, update: PriceUpdate) -> JsonObject:
    from drillyard.backend.settings.resolve import prices_file
    from drillyard.system.output_files import write_whole

    path = prices_file(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(update.table, indent=1) + "\n"
    write_whole(path, text.encode(), "the price list")
    return {
        "backend": kind,
        "prices_of": update.table["date"],
        "prices": update.prices,
        "missing": [*update.missing],
        "file": str(path),
    }
