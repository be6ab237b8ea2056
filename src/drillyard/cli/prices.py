"""``drillyard prices``: the dated price lists of the clouds, and how to get newer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, print_json

if TYPE_CHECKING:
    from drillyard.documents.json_types import JsonObject

KEY_VARIABLE = "DRILLYARD_{}_PRICES_KEY"


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    group = typer.Typer(
        help="Show the date of the price lists, or fetch newer ones.", invoke_without_command=True
    )
    group.callback()(show)
    group.command("refresh")(refresh)
    app.add_typer(group, name="prices")


def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show which price list each backend uses, and its date."""
    if context.invoked_subcommand is not None:
        return
    from drillyard.backend import HasMachineTypes
    from drillyard.registry import load, names

    rows: list[JsonObject] = []
    for kind in names("backends"):
        factory = load("backends", kind)
        if isinstance(factory, HasMachineTypes):
            found = factory.machine_types()
            rows.append(
                {
                    "backend": kind,
                    "prices_of": found.prices_of,
                    "currency": found.currency,
                    "source": found.source,
                }
            )
    if as_json:
        print_json([*rows])
        return
    for row in rows:
        typer.echo("{backend}: prices of {prices_of} in {currency}, from {source}".format(**row))


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
    import json
    import os

    from drillyard.backend import RefreshesPrices
    from drillyard.backend.settings.references import REFERENCE_WORDS, is_reference, reveal
    from drillyard.backend.settings.resolve import prices_file
    from drillyard.errors import ConfigError, ConfigErrors, DrillyardError
    from drillyard.registry import load, names, nearest
    from drillyard.system.output_files import write_whole

    if key is not None and not is_reference(key):
        raise ConfigError(
            "a key is written in plain text",
            field="--key",
            value="***",
            allowed=REFERENCE_WORDS,
            hint="put it into an environment variable, and name that: --key env:NAME",
        )
    able = {
        kind: factory
        for kind in names("backends")
        if isinstance(factory := load("backends", kind), RefreshesPrices)
    }
    wrong = [
        ConfigError(
            "has no price interface that drillyard knows",
            file="command line",
            field="BACKEND",
            value=kind,
            allowed=", ".join(able),
            hint=nearest(kind, list(able)) if kind not in names("backends") else "leave it out",
        )
        for kind in backends or ()
        if kind not in able
    ]
    if wrong:
        raise ConfigErrors(wrong)
    rows: list[JsonObject] = []
    failed: list[DrillyardError] = []
    for kind in dict.fromkeys(backends or able):
        variable = KEY_VARIABLE.format(kind.upper().replace("-", "_"))
        reference = key or (f"env:{variable}" if os.environ.get(variable) else None)
        revealed = None if reference is None else reveal(reference, "--key", secret=True)
        try:
            update = able[kind].fetch_prices(None if revealed is None else str(revealed))
        except DrillyardError as error:
            failed.append(error)
            continue
        path = prices_file(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(update.table, indent=1) + "\n"
        write_whole(path, text.encode(), "the price list")
        row: JsonObject = {
            "backend": kind,
            "prices_of": update.table["date"],
            "prices": update.prices,
            "missing": [*update.missing],
            "file": str(path),
        }
        rows.append(row)
        if not as_json:
            typer.echo(
                f"{kind}: {update.prices} prices of {update.table['date']}, kept in {path}"
                + (f"; none for {', '.join(update.missing)}" if update.missing else "")
            )
    if as_json:
        print_json([*rows])
    if failed:
        for other in failed[1:]:
            typer.echo(f"error: {other}", err=True)
        raise failed[0]
