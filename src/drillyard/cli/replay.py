"""``drillyard replay``: replays the episode in which a simulator failed."""

from __future__ import annotations

from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json


def replay(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Run (t0001-s1), NAME/RUN, or NAME if one of its runs failed."
        ),
    ],
    episode: Annotated[
        int | None,
        typer.Option(
            "--episode", min=1, help="Another recorded episode; default: the failed one."
        ),
    ] = None,
    to: Annotated[
        int | None,
        typer.Option("--to", min=0, help="Last step to replay; default: the one that failed."),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Stop in the debugger (pdb) just before that step.")
    ] = False,
    limit_s: Annotated[
        float,
        typer.Option(
            "--limit", min=1.0, metavar="SECONDS", help="Longest replay of a run that hung."
        ),
    ] = 60.0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the episode in which a simulator failed, with its recorded actions."""
    from drillyard.cli import replaying
    from drillyard.errors import misused

    if debug and as_json:
        raise misused(
            "cannot be combined with --json",
            "--debug",
            allowed="one of the two",
            hint="the debugger talks to you on the terminal: leave out --json",
        )
    answer = replaying.answer(run, store, replaying.Wanted(episode, to, debug, limit_s))
    if as_json:
        print_json(answer.to_json())
    else:
        for line in answer.lines():
            typer.echo(line)
    raise typer.Exit(answer.exit_code)
