"""Options and printing that commands share. Heavy imports wait inside functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli import completing
from drillyard.runs.locate import DEFAULT_STORE
from drillyard.system.terminal import console

if TYPE_CHECKING:
    from drillyard.findings import Finding

FileArgument = Annotated[
    Path,
    typer.Argument(help="Experiment file, YAML or JSON.", autocompletion=completing.files),
]
OptionalFileArgument = Annotated[
    Path | None,
    typer.Argument(help="Experiment file, YAML or JSON.", autocompletion=completing.files),
]
NameArgument = Annotated[
    str | None,
    typer.Argument(
        help="Name of the experiment, or its location (gs://bucket/name); default: the newest "
        "one.",
        autocompletion=completing.experiments,
    ),
]
RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME|RUN]",
        help="Experiment, run (t0001-s1), NAME/RUN, or gs://bucket/NAME[/RUN]; default: "
        "the newest experiment.",
        autocompletion=completing.runs,
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="DRILLYARD_STORE",
        show_default=DEFAULT_STORE,
        help="Store that keeps the results.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
OfflineOption = Annotated[
    bool,
    typer.Option("--offline-ok", help="Continue if the tracking server cannot be reached."),
]


# -- printing -------------------------------------------------------------------------------------


def print_json(value: object) -> None:
    """Prints a JSON document on stdout, with null for NaN and infinities."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value


def finding_json(finding: Finding) -> dict[str, str | None]:
    """Returns a finding as JSON."""
    return {
        "severity": finding.severity.value,
        "subject": finding.subject,
        "message": finding.message,
        "fix": finding.fix,
    }


def print_findings(findings: Sequence[Finding]) -> None:
    """Prints findings as lines: severity, subject, message, fix."""
    from rich.markup import escape

    marks = {"ok": "[green]ok  [/]", "warning": "[yellow]warn[/]", "error": "[red]FAIL[/]"}
    width = max((len(f.subject) for f in findings), default=0)
    out = console()
    # A terminal wraps under the start of the text; in a file each line stays whole.
    columns = max(20, out.width - width - 8) if out.is_terminal else 0
    for finding in findings:
        # A finding without a problem can still carry advice, which is not a fix.
        label = "" if finding.severity.value == "ok" else "fix: "
        texts = [escape(line) for line in _lines(finding.message, columns)] or [""]
        if finding.fix:
            texts += [f"[dim]{escape(line)}[/]" for line in _lines(label + finding.fix, columns)]
        head = f"{marks[finding.severity.value]}  {escape(finding.subject.ljust(width))}"
        for text in texts:
            out.print(f"{head}  {text}", soft_wrap=True)
            head = f"      {'':{width}}"


def _lines(text: str, columns: int) -> list[str]:
    """Returns the lines of a text, wrapped between words; 0 columns: not wrapped."""
    import textwrap

    if not columns:
        return text.splitlines()
    wrap = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False)
    return [part for line in text.splitlines() for part in wrap.wrap(line) or [""]]
