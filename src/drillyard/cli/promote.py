"""``drillyard promote``: a bundle into MLflow's registry, champion when it is better."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json, store_url
from drillyard.cli.evaluate import EpisodesOption, SeedOption


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("promote")(promote)


def promote(
    policy: Annotated[
        str,
        typer.Argument(help="An ONNX bundle's folder, a run (NAME/t0001-s1), or NAME: its best."),
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
    from drillyard.checking import importable
    from drillyard.errors import ConfigError
    from drillyard.policies.champions import promote as decide
    from drillyard.tracking.registry import must_be_name
    from drillyard.tracking.uris import resolve_uri

    must_be_name(name)
    uri = resolve_uri(tracking, store_url(store))
    if uri is None:
        raise ConfigError("there is no registry: a bucket cannot hold a database",
                          file="command line", field="--tracking", value=tracking,
                          allowed="a URI of MLflow", hint="name a server")  # fmt: skip
    with importable(Path.cwd()), bundle_of(policy, store) as folder:
        made = decide(folder, name, uri, episodes=episodes, seed=seed, margin=margin)
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
        else f"{name}: version {made.champion} is champion already" if found is None
        else f"{name}: version {made.champion} stays champion"
    )  # fmt: skip


@contextmanager
def bundle_of(policy: str, store: str | None) -> Iterator[Path]:
    """The bundle that a command line names; of a run, one that is exported for the moment.

    Args:
        policy: A bundle's folder, a run, or an experiment: its best run.
        store: Where runs are.

    Raises:
        NotFound: There is no such policy.
        UserError: It cannot be exported; says why.
    """
    from drillyard.cli.logs import find
    from drillyard.policies.bundles import INDEX
    from drillyard.policies.choose import best_run
    from drillyard.policies.export import export
    from drillyard.policies.trained import trained
    from drillyard.results.collect import collect

    if Path(policy, INDEX).is_file():
        yield Path(policy)
        return
    mailbox, runs = find(policy, store)
    run = runs[0] if len(runs) == 1 else best_run(mailbox, runs)
    with tempfile.TemporaryDirectory(prefix="drillyard-promote-") as scratch:
        with trained(mailbox, run) as one:
            results = collect(mailbox, curves=False)
            export(one, "onnx", Path(scratch, "bundle"), results)
        yield Path(scratch, "bundle")
