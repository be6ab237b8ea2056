"""Errors of a simulator on their way to the learner: as JSON, and back."""

from __future__ import annotations

import traceback
from typing import Any

from drillyard import errors
from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError, RunFailed

_DETAILS = ("file", "line", "field", "allowed")


def to_json(error: BaseException) -> JsonObject:
    """An error: ours whole; of others, the message and the place.

    Args:
        error: What a copy raised.
    """
    notes: list[Any] = [str(note) for note in getattr(error, "__notes__", ())]
    if isinstance(error, DrillyardError):
        kind = next(k.__name__ for k in type(error).__mro__ if k.__module__ == errors.__name__)
        details = {name: getattr(error, name, None) for name in _DETAILS}
        value = getattr(error, "value", None)
        return {
            "kind": kind,
            "message": error.message,
            "hint": error.hint,
            "notes": notes,
            "value": value if isinstance(value, str | int | float) else value and repr(value),
            **{name: text for name, text in details.items() if text is not None},
        }
    frames = traceback.extract_tb(error.__traceback__)
    where = f"look at {frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name}"
    return {
        "kind": "RunFailed",
        "message": f"the simulator raised {type(error).__name__}: {error}",
        "hint": where if frames else None,
        "notes": notes,
    }


def from_json(content: JsonObject) -> DrillyardError:
    """The error that ``to_json`` was given, as far as it can be told.

    Args:
        content: From a host; not trusted.
    """
    kind = getattr(errors, str(content.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, DrillyardError)):
        kind = RunFailed
    hint = content.get("hint")
    details = {"hint": None if hint is None else str(hint)}
    if issubclass(kind, errors.ConfigError):
        details |= {name: content.get(name) for name in (*_DETAILS, "value")}  # type: ignore[misc]
    error: DrillyardError = kind(str(content.get("message")), **details)
    notes = content.get("notes")
    for note in notes if isinstance(notes, list) else ():
        error.add_note(str(note))
    return error
