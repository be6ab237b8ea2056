"""Gives the errors of an experiment file their lines and fixes."""

from __future__ import annotations

from drillyard.errors import ConfigError, refuse_together
from drillyard.spec.messages import instead
from drillyard.spec.precedence import Merged, argument_at, parse_dotted


def located(error: ConfigError, merged: Merged, file: str) -> ConfigError:
    """Returns an error with the file and line of its field, and with a fix.

    Args:
        error: With ``field`` such as ``learner.args.gamma``.
        merged: The experiment with the places of its values.
        file: Name of the experiment's file.
    """
    if error.file is None:
        place = merged.place(parse_dotted(error.field or "")) if error.field else None
        line = error.line or (place.line if place else None)
        error = error.but(file=place.file if place else file, line=line)
    if error.hint is None:
        error = error.but(hint=_way_out(error, merged))
    return error


def _way_out(error: ConfigError, merged: Merged) -> str:
    """Returns a fix for an error without its own: the default of the field."""
    from drillyard.spec.algorithms.argument_table import ARGUMENTS

    path = parse_dotted(error.field or "")
    if (argument := argument_at(path)) is not None:
        algorithm = str(merged.get("learner", "algorithm")).lower()
        default = ARGUMENTS.get(algorithm, {}).get(argument)
        if default is not None:
            return f"remove it to use the {default!r} of {algorithm}"
    return instead(path, error.value) if path else "change or remove it"


def refuse_all(problems: list[ConfigError]) -> None:
    """Raises errors, each once and in the order of the file.

    Args:
        problems: Located errors; without any, nothing is raised.
    """
    distinct = {(e.file, e.line, e.field, e.message): e for e in problems}
    files = list(dict.fromkeys(e.file for e in problems))
    # In the order of the file, so that a reader goes through it once.
    refuse_together(sorted(distinct.values(), key=lambda e: (files.index(e.file), e.line or 0)))
