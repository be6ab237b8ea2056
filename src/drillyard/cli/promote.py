"""``drillyard promote``: a bundle into MLflow's registry, champion when it is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json
from drillyard.cli.evaluate import EpisodesOption, SeedOption


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("promote")(promote)


def promote(
    policy: Annotated[
        str,
        typer.Argument(
            help="An ONNX bundle's folder, a run (NAME/t0001-s1), NAME: its best, or models:/…."
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Of the registered model.")],
    episodes: EpisodesOption = 50,
    seed: SeedOption = 1,
    margin: Annotated[
        float, typer.Option("--margin", help="By how much its return has to be higher.")
    ] = 0.0,
    tracking: Annotated[
        str, typer.Option("--tracking", help="MLflow's URI; `auto`: as experiments have it.")
    ] = "auto",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a policy; champion when it beats the one there is on the same episodes."""
    from drillyard.policies.model_registry import must_be_name
    from drillyard.policies.promotion import promote as decide
    from drillyard.policies.resolve import exported, registry
    from drillyard.statistics.comparing import MIN_PAIRS
    from drillyard.system.import_path import importable

    must_be_name(name)
    uri = registry(tracking, store)
    with importable(Path.cwd()), exported(policy, store) as folder:
        made = decide(folder, name, uri, episodes=episodes, seed=seed, margin=margin)
    if as_json:
        print_json(made.to_json())
        return
    found = made.comparison
    if found is not None:
        typer.echo(
            f"version {made.version} against champion {made.champion} on {found.episodes} fresh "
            f"episodes: {found.challenger:.2f} and {found.champion:.2f}; difference "
            f"{found.difference:.2f} (95 % interval: {found.sure}), margin {found.margin:g}"
            + (f"; fewer than {MIN_PAIRS} episodes decide nothing" * (found.episodes < MIN_PAIRS))
        )
    typer.echo(
        f"{name}: version {made.version} is champion"
        if made.promoted
        else f"{name}: version {made.champion} is champion already"
        if found is None
        else f"{name}: version {made.champion} stays champion"
    )
