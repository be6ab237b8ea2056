"""``drillyard logs``: prints the output of the runs' processes, each line once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, RunArgument, StoreOption, print_json
from drillyard.runs.locate import find_runs

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox
    from drillyard.runs.logs import Tail
    from drillyard.system.clock import Clock

POLL_S = 1.0


def logs(
    what: RunArgument = None,
    store: StoreOption = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Follow the logs until the runs have ended.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the log of each phase's newest attempt.

    If a machine failed before its worker was ready, print the log that the provider kept.

    `--json` prints a list of `{"run", "line"}` (or `"lease"`); with `--follow`, one per line.
    """
    import json

    from drillyard.runs.logs import Tail
    from drillyard.system.redaction import redact

    mailbox, runs = find_runs(what, store)
    tails = [Tail(mailbox, run) for run in runs]
    printed = follow_all(mailbox, tails) if follow else _once(tails)
    kept = [("lease", lease, line) for lease, line in machines(mailbox)]
    lines = chain(kept, (("run", run, line) for run, line in printed))
    if as_json and not follow:
        print_json([{kind: name, "line": redact(line)} for kind, name, line in lines])
        return
    for kind, name, line in lines:
        if as_json:
            typer.echo(json.dumps({kind: name, "line": redact(line)}, ensure_ascii=False))
        else:
            typer.echo(redact(line if kind == "run" and len(runs) == 1 else f"{name} | {line}"))


def machines(mailbox: Mailbox) -> Iterator[tuple[str, str]]:
    """Yields (lease, line) of machines whose worker was never ready.

    Args:
        mailbox: The experiment.
    """
    from drillyard.backend import open_backend
    from drillyard.errors import DrillyardError
    from drillyard.leases.ledger import Ledger
    from drillyard.leases.machine_logs import lines, silent

    for entry in Ledger(mailbox).entries():
        lease = entry.lease
        if not silent(mailbox, lease.lease_id):
            continue
        try:
            backend = open_backend(lease.backend, lease.order.settings) if entry.open else None
            texts = list(lines(mailbox, backend, lease))
        except DrillyardError as error:
            texts = [f"(the log that {lease.backend} kept cannot be read: {error})"]
        yield from ((lease.lease_id, line) for line in texts)


def _once(tails: list[Tail]) -> Iterator[tuple[str, str]]:
    for tail in tails:
        for line in tail.new():
            yield tail.run, line


def follow_all(
    mailbox: Mailbox, tails: list[Tail], clock: Clock | None = None, poll_s: float = POLL_S
) -> Iterator[tuple[str, str]]:
    """Yields (run, line) as they appear, until every run has ended.

    Args:
        mailbox: The experiment.
        tails: One for each run.
        clock: Waits between two polls.
        poll_s: Seconds between two polls.
    """
    from drillyard.mailbox.ticket_states import StateCache, run_status, ticket_states
    from drillyard.system.clock import SYSTEM

    clock, cache, never = clock or SYSTEM, StateCache(), threading.Event()
    while True:
        # Read the states first, so that lines written before the end are still read.
        states = ticket_states(mailbox, cache)
        over = all(run_status(states, tail.run).ended for tail in tails)
        yield from _once(tails)
        if over:
            return
        clock.wait(never, poll_s)
