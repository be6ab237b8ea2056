"""Turns exceptions into messages and exit codes."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from typing import TYPE_CHECKING

import typer

from drillyard.errors import (
    ConfigError,
    ConfigErrors,
    DrillyardError,
    ExitCode,
    NotFound,
    Stopped,
    TeardownUnconfirmed,
)
from drillyard.system import closed_output
from drillyard.system.redaction import is_secret_key, redact, redact_tree, register_environment

if TYPE_CHECKING:
    from drillyard.documents.json_types import JsonObject


def report(error: BaseException, *, as_json: bool = False) -> int:
    """Prints an error on stderr (as JSON: on stdout) and returns the exit code.

    Args:
        error: The exception that a command raised.
        as_json: Print one JSON object for a program.
    """
    register_environment()
    code = exit_code(error)
    with closed_output.ignored():
        _tell(error, code, as_json=as_json)
    return int(code)


def _tell(error: BaseException, code: ExitCode, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(redact_tree(as_dict(error)), indent=2, ensure_ascii=False))
        if code is ExitCode.BUG:
            _bug(error)
    elif isinstance(error, ConfigErrors):
        for each in error.errors:
            _say(each)
        _echo(f"{len(error.errors)} errors. Nothing was created.")
    elif isinstance(error, DrillyardError) and code is not ExitCode.BUG:
        _say(error)
    elif code is ExitCode.INTERRUPTED:
        _echo("interrupted")
    elif code is ExitCode.USER_INPUT:
        _usage(error)
    elif isinstance(error, OSError) and code is ExitCode.INFRASTRUCTURE:
        _echo(f"error: {error}")
    else:
        _bug(error)


def exit_code(error: BaseException) -> ExitCode:
    """Returns the exit code of an exception."""
    if isinstance(error, DrillyardError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return ExitCode.INTERRUPTED
    if hasattr(error, "format_message"):  # a UsageError; click's own or the one inside typer
        return ExitCode.USER_INPUT
    if isinstance(error, ConnectionError | TimeoutError | BlockingIOError) or (
        isinstance(error, OSError) and error.errno in (5, 28, 30, 122)
    ):
        return ExitCode.INFRASTRUCTURE  # I/O error, disk full, read-only, over quota
    return ExitCode.BUG


def as_dict(error: BaseException) -> JsonObject:
    """Returns an error as JSON."""
    fields: JsonObject = {
        "error": type(error).__name__,
        "message": str(error),
        "hint": getattr(error, "hint", None),
        "exit_code": int(exit_code(error)),
    }
    if isinstance(error, ConfigErrors):
        fields["errors"] = [fields_of(each) for each in error.errors]
    elif isinstance(error, ConfigError):
        fields["errors"] = [fields_of(error)]
    return fields


def fields_of(error: ConfigError) -> JsonObject:
    """Returns a refused field as JSON."""
    value = error.value
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        value = str(value)
    return {
        "file": error.file,
        "line": error.line,
        "field": error.field,
        "message": error.message,
        "value": value if isinstance(value, bool | int | float | str | None) else repr(value),
        "allowed": error.allowed,
        "hint": error.hint,
    }


def _say(error: DrillyardError) -> None:
    prefix = "stopped" if isinstance(error, Stopped) else "error"
    if isinstance(error, ConfigError):
        key = (error.field or "").rsplit(".", 1)[-1]
        if is_secret_key(key) and error.value is not None:
            error = error.but(value=redact_tree(str(error.value), key))
        # `field: message` is not an assignment, even if the field is called `token`.
        typer.echo(redact(f"{prefix}: {error}", assignments=False), err=True)
    else:
        _echo(f"{prefix}: {error}")
    if error.hint:
        label = "next" if isinstance(error, Stopped | NotFound | TeardownUnconfirmed) else "fix"
        _echo(f"  {label}: {error.hint}")


def _usage(error: BaseException) -> None:
    context = getattr(error, "ctx", None)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        _echo(message)  # the message is the help itself
        return
    _echo(f"error: {message.replace('Value error, ', '')}")
    if context is not None:
        _echo(f"  fix: see `{context.command_path} --help`")


def _bug(error: BaseException) -> None:
    text = redact("".join(traceback.format_exception(error)))
    path = ""
    try:
        handle, path = tempfile.mkstemp(prefix="drillyard-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"drillyard {' '.join(redact(a) for a in sys.argv[1:])}\n\n{text}")
    except OSError:
        _echo(text)
    _echo(f"this is a bug in drillyard: {type(error).__name__}: {error}")
    _echo(f"  next: please report it with {path}" if path else "  next: please report it")
    if os.environ.get("DRILLYARD_DEBUG"):
        _echo(text)


def _echo(text: str) -> None:
    typer.echo(redact(text), err=True)
