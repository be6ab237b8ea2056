"""``drillyard assess``: plays a policy or a baseline from given initial conditions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drillyard.evaluation.assessment import Assessed, Request

PolicyOption = Annotated[
    str, typer.Option("--policy", help="`agent`, or a baseline: hold, random, module:Class.")
]
SHOWN = 20
"""The most episodes that the table shows."""


ConditionsOption = Annotated[
    Path,
    typer.Option(
        "--conditions",
        metavar="FILE",
        help="CSV, JSON or YAML file with a list of reset values.",
    ),
]
SuccessOption = Annotated[
    str,
    typer.Option(
        "--success",
        metavar="EXPRESSION",
        help="Condition on final states, episode_return, length, terminated, truncated.",
    ),
]
WhatArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|NAME/RUN|FILE",
        help="A trained experiment or run; or an experiment file, for a baseline.",
    ),
]


def assess(
    what: WhatArgument,
    conditions: ConditionsOption,
    policy: PolicyOption = "agent",
    which: Annotated[
        str,
        typer.Option(
            "--which", metavar="best|final", help="Policy of the agent: the best or the final one."
        ),
    ] = "best",
    max_steps: Annotated[
        int | None,
        typer.Option("--max-steps", min=1, help="End each episode after this many steps."),
    ] = None,
    success: SuccessOption = "",
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Number of parallel processes.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first episode.")] = 1,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder for the files.")
    ] = Path("assessment"),
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play an episode from each condition. Writes a page, and CSV files of results and steps."""
    from drillyard.evaluation.assessment import FILES, summary
    from drillyard.evaluation.assessment import assess as play_all
    from drillyard.evaluation.request import asked
    from drillyard.report.assessment import check_unused, write

    check_unused(out, "--out")
    request = asked(
        what,
        conditions,
        policy=policy,
        which=which,
        max_steps=max_steps,
        success=success,
        seed=seed,
        store=store,
    )
    episodes = play_all(request, workers)
    write(request, episodes, out, "--out")
    if as_json:
        print_json({**summary(episodes), "files": [str(out / name) for name in FILES]})
        return
    _print(request, episodes)
    typer.echo("\n" + "\n".join(f"wrote {out / name}" for name in FILES))


def _print(request: Request, episodes: Sequence[Assessed]) -> None:
    from drillyard.report.assessment import grid, verdict
    from drillyard.system.terminal import print_grid

    print_grid(grid(request, episodes[:SHOWN]))
    typer.echo(f"\n{verdict(episodes, max(0, len(episodes) - SHOWN))}")
