"""``drillyard evaluate``: plays a stored policy on new episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

from drillyard.cli.common import JsonOption, StoreOption, print_json

EpisodesOption = Annotated[
    int, typer.Option("--episodes", min=2, max=100_000, help="Number of new episodes.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the episodes.")]


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    policy: Annotated[
        str,
        typer.Argument(
            help="Bundle's folder, run (NAME/t0001-s1), NAME (its best run), or "
            "models:/NAME@champion."
        ),
    ],
    simulator: Annotated[
        str | None,
        typer.Option(
            "--simulator", help="Another simulator with the same spaces; default: its own."
        ),
    ] = None,
    episodes: EpisodesOption = 50,
    seed: SeedOption = 1,
    baselines: Annotated[
        list[str] | None, typer.Option("--baseline", help="Baseline to compare with. Repeatable.")
    ] = None,
    stochastic: Annotated[
        bool,
        typer.Option("--stochastic", help="Sample actions instead of taking the most likely one."),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play episodes with a stored policy and with baselines: mean return and interval."""
    from drillyard.policies.resolve import playable
    from drillyard.system.import_path import importable

    with importable(Path.cwd()), playable(policy, store) as player:
        from drillyard.policies import assess

        sim = player.simulator
        if simulator is not None:
            sim = sim.model_copy(update={"id": simulator, "args": {}})
        lesson = player.lesson if simulator is None else {}
        planned = assess.plan(lesson, episodes, seed)
        played = {"agent": assess.play(player, planned, sim, not stochastic)}
        played |= assess.beside(baselines or [], sim, planned)
        rows = {name: assess.summary(p, lesson) for name, p in played.items()}
    if as_json:
        print_json({"policy": player.name, "simulator": sim.id, "seed": seed, "policies": rows})
        return
    from drillyard.cli.output import print_grid
    from drillyard.results.table import Grid

    print_grid(
        Grid(
            f"{player.name} on {sim.id}, {episodes} new episodes (seed {seed})",
            ("policy", "mean return", "95 % over episodes", "mean length"),
            tuple(
                _row(n, r["mean_return"], r["ci95"], r["mean_length"])
                for n, r in sorted(rows.items(), key=lambda x: -x[1]["mean_return"])
            ),
            frozenset({1, 2, 3}),
        )
    )


def _row(
    name: str, mean_return: float, ci95: Sequence[float] | None, mean_length: float
) -> tuple[str, ...]:
    interval = "" if ci95 is None else f"{ci95[0]:.2f} to {ci95[1]:.2f}"
    return name, f"{mean_return:.2f}", interval, f"{mean_length:.1f}"
