"""``drillyard simulate-preemption``: take a run's machine away, to see that nothing is lost."""

from __future__ import annotations

from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("simulate-preemption")(simulate_command)


def simulate_command(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run that is worked on: t0001-s1, NAME/t0001-s1."),
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the provider take away the machine that works on a run, as it does with Spot machines.

    The run goes on from its last checkpoint on another machine.
    """
    from drillyard.errors import NotFound
    from drillyard.leases.preemption import simulate_preemption
    from drillyard.runs.locate import find_runs

    mailbox, runs = find_runs(run, store)
    if len(runs) != 1:
        raise NotFound(f"{run!r} is no run", hint="name one: drillyard status shows them")
    taken = simulate_preemption(mailbox, runs[0])
    if as_json:
        print_json({"run": taken.run, "machine": taken.machine, "lease": taken.lease})
        return
    typer.echo(f"{taken.machine} (lease {taken.lease}) is told that it is taken away; {taken.run}")
    typer.echo("goes on from its last checkpoint on another machine")
