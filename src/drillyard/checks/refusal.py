"""Turns findings into errors of the experiment file, with field, value, line and fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from drillyard.errors import ConfigError, ConfigErrors, ControlPlaneError, UserError
from drillyard.findings import Finding, Severity, problem
from drillyard.spec.load import Loaded
from drillyard.spec.precedence import parse_dotted

_ALLOWED = {
    "simulator.id": "a simulator that can be created and follows Gymnasium's rules",
    "tracking.mlflow": "a server that answers and accepts you, auto, or null",
}


def as_finding(error: UserError, subject: str) -> Finding:
    """Turns an error into a finding about ``subject``."""
    message = error.message.rstrip()  # a broken plug-in's message ends with a traceback
    if not isinstance(error, ConfigError):
        return problem(subject, message, error.hint)
    error = error.but(message=message)
    return problem(error.field or subject, message, error.hint, error)


def placed(finding: Finding, loaded: Loaded) -> Finding:
    """Gives a finding that is an error its place in the file: field, value, line."""
    if finding.severity is not Severity.ERROR:
        return finding
    error = finding.error or _error_of(finding, loaded)
    # Only fields of the file have a place in it; a backend's quota or image does not.
    if error.file is None and error.field and hasattr(loaded.spec, _first(error.field)):
        error = loaded.locate(error)
    if error.field == "backend" and error.file == "--set":
        # The value comes from the command line, perhaps from `--on`, and not from the file.
        error = ConfigError(
            error.message, field=finding.subject.partition(": ")[0], hint=error.hint
        )
    # The name of a backend is not wrong when the backend or its host lacks something.
    if error.value is None and error.field not in (None, "backend"):
        error = error.but(value=_value(loaded, error.field))
    error = error.but(
        allowed=error.allowed or _ALLOWED.get(str(error.field)),
        hint=error.hint or "see `drillyard explain` for where each value comes from",
    )
    return replace(
        finding,
        subject=error.field or finding.subject,
        message=error.said(),
        fix=error.hint,
        error=error,
    )


def _error_of(finding: Finding, loaded: Loaded) -> ConfigError:
    """The error of a finding that has none."""
    kind, _, more = finding.subject.partition(": ")  # a host has a port after its colon
    field = {"simulator": "simulator.id", "rl": "learner.algorithm"}.get(kind, kind)
    field = "backend" if kind.startswith("backend ") else field
    message = f"{more.strip()}: {finding.message}" if more else finding.message
    if _value(loaded, field) is not None:
        return ConfigError(message, field=field, hint=finding.fix)
    # Not in the file: an option, or the environment.
    file, option = ("--store", None) if kind == "store" else (None, finding.subject)
    return ConfigError(message, file=file, field=option, hint=finding.fix)


def _first(field: str) -> str:
    return str(parse_dotted(field)[0])


def _value(loaded: Loaded, field: str) -> object:
    """Returns the value of a field of the experiment, or None."""
    item: object = loaded.spec
    for part in parse_dotted(field):
        if isinstance(part, int):
            item = item[part] if isinstance(item, list) and part < len(item) else None
        else:
            item = getattr(item, part, None)
    return item if isinstance(item, str | int | float) else None


def refuse(findings: Sequence[Finding]) -> None:
    """Raises the errors among the findings.

    Args:
        findings: Result of ``check``.

    Raises:
        ConfigError: There is one error.
        ConfigErrors: There are several errors.
        ControlPlaneError: The only errors are servers that do not answer.
    """
    failed = [f for f in findings if f.severity is Severity.ERROR]
    if failed and all(f.infrastructure for f in failed):
        raise ControlPlaneError(
            "\n".join(str(f.error or f.message) for f in failed), hint=failed[0].fix
        )
    errors = [f.error or ConfigError(f.message, field=f.subject, hint=f.fix) for f in failed]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigErrors(errors)
