"""``drillyard promote``: a bundle into MLflow's registry, champion when it is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, print_json, store_url
from drillyard.cli.evaluate import EpisodesOption, SeedOption


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("promote")(promote)


def promote(
    bundle: Annotated[Path, typer.Argument(help="An ONNX bundle, made by `drillyard export`.")],
    name: Annotated[str, typer.Option("--name", help="Of the registered model.")],
    episodes: EpisodesOption = 50,
    seed: SeedOption = 1,
    margin: Annotated[
        float, typer.Option("--margin", help="By how much its return has to be higher.")
    ] = 0.0,
    tracking: Annotated[
        str, typer.Option("--tracking", help="MLflow's URI; `auto`: as experiments have it.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Register a policy; champion when it beats the one there is on the same episodes."""
    from drillyard.checking import importable
    from drillyard.errors import ConfigError
    from drillyard.tracking.uris import resolve_uri

    uri = resolve_uri(tracking, store_url(None))
    if uri is None:
        raise ConfigError("there is no registry: a bucket cannot hold a database",
                          file="command line", field="--tracking", value=tracking,
                          allowed="a URI of MLflow", hint="name a server")  # fmt: skip
    with importable(Path.cwd()):
        from drillyard.policies import champions

        made = champions.promote(bundle, name, uri, episodes=episodes, seed=seed, margin=margin)
    if as_json:
        print_json(made.to_json())
        return
    found = made.comparison
    if found is not None:
        low, high = found.interval
        typer.echo(
            f"version {made.version} against champion {made.champion} on {found.episodes} fresh "
            f"episodes: {found.challenger:.2f} and {found.champion:.2f}; difference "
            f"{found.difference:.2f} (95 %: {low:.2f} to {high:.2f}), margin {found.margin:g}"
        )
    typer.echo(
        f"{name}: version {made.version} is champion" if made.promoted
        else f"{name}: version {made.champion} stays champion"
    )  # fmt: skip
