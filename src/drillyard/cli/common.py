"""What commands share: options, opening stores, printing. Heavy imports wait inside functions."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drillyard.errors import ConfigError, NotFound, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from drillyard.findings import Finding
    from drillyard.mailbox import Mailbox, Store
    from drillyard.spec import ExperimentSpec
    from drillyard.spec.load import Loaded

DEFAULT_STORE = "./drillyard-runs"
_EXTRAS = {"gs": "gcs", "az": "blob", "sftp": "ssh"}
"""Which extra brings the packages for a scheme of stores."""
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
        "--tunable", metavar="NAME=VALUE",
        help="Value of an active tunable instead of its default; may be repeated.",
    ),
]  # fmt: skip
OnOption = Annotated[
    str | None,
    typer.Option("--on", metavar="BACKEND", help="Backend instead of the file's: gcp, gcp/prod."),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", envvar="DRILLYARD_STORE", show_default=DEFAULT_STORE,
        help="Where results are kept.",
    ),
]  # fmt: skip
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
                "stands alone", file="command line", value=word, allowed="--name value",
                hint="parameters follow the file: drillyard check FILE --name value",
            )  # fmt: skip
        name, sign, value = word[2:].partition("=")
        if not sign:
            if not words or words[0].startswith("--"):
                raise ConfigError(
                    f"no such option --{name}, and as a parameter it has no value",
                    file="command line", value=word, allowed="--name value",
                    hint=nearest(name, options),
                )  # fmt: skip
            value = words.pop(0)
        first = seen.setdefault(name.replace("-", "_"), value)
        if first != value:
            raise ConfigError(
                f"is given twice, differently: {first} and {value}", file="command line",
                field=f"--{name}", value=value, allowed="one value a parameter",
                hint=f"keep one of --{name} {first} and --{name} {value}",
            )  # fmt: skip
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
        raise ConfigError("no such option", file="command line", field=f"--{name}", value=value,
                          hint=nearest(name, _options(context)))  # fmt: skip


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
        for one in getattr(error, "errors", [error]):
            if getattr(one, "file", "") == "--set" and one.field in typed:
                one.file, one.field = "command line", typed[one.field]
        raise


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
        *(sets or []), *([f"name={name}"] if name else []), *([f"backend={on}"] if on else [])
    ]  # fmt: skip
    with as_typed(on, name):
        return load(
            file,
            sets=all_sets,
            globals_=globals_ or [],
            values=parameters(context) if context else {},
            tunables=tunables or [],
        )


def store_url(store: str | None, spec: ExperimentSpec | None = None) -> str:
    """The store's URL: the option, DRILLYARD_STORE, the backend's own, or ``./drillyard-runs``.

    Args:
        store: ``--store``.
        spec: What is to be run, where that is known: the machines of some backends reach no
            folder of this machine, and such a backend names a store of its own.

    Raises:
        ConfigError: A URL that is dangerous or of an unknown scheme.
        PluginError: The packages for its scheme are not installed.
    """
    from drillyard.spec.semantics import check_store_url
    from drillyard.system.optional_packages import must_have

    given = store or os.environ.get("DRILLYARD_STORE")
    url = given or (spec and _backend_store(spec)) or DEFAULT_STORE
    try:
        check_store_url(url)
    except ConfigError as error:
        source = "--store" if store else "DRILLYARD_STORE"
        error.file = source if given else f"store of backend {spec.backend}" if spec else None
        raise
    scheme = url.partition("://")[0]
    must_have(_EXTRAS.get(scheme, ""), f"a store at {scheme}://")
    return url


def _backend_store(spec: ExperimentSpec) -> str | None:
    from drillyard.backend import open_backend
    from drillyard.registry import load

    kind = spec.backend.partition("/")[0]
    if not hasattr(load("backends", kind), "store_url"):
        return None  # nothing is opened for what has none
    return str(open_backend(spec.backend, dict(spec.backends.get(kind, {}))).store_url)  # type: ignore[attr-defined]


def experiments(store: Store) -> list[str]:
    """Names of the experiments in a store, newest first."""
    from drillyard.mailbox.store import folders

    found = []
    for name in folders(store):
        info = store.stat(f"{name}/experiment.json")
        if info is not None:
            found.append((info.updated_at, name))
    return [name for _, name in sorted(found, reverse=True)]


def split_place(name: str | None, store: str | None) -> tuple[str | None, str | None]:
    """(experiment, store) where a URL, or a folder, of an experiment itself was given.

    Args:
        name: As it was typed: a name, or ``gs://bucket/prefix/name``, or ``./folder/name``.
        store: ``--store``; it may be the place of an experiment, too.
    """
    place = name if name is not None and ("://" in name or os.sep in name) else None
    if place is None and name is None:
        place = store or os.environ.get("DRILLYARD_STORE")
    if place is None:
        return name, store
    head, _, tail = place.rstrip("/").rpartition("/")
    if not tail or head.endswith(":/") or not _is_experiment(head, tail):
        # A store then; what is not one is told by whoever opens it.
        return (None, place) if name is not None else (None, store)
    return tail, head


def _is_experiment(url: str, name: str) -> bool:
    from drillyard.errors import DrillyardError
    from drillyard.mailbox import open_store

    if "://" not in url and not (Path(url) / name).is_dir():
        return False
    try:
        return open_store(store_url(url)).stat(f"{name}/experiment.json") is not None
    except DrillyardError:
        return False


def open_mailbox(name: str | None, store: str | None = None) -> Mailbox:
    """The mailbox of an experiment that is there.

    Args:
        name: Its name, or its place (``gs://bucket/name``); None: the only one, or the newest.
        store: ``--store``.

    Raises:
        NotFound: No such experiment; names the nearest.
    """
    from drillyard.mailbox import Mailbox, open_store
    from drillyard.registry import nearest

    name, store = split_place(name, store)
    url = store_url(store)
    if "://" not in url and not Path(url).is_dir():
        # Reading must not make the folder that writing would.
        raise NotFound(
            f"no store at {url}", hint="run something first, or name the store with --store"
        )
    opened = open_store(url)
    if name is not None and opened.stat(f"{name}/experiment.json") is not None:
        return Mailbox(opened, name)
    known = experiments(opened)
    if name is None:
        if not known:
            raise NotFound(f"no experiments in {url}", hint="drillyard run FILE makes one")
        return Mailbox(opened, known[0])
    raise NotFound(f"no experiment {name!r} in {url}", hint=nearest(name, known))


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
        "severity": finding.severity.value, "subject": finding.subject,
        "message": finding.message, "fix": finding.fix,
    }  # fmt: skip


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
