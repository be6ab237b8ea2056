"""What commands share: options, opening stores, printing. Heavy imports wait inside functions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drillyard.errors import ConfigError, ConfigErrors, UserError
from drillyard.runs.locate import DEFAULT_STORE

if TYPE_CHECKING:
    from rich.console import Console

    from drillyard.findings import Finding
    from drillyard.spec.load import Loaded

FREE: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of a command that takes ``--name value`` for the file's parameters."""

FileArgument = Annotated[Path, typer.Argument(help="The experiment file: YAML, or JSON.")]
NameArgument = Annotated[
    str | None,
    typer.Argument(
        help="Name of the experiment, or its place (gs://bucket/name); default: the only one, or "
        "newest."
    ),
]
RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME|RUN]",
        help="An experiment, a run (t0001-s1), NAME/RUN, or gs://bucket/NAME[/RUN]; default: "
        "the newest experiment.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value: --set train.steps=5000."),
]
GlobalsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--globals", metavar="FILE|JSON", help="Values over those of the file; later wins."
    ),
]
TunableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tunable",
        metavar="NAME=VALUE",
        help="Value of an active tunable instead of its default; may be repeated.",
    ),
]
OnOption = Annotated[
    str | None,
    typer.Option("--on", metavar="BACKEND", help="Backend instead of the file's: gcp, gcp/prod."),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="DRILLYARD_STORE",
        show_default=DEFAULT_STORE,
        help="Where results are kept.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
OwnNameOption = Annotated[
    str | None, typer.Option("--name", help="Experiment name instead of the file's.")
]
OfflineOption = Annotated[
    bool,
    typer.Option("--offline-ok", help="Go on when the tracking server cannot be reached."),
]


def parameters(context: typer.Context) -> dict[str, str]:
    """What is left of a command line as parameters: ``--name value`` or ``--name=value``.

    Args:
        context: Of a command with ``FREE`` settings.

    Raises:
        ConfigError: A value without a name, or a name without a value.
    """
    from drillyard.registry import nearest

    options = _options(context)
    found: dict[str, str] = {}
    seen: dict[str, str] = {}
    words = list(context.args)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise ConfigError(
                "stands alone",
                file="command line",
                value=word,
                allowed="--name value",
                hint="parameters follow the file: drillyard check FILE --name value",
            )
        name, sign, value = word[2:].partition("=")
        if not sign:
            if not words or words[0].startswith("--"):
                raise ConfigError(
                    f"no such option --{name}, and as a parameter it has no value",
                    file="command line",
                    value=word,
                    allowed="--name value",
                    hint=nearest(name, options),
                )
            value = words.pop(0)
        first = seen.setdefault(name.replace("-", "_"), value)
        if first != value:
            raise ConfigError(
                f"is given twice, differently: {first} and {value}",
                file="command line",
                field=f"--{name}",
                value=value,
                allowed="one value a parameter",
                hint=f"keep one of --{name} {first} and --{name} {value}",
            )
        found[name] = value
    return found


def no_parameters(context: typer.Context) -> None:
    """Refuse ``--name value`` where there is no file that could declare it.

    Args:
        context: Of a command with ``FREE`` settings.

    Raises:
        ConfigError: There is one.
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
    """Tell what is wrong with ``--on`` and ``--name`` by these words.

    They are laid over the file as a ``--set``, which is not what the user wrote.

    Args:
        on: ``--on``.
        name: ``--name``.
    """
    typed = {"backend": "--on"} if on else {}
    typed |= {"name": "--name"} if name else {}
    try:
        yield
    except UserError as error:
        raise _said_as(error, typed) from error.__cause__


def _said_as(error: UserError, typed: dict[str, str]) -> UserError:
    if isinstance(error, ConfigErrors):
        return ConfigErrors([_one_said_as(one, typed) for one in error.errors])
    return _one_said_as(error, typed) if isinstance(error, ConfigError) else error


def _one_said_as(error: ConfigError, typed: dict[str, str]) -> ConfigError:
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
    """Load the experiment that a command line names.

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
    """A console: colours on a terminal, plain text elsewhere, never wrapped in a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def print_json(value: Any) -> None:
    """A JSON document on stdout; NaN and infinities as null."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as a program reads it."""
    return {
        "severity": finding.severity.value,
        "subject": finding.subject,
        "message": finding.message,
        "fix": finding.fix,
    }


def print_findings(findings: Sequence[Finding]) -> None:
    """Findings as lines: a mark, what was looked at, what was found, how to mend it."""
    from rich.markup import escape

    marks = {"ok": "[green]ok  [/]", "warning": "[yellow]note[/]", "error": "[red]FAIL[/]"}
    width = max((len(f.subject) for f in findings), default=0)
    out = console()
    # A terminal goes on below where the text began; in a file each line stays whole.
    room = max(20, out.width - width - 8) if out.is_terminal else 0
    for finding in findings:
        # What is good has nothing to mend, and may still be otherwise.
        label = "" if finding.severity.value == "ok" else "fix: "
        texts = [escape(line) for line in _lines(finding.message, room)] or [""]
        if finding.fix:
            texts += [f"[dim]{escape(line)}[/]" for line in _lines(label + finding.fix, room)]
        head = f"{marks[finding.severity.value]}  {escape(finding.subject.ljust(width))}"
        for text in texts:
            out.print(f"{head}  {text}", soft_wrap=True)
            head = f"      {'':{width}}"


def _lines(text: str, room: int) -> list[str]:
    """A text's lines, broken between words where there is room for so many characters only."""
    import textwrap

    if not room:
        return text.splitlines()
    wrap = textwrap.TextWrapper(room, break_long_words=False, break_on_hyphens=False)
    return [part for line in text.splitlines() for part in wrap.wrap(line) or [""]]
