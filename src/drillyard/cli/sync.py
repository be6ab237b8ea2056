"""``drillyard sync``: sends missing data to the tracking server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption
from drillyard.errors import UserError
from drillyard.system.durations import duration

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox


UriOption = Annotated[
    str | None,
    typer.Option("--uri", metavar="URI", help="Tracking server that replaces the experiment's."),
]


def sync(
    name: NameArgument = None,
    store: StoreOption = None,
    uri: UriOption = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Give up after this long.")
    ] = 600.0,
    json_: JsonOption = False,
) -> None:
    """Send missing curves, parameters and files to MLflow and the other trackers.

    Nothing is sent twice, even after an interruption.
    """
    from dataclasses import asdict

    from drillyard.cli.common import print_json
    from drillyard.errors import ControlPlaneError
    from drillyard.runs.locate import open_mailbox
    from drillyard.tracking import Mirror, behind
    from drillyard.tracking.tracker import MLFLOW, Target

    mailbox = open_mailbox(name, store)
    targets = behind.targets(mailbox) if uri is None else [Target(MLFLOW, uri)]
    if not targets:
        raise _without_server(mailbox)
    reports = []
    for target in targets:
        mirror = Mirror(mailbox, target.address, tracker=target.tracker, on_warning=lambda _: None)
        report = mirror.sync_once(timeout)
        reports.append(report)
        if report.complete and target in behind.targets(mailbox):
            behind.forget(mailbox, target.tracker)
        if report.complete and not json_:
            typer.echo(
                f"{mailbox.experiment}: {report.points} points and {report.artifacts} files of "
                f"{report.runs} runs sent to {report.uri} in {duration(report.wall_s)}; "
                "it is up to date."
            )
            for line in filter(None, (report.registered, report.link)):
                typer.echo(line)
    if json_:
        others = {"others": [asdict(entry) for entry in reports[1:]]} if reports[1:] else {}
        print_json({**asdict(reports[0]), **others})
    late = [report for report in reports if not report.complete]
    if late:
        reasons = "; ".join(f"{entry.uri} is not up to date: {entry.error}" for entry in late)
        raise ControlPlaneError(reasons, hint=late[0].hint)


def _without_server(mailbox: Mailbox) -> UserError:
    from drillyard.documents.json_types import as_object

    setting = as_object(mailbox.experiment_record().spec.get("tracking")).get("mlflow")
    why = "tracking is off in its file" if setting is None else "its store is not local"
    return UserError(
        f"no tracking server for {mailbox.experiment!r}: {why}",
        hint="drillyard sync NAME --uri http://…, or set MLFLOW_TRACKING_URI",
    )
