"""Options and printing that commands share. Heavy imports wait inside functions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli import completing
from drillyard.errors import ConfigError, ConfigErrors, UserError
from drillyard.runs.locate import DEFAULT_STORE

if TYPE_CHECKING:
    from rich.console import Console

    from drillyard.findings import Finding
    from drillyard.spec.load import Loaded

FREE: dict[str, bool] = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of a command that accepts ``--name value`` for the file's parameters."""

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
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value: --set train.steps=5000."),
]
GlobalsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--globals",
        metavar="FILE|JSON",
        help="Values that replace those of the file. The last one wins.",
    ),
]
TunableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tunable",
        metavar="NAME=VALUE",
        help="Value of an active tunable instead of its default. Repeatable.",
    ),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="BACKEND",
        help="Backend that replaces the file's: gcp, gcp/prod.",
        autocompletion=completing.backends,
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
StepsOption = Annotated[
    str | None,
    typer.Option(
        "--steps",
        metavar="N",
        help="Training budget in environment steps: 50_000, 50k or 1.5M.",
    ),
]
SeedsOption = Annotated[
    str | None,
    typer.Option("--seeds", metavar="N", help="Seeds: 3 means 1, 2 and 3; or a list: 5,7."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
OwnNameOption = Annotated[
    str | None, typer.Option("--name", help="Experiment name that replaces the file's.")
]
OfflineOption = Annotated[
    bool,
    typer.Option("--offline-ok", help="Continue if the tracking server cannot be reached."),
]


def parameters(context: typer.Context) -> dict[str, str]:
    """Parses the rest of a command line as parameters: ``--name value`` or ``--name=value``.

    Args:
        context: Context of a command with ``FREE`` settings.

    Raises:
        ConfigError: A value without a name, or a name without a value.
    """
    from drillyard.registry import nearest

    options = _options(context)
    values: dict[str, str] = {}
    seen: dict[str, str] = {}
    arguments = list(context.args)
    while arguments:
        argument = arguments.pop(0)
        if not argument.startswith("--") or len(argument) < 3:
            raise ConfigError(
                f"unexpected argument {argument!r}",
                file="command line",
                allowed="--name value",
                hint="pass parameters by name: drillyard check FILE --name value",
            )
        name, sign, value = argument[2:].partition("=")
        if not sign:
            if not arguments or arguments[0].startswith("--"):
                raise ConfigError(
                    f"there is no option --{name}, and the parameter --{name} has no value",
                    file="command line",
                    value=argument,
                    allowed="--name value",
                    hint=nearest(name, options),
                )
            value = arguments.pop(0)
        first = seen.setdefault(name.replace("-", "_"), value)
        if first != value:
            raise ConfigError(
                f"has two different values: {first} and {value}",
                file="command line",
                field=f"--{name}",
                value=value,
                allowed="one value for each parameter",
                hint=f"keep either --{name} {first} or --{name} {value}",
            )
        values[name] = value
    return values


def no_parameters(context: typer.Context) -> None:
    """Refuses ``--name value`` where no file can declare a parameter.

    Args:
        context: Context of a command with ``FREE`` settings.

    Raises:
        ConfigError: A parameter was given.
    """
    from drillyard.registry import nearest

    for name, value in parameters(context).items():
        raise ConfigError(
            "no such option",
            file="command line",
            field=f"--{name}",
            value=value,
            hint=nearest(name, _options(context)),
        )


def _options(context: typer.Context) -> list[str]:
    return [o.lstrip("-") for p in context.command.params for o in p.opts if o[:2] == "--"]


@contextmanager
def as_typed(on: str | None, name: str | None) -> Iterator[None]:
    """Lets errors about ``--on`` and ``--name`` name these options.

    Both are applied as a ``--set``, which is not what the user typed.

    Args:
        on: ``--on``.
        name: ``--name``.
    """
    typed = {"backend": "--on"} if on else {}
    typed |= {"name": "--name"} if name else {}
    try:
        yield
    except UserError as error:
        raise _with_option(error, typed) from error.__cause__


def _with_option(error: UserError, typed: dict[str, str]) -> UserError:
    if isinstance(error, ConfigErrors):
        return ConfigErrors([_field_as_option(e, typed) for e in error.errors])
    return _field_as_option(error, typed) if isinstance(error, ConfigError) else error


def _field_as_option(error: ConfigError, typed: dict[str, str]) -> ConfigError:
    if error.file == "--set" and error.field in typed:
        return error.but(file="command line", field=typed[error.field])
    return error


def load_file(
    file: Path,
    sets: Sequence[str] | None = None,
    globals_: Sequence[str] | None = None,
    context: typer.Context | None = None,
    on: str | None = None,
    tunables: Sequence[str] | None = None,
    name: str | None = None,
) -> Loaded:
    """Loads the experiment that a command line names.

    Args:
        file: The file.
        sets: ``--set``.
        globals_: ``--globals``.
        context: For ``--name value`` parameters.
        on: ``--on``: the backend.
        tunables: ``--tunable``.
        name: ``--name``: of the experiment.

    Raises:
        UserError: The file or the command line is wrong.
    """
    from drillyard.spec.load import load

    all_sets = [
        *(sets or []),
        *([f"name={name}"] if name else []),
        *([f"backend={on}"] if on else []),
    ]
    with as_typed(on, name):
        return load(
            file,
            sets=all_sets,
            globals_=globals_ or [],
            values=parameters(context) if context else {},
            tunables=tunables or [],
        )


# -- printing -------------------------------------------------------------------------------------


def console(stderr: bool = False) -> Console:
    """Returns a console: colours on a terminal, plain text elsewhere, unwrapped in a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


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


def confirm(question: str, yes: bool) -> None:
    """Ask, unless told not to.

    Args:
        question: What is asked.
        yes: Do not ask.

    Raises:
        UserError: There is no terminal to ask on, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(
            "nothing was done: there is no terminal to ask on",
            hint="pass --yes",
        )
    if not typer.confirm(question, err=True):
        raise UserError("nothing was done", hint="answer y, or pass --yes")
