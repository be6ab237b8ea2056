"""``drillyard doctor``: checks whether this machine can run experiments."""

from __future__ import annotations

from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, finding_json, print_findings, print_json
from drillyard.runs.locate import store_url


def doctor(
    store: StoreOption = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="BACKEND",
            help="Also check this backend: login, permissions, quota. Repeatable.",
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Also write, read and delete one object in the store."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the versions, store, disk, git, Prefect, MLflow and backends of this machine."""
    from drillyard.checks.doctor import examine
    from drillyard.findings import Severity
    from drillyard.registry import load

    for text in on or []:
        load("backends", text.partition("/")[0])  # a typing error is not a finding
    findings = examine(store_url(store), on or [], write=write)
    ok = all(f.severity is not Severity.ERROR for f in findings)
    if as_json:
        print_json({"ok": ok, "findings": [finding_json(f) for f in findings]})
    else:
        print_findings(findings)
    if not ok:
        raise typer.Exit(4)
