"""What a command line says beside the experiment file: declared once, for every command."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from drillyard.cli import completing
from drillyard.errors import ConfigError, ConfigErrors, UserError, misused, nearest

if TYPE_CHECKING:
    from drillyard.spec.load import Loaded

FREE: dict[str, bool] = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of a command that accepts ``--name value`` for the file's parameters."""

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
OwnNameOption = Annotated[
    str | None, typer.Option("--name", help="Experiment name that replaces the file's.")
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


@dataclass(frozen=True)
class Arguments:
    """The options of a command line that change an experiment file.

    Attributes:
        sets: ``--set``.
        globals_: ``--globals``.
        tunables: ``--tunable``.
        on: ``--on``: the backend.
        name: ``--name``: of the experiment.
        context: Has the rest of the command line: ``--name value`` for the file's parameters.
    """

    sets: SetOption = None
    globals_: GlobalsOption = None
    tunables: TunableOption = None
    on: OnOption = None
    name: OwnNameOption = None
    context: typer.Context | None = None

    def values(self) -> dict[str, str]:
        """Returns the parameters of the file, by name; see ``parameters``."""
        return {} if self.context is None else parameters(self.context)

    def load(self, file: Path) -> Loaded:
        """Loads the experiment that the command line names.

        Raises:
            UserError: The file or the command line is wrong.
        """
        from drillyard.spec.load import load

        short = {"name": self.name, "backend": self.on}
        sets = [f"{field}={value}" for field, value in short.items() if value]
        with self.as_typed():
            return load(
                file,
                sets=[*(self.sets or []), *sets],
                globals_=self.globals_ or [],
                values=self.values(),
                tunables=self.tunables or [],
            )

    def words(self, sets: Sequence[str] = ()) -> list[str]:
        """Returns the words of a command line that says the same, and more ``--set``."""
        single = {"--on": self.on, "--name": self.name}
        several = {
            "--set": [*(self.sets or []), *sets],
            "--globals": self.globals_,
            "--tunable": self.tunables,
        }
        words = [word for option, text in single.items() if text for word in (option, text)]
        words += [w for option, texts in several.items() for t in texts or [] for w in (option, t)]
        return [*words, *(self.context.args if self.context is not None else [])]

    def named(self) -> dict[str, Any]:
        """Returns what a ``Request`` of the flows has of it."""
        return {
            "sets": self.sets or [],
            "globals_": self.globals_ or [],
            "tunables": self.tunables or [],
            "backend": self.on,
            "name": self.name,
        }

    @contextmanager
    def as_typed(self) -> Iterator[None]:
        """Lets errors about ``--on`` and ``--name`` name these options.

        Both are applied as a ``--set``, which is not what the user typed.
        """
        typed = {"backend": "--on"} if self.on else {}
        typed |= {"name": "--name"} if self.name else {}
        try:
            yield
        except UserError as error:
            raise _each(error, partial(self._as_typed, typed)) from error.__cause__

    def _as_typed(self, typed: dict[str, str], error: ConfigError) -> ConfigError:
        if error.file == "--set" and error.field in typed:
            return error.but(file="command line", field=typed[error.field])
        name = (error.file or "").removeprefix("--")
        options = [] if self.context is None else _options(self.context)
        close = difflib.get_close_matches(name, options, n=1, cutoff=0.7)
        if name == error.file or name in options or not close:
            return error
        return error.but(field=None, hint=f"did you mean --{close[0]}? Otherwise {error.hint}")

    def no_values(self) -> None:
        """Refuses ``--name value`` where no file can declare a parameter.

        Raises:
            ConfigError: A parameter was given.
        """
        for name, value in self.values().items():
            assert self.context is not None
            near = nearest(name, _options(self.context))
            raise misused("no such option", f"--{name}", value, hint=near)


def with_arguments(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of ``Arguments`` in place of its parameter ``arguments``.

    Args:
        *left_out: Fields that the command does not have; ``context``: nor parameters by name.
    """
    hints = get_type_hints(Arguments, include_extras=True)
    names = [field.name for field in fields(Arguments) if field.name not in left_out]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def with_options(**given: Any) -> None:
            arguments = Arguments(**{name: given.pop(name) for name in names})
            command(arguments=arguments, **given)

        types = get_type_hints(command, include_extras=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        options: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name == "arguments":
                for name in names:
                    kind = typer.Context if name == "context" else hints[name]
                    options.append(inspect.Parameter(name, keyword, default=None, annotation=kind))
            else:
                options.append(parameter.replace(kind=keyword, annotation=types[parameter.name]))
        with_options.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in options}
        with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
        return with_options

    return decorate


def parameters(context: typer.Context) -> dict[str, str]:
    """Parses the rest of a command line as parameters: ``--name value`` or ``--name=value``.

    Args:
        context: Context of a command with ``FREE`` settings.

    Raises:
        ConfigError: A value without a name, or a name without a value.
    """
    options = _options(context)
    values: dict[str, str] = {}
    seen: dict[str, str] = {}
    arguments = list(context.args)
    while arguments:
        argument = arguments.pop(0)
        if not argument.startswith("--") or len(argument) < 3:
            raise misused(
                f"unexpected argument {argument!r}",
                allowed="--name value",
                hint="pass parameters by name: drillyard check FILE --name value",
            )
        name, sign, value = argument[2:].partition("=")
        if not sign:
            if not arguments or arguments[0].startswith("--"):
                message = f"there is no option --{name}, and the parameter --{name} has no value"
                raise misused(message, None, argument, "--name value", nearest(name, options))
            value = arguments.pop(0)
        first = seen.setdefault(name.replace("-", "_"), value)
        if first != value:
            raise misused(
                f"has two different values: {first} and {value}",
                f"--{name}",
                value,
                allowed="one value for each parameter",
                hint=f"keep either --{name} {first} or --{name} {value}",
            )
        values[name] = value
    return values


def _options(context: typer.Context) -> list[str]:
    return [o.lstrip("-") for p in context.command.params for o in p.opts if o[:2] == "--"]


def _each(error: UserError, change: Callable[[ConfigError], ConfigError]) -> UserError:
    if isinstance(error, ConfigErrors):
        return ConfigErrors([change(e) for e in error.errors])
    return change(error) if isinstance(error, ConfigError) else error
