"""``drillyard evaluate``: plays a stored policy on new episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json

EpisodesOption = Annotated[
    int, typer.Option("--episodes", min=2, max=100_000, help="Number of new episodes.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the episodes.")]


PolicyArgument = Annotated[
    str,
    typer.Argument(
        help="Bundle's folder, run (NAME/t0001-s1), NAME (its best run), or models:/NAME@champion."
    ),
]
SimulatorOption = Annotated[
    str | None,
    typer.Option("--simulator", help="Another simulator with the same spaces; default: its own."),
]


def evaluate(
    policy: PolicyArgument,
    simulator: SimulatorOption = None,
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
    from drillyard.system.tables import Table
    from drillyard.system.terminal import print_grid

    def interval(name: str) -> str:
        ends = rows[name]["ci95"]
        return "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"

    title = f"{player.name} on {sim.id}, {episodes} new episodes (seed {seed})"
    table = Table(title, sorted(rows, key=lambda name: -rows[name]["mean_return"]))
    table.text("policy", str)
    table.number("mean return", lambda name: f"{rows[name]['mean_return']:.2f}")
    table.number("95 % over episodes", interval)
    print_grid(table.number("mean length", lambda name: f"{rows[name]['mean_length']:.1f}"))
