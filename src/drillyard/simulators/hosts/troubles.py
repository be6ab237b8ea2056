"""Errors of a simulator on their way to the learner: as JSON, and back."""

from __future__ import annotations

import contextlib
import signal
import traceback
from typing import TYPE_CHECKING, Any

from drillyard import errors
from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError, ProcessKilled, RunFailed
from drillyard.system.kills import KILLED, killed

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from drillyard.simulators.hosts.copy_thread import CopyThread

CHECK = "`drillyard check` steps the simulator and shows where it breaks"
_JOIN_S = 2.0

_DETAILS = ("file", "line", "field", "allowed")


def to_json(error: BaseException) -> JsonObject:
    """An error: ours whole; of others, the message and the place.

    Args:
        error: What a copy raised.
    """
    ours = portable(error)
    kind = next(k.__name__ for k in type(ours).__mro__ if k.__module__ == errors.__name__)
    details = {name: getattr(ours, name, None) for name in _DETAILS}
    value = getattr(ours, "value", None)
    notes: list[Any] = [str(note) for note in getattr(ours, "__notes__", ())]
    return {
        "kind": kind,
        "message": ours.message,
        "hint": ours.hint,
        "notes": notes,
        "value": value if isinstance(value, str | int | float) else value and repr(value),
        **{name: text for name, text in details.items() if text is not None},
    }


def portable(error: BaseException) -> DrillyardError:
    """An error that can be sent: ours as it is; of others, the message and the place.

    Args:
        error: What a copy raised.
    """
    if isinstance(error, DrillyardError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    failure = RunFailed(
        f"the simulator raised {type(error).__name__}: {error}",
        hint=last and f"look at {last.filename}, line {last.lineno}, in {last.name}",
    )
    for note in getattr(error, "__notes__", ()):  # step, copy and seed
        failure.add_note(note)
    return failure


def ended(
    process: BaseProcess | CopyThread, copy: int, when: str, oom_kills_before: int
) -> RunFailed | ProcessKilled:
    """The error for the process of a copy that has ended.

    Args:
        process: The process.
        copy: Index of the copy.
        when: The step at which it ended.
        oom_kills_before: ``oom_kills`` when it began.
    """
    process.join(_JOIN_S)
    code = process.exitcode
    how = f"code {code}"
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-code).name
    message = f"the process of copy {copy} ended with {how} at {when}"
    if code in KILLED:
        return killed(message, oom_kills_before)
    return RunFailed(message, hint=CHECK)


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
