"""``drillyard record``: records demonstrations for imitation learning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.assess import PolicyOption
from drillyard.cli.common import JsonOption, StoreOption, print_json
from drillyard.cli.evaluate import SeedOption

if TYPE_CHECKING:
    from drillyard.learners.demonstrations import Demonstrations


WhatArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME|NAME/RUN",
        help="Experiment file, for a baseline; or a trained experiment or run.",
    ),
]


def record(
    what: WhatArgument,
    policy: PolicyOption = "agent",
    episodes: Annotated[
        int, typer.Option("--episodes", min=1, max=100_000, help="Number of episodes.")
    ] = 50,
    seed: SeedOption = 1,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.npz", help="File to write.")] = Path(
        "demonstrations.npz"
    ),
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play episodes and save every observation and action, for `learner.clone_from`."""
    from drillyard.errors import ConfigError, UserError
    from drillyard.system.output_files import check_file, write_whole

    if out.suffix != ".npz":
        raise ConfigError(
            "is not a name for demonstrations",
            file="--out",
            value=str(out),
            allowed="a name that ends with .npz",
            hint=f"--out {out}.npz",
        )
    if out.exists():
        raise UserError(
            f"{out} already exists; no episode was played", hint="choose another name with --out"
        )
    check_file(out, "--out")
    demonstrations, mean = _played(what, policy, episodes, seed, store)
    write_whole(out, demonstrations.to_bytes(), "--out")
    if as_json:
        print_json(
            {
                "policy": policy,
                "episodes": episodes,
                "steps": len(demonstrations.actions),
                "mean_return": mean,
                "file": str(out),
            }
        )
        return
    typer.echo(
        f"{episodes} episodes of {policy}, {len(demonstrations.actions):,} steps, mean return "
        f"{mean:.2f}\nwrote {out}"
    )


def _played(
    what: str, policy: str, episodes: int, seed: int, store: str | None
) -> tuple[Demonstrations, float]:
    """Plays the episodes; returns demonstrations and their mean return."""
    from drillyard.evaluation.request import AGENT, no_agent, world
    from drillyard.learners.demonstrations import play
    from drillyard.policies.resolve import playable
    from drillyard.spec.load import load
    from drillyard.system.import_path import working_in

    if policy != AGENT:
        loaded = load(Path(what))
        with working_in(loaded.folder):
            return play(world(loaded.spec), policy, episodes, seed)
    if Path(what).is_file():
        raise no_agent("record")
    with playable(what, store) as player:
        return play(player.simulator, player, episodes, seed)
