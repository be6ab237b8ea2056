"""``drillyard promote``: registers a bundle in MLflow, as champion if it is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json
from drillyard.cli.evaluate import EpisodesOption, SeedOption

RarestOption = Annotated[
    float,
    typer.Option(
        "--rarest-failure",
        min=0.001,
        max=0.5,
        help="Rarest failure that the episodes must show: 0.02 is one in 50, 149 episodes.",
    ),
]
PolicyArgument = Annotated[
    str,
    typer.Argument(
        help="ONNX bundle's folder, run (NAME/t0001-s1), NAME (its best run), or models:/…."
    ),
]
TrackingOption = Annotated[
    str,
    typer.Option("--tracking", help="MLflow's URI; `auto` is the one that experiments use."),
]


def promote(
    policy: PolicyArgument,
    name: Annotated[str, typer.Option("--name", help="Name of the registered model.")],
    episodes: EpisodesOption = 150,
    seed: SeedOption = 1,
    margin: Annotated[
        float, typer.Option("--margin", help="Smallest improvement of the return.")
    ] = 0.0,
    rarest: RarestOption = 0.02,
    tracking: TrackingOption = "auto",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a policy; make it champion if it beats the current one on the same episodes."""
    from drillyard.policies.model_registry import must_be_name
    from drillyard.policies.promotion import promote as decide
    from drillyard.policies.resolve import exported, registry
    from drillyard.system.import_path import importable

    must_be_name(name)
    uri = registry(tracking, store)
    with importable(Path.cwd()), exported(policy, store) as folder:
        promotion = decide(
            folder, name, uri, episodes=episodes, seed=seed, margin=margin, rarest=rarest
        )
    if as_json:
        print_json(promotion.to_json())
        return
    comparison = promotion.comparison
    if comparison is not None:
        tail = comparison.tail
        typer.echo(
            f"version {promotion.version} against champion {promotion.champion} on "
            f"{comparison.episodes} new episodes: {comparison.challenger:.2f} and "
            f"{comparison.champion:.2f}; difference {comparison.difference:.2f} "
            f"(95 % interval: {comparison.sure}), margin {comparison.margin:g}\n"
            f"worst tenth of the episodes: {tail.challenger:.2f} and {tail.champion:.2f}; "
            f"{tail.failures} below the champion's worst (with 95 % confidence at most "
            f"{100 * tail.at_most:.1f} % of all episodes)"
        )
        for text in comparison.obstacles:
            typer.echo(f"not promoted: {text}")
    typer.echo(
        f"{name}: version {promotion.version} is champion"
        if promotion.promoted
        else f"{name}: version {promotion.champion} is already champion"
        if comparison is None
        else f"{name}: version {promotion.champion} remains champion"
    )
