"""``drillyard check``: everything that can be verified before anything is rented."""

from __future__ import annotations

from typing import Annotated

import typer

from drillyard.cli.common import (
    FREE,
    FileArgument,
    GlobalsOption,
    JsonOption,
    OfflineOption,
    OwnNameOption,
    SetOption,
    StoreOption,
    TunableOption,
    finding_json,
    load_file,
    print_findings,
    print_json,
    store_url,
)


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("check", context_settings=FREE)(check_command)


def check_command(
    context: typer.Context,
    file: FileArgument,
    sets: SetOption = None,
    globals_: GlobalsOption = None,
    tunables: TunableOption = None,
    on: Annotated[str | None, typer.Option("--on", help="Another backend.")] = None,
    store: StoreOption = None,
    name: OwnNameOption = None,
    offline_ok: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Verify an experiment without running it: file, names, spaces, simulator, disk."""
    from drillyard.backend import Severity
    from drillyard.checking import check
    from drillyard.cli.failures import fields_of

    loaded = load_file(file, sets, globals_, context, on, tunables, name)
    findings = check(
        loaded, store=store_url(store, loaded.spec), offline_ok=offline_ok, speed=True
    )
    good = all(f.severity is not Severity.ERROR for f in findings)
    if as_json:
        print_json({
            "file": str(loaded.file), "name": loaded.spec.name, "ok": good,
            "findings": [finding_json(f) for f in findings],
            "errors": [fields_of(f.error) for f in findings if f.error is not None],
        })  # fmt: skip
    else:
        print_findings(findings)
        word = "can be run" if good else "cannot be run as it is"
        typer.echo(f"\n{loaded.spec.name}: {word}. Nothing was created.")
    if not good:
        errors = [f for f in findings if f.severity is Severity.ERROR]
        raise typer.Exit(4 if all(f.infrastructure for f in errors) else 2)
