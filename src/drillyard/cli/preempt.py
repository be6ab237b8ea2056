"""``drillyard simulate-preemption``: takes away a run's machine, to test recovery."""

from __future__ import annotations

from typing import Annotated

import typer

from drillyard.cli import completing
from drillyard.cli.common import JsonOption, StoreOption, print_json


def simulate_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Active run: t0001-s1, or NAME/t0001-s1.",
            autocompletion=completing.runs,
        ),
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the provider preempt the machine of a run, as it does with Spot machines.

    The run continues from its last checkpoint on another machine.
    """
    from drillyard.errors import NotFound
    from drillyard.leases.preemption import simulate_preemption
    from drillyard.runs.locate import find_runs

    mailbox, runs = find_runs(run, store)
    if len(runs) != 1:
        raise NotFound(f"{run!r} is not a run", hint="name a run; drillyard status lists them")
    taken = simulate_preemption(mailbox, runs[0])
    if as_json:
        print_json({"run": taken.run, "machine": taken.machine, "lease": taken.lease})
        return
    typer.echo(f"{taken.machine} (lease {taken.lease}) received a preemption notice; {taken.run}")
    typer.echo("continues on another machine, from its last checkpoint if there is one")
