"""``drillyard evaluate``: a stored policy on fresh episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json

EpisodesOption = Annotated[
    int, typer.Option("--episodes", min=2, max=100_000, help="How many, all fresh.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Another one gives other episodes.")
]


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    policy: Annotated[
        str,
        typer.Argument(
            help="A bundle's folder, a run (NAME/t0001-s1), NAME: its best, or "
            "models:/NAME@champion."
        ),
    ],
    simulator: Annotated[
        str | None,
        typer.Option("--simulator", help="Another one of the same spaces; default: its own."),
    ] = None,
    episodes: EpisodesOption = 50,
    seed: SeedOption = 1,
    baselines: Annotated[
        list[str] | None, typer.Option("--baseline", help="Beside it; may be repeated.")
    ] = None,
    stochastic: Annotated[
        bool, typer.Option("--stochastic", help="With the policy's own randomness.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play episodes with a stored policy, and with baselines: mean return and interval."""
    from drillyard.policies.resolve import playable
    from drillyard.system.import_path import importable

    with importable(Path.cwd()), playable(policy, store) as found:
        from drillyard.policies import assess

        world = found.simulator
        if simulator is not None:
            world = world.model_copy(update={"id": simulator, "args": {}})
        lesson = found.lesson if simulator is None else {}
        planned = assess.plan(lesson, episodes, seed)
        played = {"agent": assess.play(found, planned, world, not stochastic)}
        played |= assess.beside(baselines or [], world, planned)
        rows = {name: assess.summary(p, lesson) for name, p in played.items()}
    if as_json:
        print_json({"policy": found.name, "simulator": world.id, "seed": seed, "policies": rows})
        return
    from drillyard.cli.output import print_grid
    from drillyard.results.table import Grid

    print_grid(
        Grid(
            f"{found.name} on {world.id}, {episodes} fresh episodes (seed {seed})",
            ("policy", "mean return", "95 % over episodes", "mean length"),
            tuple(_row(n, r) for n, r in sorted(rows.items(), key=lambda x: -x[1]["mean_return"])),
            frozenset({1, 2, 3}),
        )
    )


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    ends = one["ci95"]
    interval = "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
    return name, f"{one['mean_return']:.2f}", interval, f"{one['mean_length']:.1f}"
