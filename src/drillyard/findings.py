"""What a check found: an error, a warning or a note, where it is and how to fix it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from drillyard.errors import ConfigError


class Severity(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``drillyard doctor`` and ``check``."""

    severity: Severity
    subject: str
    message: str
    fix: str | None = None
    error: ConfigError | None = None
    """What is wrong as a field of the experiment's file, where it is one."""
    infrastructure: bool = False
    """An error of a server or network that may be away, not of the experiment: exit code 4."""


def problem(
    subject: str,
    message: str,
    fix: str | None = None,
    error: ConfigError | None = None,
    infrastructure: bool = False,
) -> Finding:
    """Returns an error."""
    return Finding(Severity.ERROR, subject, message, fix, error, infrastructure)


def warning(subject: str, message: str, fix: str | None = None) -> Finding:
    """Returns a warning."""
    return Finding(Severity.WARNING, subject, message, fix)


def passed(subject: str, message: str, fix: str | None = None) -> Finding:
    """Returns the note that a check found nothing wrong."""
    return Finding(Severity.OK, subject, message, fix)
