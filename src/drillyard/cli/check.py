"""``drillyard check``: verifies an experiment before anything is rented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli import completing
from drillyard.cli.arguments import Arguments, with_arguments
from drillyard.cli.common import (
    JsonOption,
    OfflineOption,
    StoreOption,
    finding_json,
    print_findings,
    print_json,
)
from drillyard.runs.locate import store_of

if TYPE_CHECKING:
    from drillyard.findings import Finding
    from drillyard.spec.learning import SimulatorSpec


FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE|SIMULATOR",
        help="Experiment file, or a simulator: a built-in, a Gymnasium id, or module:Class.",
        autocompletion=completing.files,
    ),
]


@with_arguments()
def check_command(
    file: FileArgument,
    arguments: Arguments,
    store: StoreOption = None,
    offline_ok: OfflineOption = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE.svg|FILE.png",
            help="Draw one episode under the first baseline and one under random actions.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check an experiment without running it: file, names, spaces, simulator, disk."""
    from drillyard.checks.experiment import check, check_alone, is_simulator
    from drillyard.cli.exit_codes import fields_of
    from drillyard.spec.learning import SimulatorSpec

    if picture is not None:
        _check_picture(picture)
    if is_simulator(str(file)):
        arguments.no_values()
        simulator = SimulatorSpec(id=str(file))
        _report(str(file), check_alone(simulator), "is ready to train on", as_json)
        if picture is not None:
            _draw(simulator, "hold", picture, Path.cwd())
        return
    loaded = arguments.load(file)
    findings = check(loaded, store=store_of(loaded, store), offline_ok=offline_ok, speed=True)
    _report(
        loaded.spec.name,
        findings,
        "can be run",
        as_json,
        {
            "file": str(loaded.file),
            "errors": [fields_of(f.error) for f in findings if f.error is not None],
        },
    )
    if picture is not None and loaded.spec.simulator is not None:
        named = [b for b in loaded.spec.baselines if b != "random"]
        _draw(loaded.spec.simulator, named[0] if named else "hold", picture, loaded.folder)


def _report(
    name: str,
    findings: Sequence[Finding],
    success: str,
    as_json: bool,
    more: dict[str, object] | None = None,
) -> None:
    """Prints the findings and a verdict; raises ``typer.Exit`` if there are errors."""
    from drillyard.findings import Severity

    errors = [f for f in findings if f.severity is Severity.ERROR]
    warnings = sum(f.severity is Severity.WARNING for f in findings)
    if as_json:
        print_json(
            {
                "name": name,
                "ok": not errors,
                **(more or {}),
                "findings": [finding_json(f) for f in findings],
            }
        )
    else:
        print_findings(findings)
        verdict = "cannot be run" if errors else success
        typer.echo(f"\n{name}: {verdict}. Nothing was created.")
        if warnings and not errors:
            typer.echo(
                f"{warnings} warning{'s' * (warnings > 1)} above. The run can begin; consider "
                f"fixing {'them' if warnings > 1 else 'it'}."
            )
    if errors:
        raise typer.Exit(4 if all(f.infrastructure for f in errors) else 2)


def _check_picture(path: Path) -> None:
    from drillyard.errors import ConfigError
    from drillyard.system.output_files import check_file

    if path.suffix.lower() not in (".svg", ".png"):
        raise ConfigError(
            "is not a picture file",
            file="--picture",
            value=str(path),
            allowed="FILE.svg, FILE.png",
            hint="for example: --picture episode.svg",
        )
    check_file(path, "--picture")


def _draw(simulator: SimulatorSpec, baseline: str, path: Path, folder: Path) -> None:
    from drillyard.checks.experiment import guarded
    from drillyard.report.trial import trial_picture
    from drillyard.system.import_path import working_in
    from drillyard.system.output_files import writing

    with working_in(folder):
        picture = guarded(lambda: trial_picture(simulator, baseline))
    with writing(path, "--picture"):
        path.write_bytes(picture.svg if path.suffix.lower() == ".svg" else picture.png)
    typer.echo(f"wrote {path}: one episode under {baseline}; random actions in grey")
