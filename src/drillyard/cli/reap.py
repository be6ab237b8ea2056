"""``drillyard reap`` and ``drillyard protect``: delete useless leases, protect others."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json
from drillyard.errors import misused

if TYPE_CHECKING:
    from drillyard.documents.json_types import JsonObject
    from drillyard.leases.reaper import Outcome, Report
    from drillyard.system.tables import Grid

OnOption = Annotated[
    list[str] | None,
    typer.Option("--on", metavar="BACKEND", help="Only this backend (gcp, gcp/prod). Repeatable."),
]
_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>s|min|h|d)\Z")
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def reap_command(
    on: OnOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted; delete nothing.")
    ] = False,
    grace: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Keep leases that are unused for less than this time: 10min, 1h."
        ),
    ] = "10min",
    as_json: JsonOption = False,
) -> None:
    """Delete drillyard's unused machines, found by label; never foreign or protected ones."""
    from drillyard.leases.reaper import reap
    from drillyard.tracking import mirrors

    report = reap(
        on,
        dry_run=dry_run,
        grace_s=seconds(grace, "--grace"),
        say=lambda line: typer.echo(line, err=True),
    )
    tracking = [] if dry_run else mirrors.catch_up()
    if as_json:
        print_json({**as_dict(report, dry_run), "tracking": [*tracking]})
    else:
        show(report, dry_run)
        for line in tracking:
            typer.echo(line)
    if not report.good:
        raise typer.Exit(4)


def as_dict(report: Report, dry_run: bool) -> JsonObject:
    """Returns the report as JSON."""
    return {
        "schema_version": 1,
        "dry_run": dry_run,
        "leases": [
            {
                "lease": o.lease.lease_id,
                "backend": o.lease.backend,
                "experiment": o.lease.order.experiment,
                "store": o.lease.order.store_url,
                "verdict": o.judgement.verdict.value,
                "reason": o.judgement.reason,
                "deleted": o.deleted,
                "problem": o.problem,
                "failures": o.failures,
            }
            for o in report.outcomes
        ],
        "settled": [*report.settled],
        "problems": {**report.problems},
    }


def show(report: Report, dry_run: bool) -> None:
    """Prints one line for each lease, and the problems."""
    if report.outcomes:
        from drillyard.system.terminal import print_grid

        print_grid(grid(report, dry_run))
    else:
        typer.echo("the providers list nothing of drillyard's")
    for lease in report.settled:
        typer.echo(f"{lease}: the provider no longer lists it; its ledger entry was closed")
    for backend, problem in report.problems.items():
        typer.echo(f"{backend}: cannot be listed: {problem}", err=True)
    for failure in report.undeletable:
        typer.echo(
            f"{failure.lease.lease_id}: deleting failed {failure.failures} times: "
            f"{failure.problem}",
            err=True,
        )


def grid(report: Report, dry_run: bool) -> Grid:
    """Returns one row for each lease."""
    from drillyard.system.tables import Table

    table = Table("leases", report.outcomes)
    table.text("lease", lambda o: o.lease.lease_id)
    table.text("backend", lambda o: o.lease.backend)
    table.text("experiment", lambda o: o.lease.order.experiment)
    table.text("verdict", lambda o: o.judgement.verdict.value)
    table.text("because", lambda o: o.judgement.reason)
    return table.text("done", lambda o: _deed(o, dry_run))


def _deed(outcome: Outcome, dry_run: bool) -> str:
    if outcome.deleted is None:
        expired = outcome.judgement.verdict.value == "expired"
        return "would be deleted" if expired and dry_run else "left alone"
    return "deleted" if outcome.deleted else f"NOT deleted: {outcome.problem}"


def protect_command(
    lease: Annotated[str, typer.Argument(help="Lease id: dy-… (see `drillyard cost`).")],
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="End of the protection: 2026-12-01T08:00 (UTC), or 12h from now."
        ),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Remove the protection.")] = False,
    store: StoreOption = None,
    on: OnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Protect a lease from `drillyard reap` for a while. Its time limit still applies."""
    from drillyard.leases.reaper.protecting import protect
    from drillyard.system.clock import SYSTEM

    if (until is None) != off:
        message, hint = "needs either --until TIME or --off", "drillyard protect LEASE --until 24h"
        raise misused(message, allowed="one of the two", hint=hint)
    now = SYSTEM.now()
    end = None if until is None else moment(until, now)
    where = protect(lease, end, store=store, on=on)
    if as_json:
        print_json({"lease": lease, "until": end, "where": where})
    elif end is None:
        typer.echo(f"{lease}: no longer protected ({', '.join(where)})")
    else:
        from drillyard.results import formatting

        typer.echo(f"{lease}: protected until {formatting.moment(end)} ({', '.join(where)})")


def seconds(text: str, option: str) -> float:
    """Parses a duration such as ``90s``, ``10min``, ``1.5h``, ``2d`` into seconds.

    Raises:
        ConfigError: The text is not a duration.
    """
    match = _SPAN.match(text.strip())
    if match is None:
        allowed = "a number with s, min, h or d"
        raise misused("is not a duration", option, text, allowed, "for example 10min")
    return float(match["number"]) * _UNITS[match["unit"]]


def moment(text: str, now: float) -> float:
    """Parses ISO 8601 (UTC by default) or a duration from now into epoch seconds.

    Raises:
        ConfigError: The text is neither, or the time is in the past.
    """
    try:
        if _SPAN.match(text.strip()):
            end = now + seconds(text, "--until")
        else:
            parsed = datetime.fromisoformat(text)
            end = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        end = 0.0
    if end <= now:
        raise misused(
            "is not a time in the future",
            "--until",
            text,
            allowed="a duration from now, or ISO 8601 in UTC",
            hint="for example 24h, or 2030-01-31T08:00",
        )
    return end
