"""Every error that drillyard raises on purpose.

    DrillyardError                    exit  retryable
    ├── UserError                      2    no     what you wrote cannot work; nothing was created
    │   ├── ConfigError                2    no     one field of a file: line, value, allowed
    │   │   ├── CheckpointRefused      2    no     a checkpoint that must not be resumed from
    │   │   ├── SpaceMismatch          2    no     this algorithm cannot act in this simulator
    │   │   └── SimulatorError         2    no     the simulator breaks its contract
    │   ├── PluginError                2    no     a name that does not exist or import
    │   ├── IdentityChanged            2    no     the same name for another experiment
    │   ├── AlreadyDriven              2    no     another driver is alive on this experiment
    │   ├── AccessDenied               2    no     a right is missing: asking again does not help
    │   │   └── SignInRefused          2    no     the provider rejects our credentials
    │   ├── NewerVersion               2    no     a newer drillyard wrote what is read
    │   └── NotFound                   2    no     no such run, experiment, file
    ├── ExperimentFailed               1    no     it ran and did not succeed
    │   ├── RunFailed                  1    no     the user's code raised, NaN, too many attempts
    │   └── TimedOut                   1    no     a budget ended before the work did
    ├── InfrastructureError            4    yes    the infrastructure failed: try again
    │   ├── StoreUnavailable           4    yes    the mailbox cannot be reached
    │   ├── CorruptObject              1    no     an object differs from what was written
    │   ├── ControlPlaneError          4    yes    Prefect's API, a cloud's API
    │   ├── NoCapacity                 4    yes    no machine is available: stock-out, quota
    │   │   └── SearchEnded            4    no     the same, and its lease is ended
    │   ├── WorkerLost                 4    yes    a worker died or never started
    │   │   └── HostLost               4    yes    a machine with copies of a simulator is gone
    │   └── TeardownUnconfirmed        4    yes    something may still be running
    ├── Superseded                     4    no     another attempt owns this ticket: stop quietly
    ├── Stopped                      130    no     stopped on request; resumable
    └── Bug                            3    no     a bug in drillyard

The class of an error shows what the caller should do next. ``hint`` is a sentence for the user.
The exceptions of each foreign library are translated in one place.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Protocol, Self

LONGEST_VALUE = 80
"""Characters of a wrong value that an error shows: it may be a whole file."""
MASKS: list[Callable[[str], str]] = []
"""Applied to a value before it is cut, for nothing recognises a part of a secret."""


class ExitCode(enum.IntEnum):
    """What the process tells its caller."""

    DONE = 0
    EXPERIMENT_FAILED = 1
    USER_INPUT = 2
    BUG = 3
    INFRASTRUCTURE = 4
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


class DrillyardError(Exception):
    """The root of the tree.

    Args:
        message: What happened, in one sentence, with the values that matter.
        hint: What the user can do about it.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    retryable: ClassVar[bool] = False
    shows_fix: bool = False
    """True for an error that leaves drillyard's Python functions: ``str`` contains the fix, too.
    A command prints the fix on a line of its own, and records keep it in a field."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self._with_fix(self.message)

    def _with_fix(self, text: str) -> str:
        return f"{text}\n  fix: {self.hint}" if self.shows_fix and self.hint else text

    def __setattr__(self, name: str, value: object) -> None:
        """Each detail is set once; ``but`` makes a copy with other details."""
        if name in vars(self) and not name.startswith("__"):
            raise AttributeError(f"errors are not edited; use but({name}=...)")
        super().__setattr__(name, value)

    def but(self, **changes: object) -> Self:
        """The same error with other details, such as its file and line.

        Args:
            **changes: Attribute -> value.
        """
        copy = type(self).__new__(type(self), *self.args)
        vars(copy).update({**vars(self), **changes})
        copy.__cause__ = self.__cause__
        return copy.with_traceback(self.__traceback__)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle for a pipe between processes, without the need to import a user's module."""
        ours = next(k for k in type(self).__mro__ if k.__module__ == __name__)
        return _arrived, (ours, self.args, {k: _plain(v) for k, v in vars(self).items()})


class _Shown(str):
    """The ``repr`` of a value in another process."""

    def __repr__(self) -> str:
        return str(self)


def _plain(value: object) -> object:
    """A value that any process can read; for a foreign class its ``repr``."""
    if type(value) in (bool, int, float, str, type(None)) or isinstance(value, DrillyardError):
        return value
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, dict) and type(value) is dict:
        return {_plain(key): _plain(item) for key, item in value.items()}
    return _Shown(repr(value))


def _arrived(
    kind: type[DrillyardError], args: tuple[object, ...], state: dict[str, object]
) -> DrillyardError:
    # The constructor takes other arguments than ``args``, and has run already.
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


def nearest(name: str, known: list[str]) -> str:
    """A sentence that helps someone who mistyped a name."""
    same = [k for k in known if k.lower() == name.lower()]
    close = same or difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if not close and len(name) > 2:  # the beginning of a name, such as clip of clip_range
        close = [k for k in known if k.startswith(name)][:3]
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + (", ".join(known) or "none")


def _among(
    name: object, known: Iterable[str] | None, allowed: str | None, hint: str | None
) -> tuple[str | None, str | None]:
    """Returns what is allowed and how to fix it, for a name that is none of the known ones."""
    if known is None:
        return allowed, hint
    names = list(known)
    near = nearest(str(name), names) if names else None
    return allowed or ", ".join(names) or "none", hint or near


class BadValue(ValueError):
    """A check inside a model failed; becomes a ``ConfigError`` with file and line.

    Args:
        message: What is wrong.
        allowed: What is allowed, as text.
        hint: How to fix it.
        known: Names of which the value should be one; default of the last two.
        value: What to show, if the whole value would be too long.
        key: Key of the wrong value in the checked one; several lead deeper.

    Attributes:
        others: What else the same check found.
    """

    def __init__(
        self,
        message: str,
        *,
        allowed: str | None = None,
        hint: str | None = None,
        known: Iterable[str] | None = None,
        value: object = None,
        key: str | tuple[str | int, ...] | None = None,
    ) -> None:
        super().__init__(message)
        self.allowed, self.hint = _among(value, known, allowed, hint)
        self.value, self.key = value, key
        self.others: list[BadValue] = []

    @classmethod
    def all_of(cls, problems: Iterable[BadValue]) -> None:
        """Raises the first of several errors, with the others; nothing if there is none."""
        errors = list(problems)
        if errors:
            errors[0].others = errors[1:]
            raise errors[0]


class UserError(DrillyardError):
    """What the user wrote cannot work. Raised before anything is created."""

    exit_code = ExitCode.USER_INPUT


class HasLine(Protocol):
    """A place in a file."""

    @property
    def file(self) -> str:
        """Its name."""

    @property
    def line(self) -> int | None:
        """Counted from 1, where known."""


class ConfigError(UserError):
    """One field of a configuration is wrong.

    Args:
        message: What is wrong.
        file: The file, or ``"--set"``, ``"--name"`` for the command line.
        line: Line of the field, counted from 1, where known.
        at: A place with both.
        field: Dotted path, ``learner.args.learning_rate``.
        value: The offending value.
        allowed: What is allowed, as text.
        hint: How to fix it.
        known: Names of which ``value`` should be one: default of ``allowed`` and ``hint``.
        keys: Names of which the last part of ``field`` should be one.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        at: HasLine | None = None,
        field: str | None = None,
        value: object = None,
        allowed: str | None = None,
        hint: str | None = None,
        known: Iterable[str] | None = None,
        keys: Iterable[str] | None = None,
    ) -> None:
        allowed, hint = _among(value, known, allowed, hint)
        allowed, hint = _among((field or "").rpartition(".")[2], keys, allowed, hint)
        if hint is not None and allowed and hint.startswith("known: "):
            hint = "no allowed value has a similar name: choose one of them"
        super().__init__(message, hint=hint)
        self.file = at.file if at is not None else file
        self.line = at.line if at is not None else line
        self.field = field
        self.value = value
        self.allowed = allowed

    @property
    def errors(self) -> list[ConfigError]:
        """Itself, so that one and several errors are read in the same way."""
        return [self]

    def __str__(self) -> str:
        return self._with_fix(self.said(self.field))

    def said(self, field: str | None = None) -> str:
        """Place, field, message, value, what is allowed: one line without the fix.

        Args:
            field: Name of the field; None if it is shown elsewhere.
        """
        where = ":".join(str(p) for p in (self.file, self.line) if p is not None)
        text = f"{where}: " if where else ""
        text += f"{field}: " if field else ""
        # A message of several lines (a list, a traceback) has the details below.
        first, newline, rest = self.message.partition("\n")
        text += first
        if self.value is not None:
            shown = repr(self.value)
            if len(shown) > LONGEST_VALUE:
                for mask in MASKS:
                    shown = mask(shown)
            text += f" (got {shown[:LONGEST_VALUE]}{'…' if shown[LONGEST_VALUE:] else ''})"
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        return text + newline + rest


def misused(
    message: str,
    option: str | None = None,
    value: object = None,
    allowed: str | None = None,
    hint: str | None = None,
    known: Iterable[str] | None = None,
) -> ConfigError:
    """Returns the error for an option or argument of a command; see ``ConfigError``."""
    file = "command line"
    return ConfigError(
        message, file=file, field=option, value=value, allowed=allowed, hint=hint, known=known
    )


class ConfigErrors(UserError):
    """Several wrong fields at once, so that the user can fix all of them."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        hint = next((e.hint for e in errors if e.hint), None)
        super().__init__("\n".join(str(e) for e in errors), hint=hint)
        self.errors = list(errors)

    def __str__(self) -> str:
        if not self.shows_fix:
            return self.message
        return "\n".join(str(e.but(shows_fix=True)) for e in self.errors)


def refuse_together(problems: Sequence[ConfigError]) -> None:
    """Raises an error alone, or several as one; nothing if there is none.

    Raises:
        ConfigError: There is one error.
        ConfigErrors: There are several errors.
    """
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigErrors(problems)


class CheckpointRefused(ConfigError):
    """A checkpoint with correct hashes that must not be resumed from."""


class SpaceMismatch(ConfigError):
    """The algorithm cannot act in this simulator, or cannot observe it."""


class SimulatorError(ConfigError):
    """The simulator breaks its contract: the failed check, the step, the copy, the value."""


class PluginError(UserError):
    """A registered name that does not exist, is ambiguous or does not import."""


class PackagesMissing(PluginError):
    """A part of drillyard needs packages that are not installed here."""


class IdentityChanged(UserError):
    """The same experiment name with settings that change results."""


class AlreadyDriven(UserError):
    """Another driver is alive on this experiment."""


class AccessDenied(UserError):
    """A right is missing. Another request does not help until it is granted."""


class SignInRefused(AccessDenied):
    """A provider rejects our credentials."""


class NewerVersion(UserError):
    """A newer drillyard wrote a record: it is not damaged, and this one must not change it."""


class NotFound(UserError):
    """No such run, experiment or file."""


class ExperimentFailed(DrillyardError):
    """The experiment ran and did not succeed."""

    exit_code = ExitCode.EXPERIMENT_FAILED


class RunFailed(ExperimentFailed):
    """A run ended without a result: the user's code raised, NaN, or no attempts are left."""


class TimedOut(ExperimentFailed):
    """A budget ended before the work did. What was reached is kept."""


class InfrastructureError(DrillyardError):
    """The infrastructure failed, not the experiment."""

    exit_code = ExitCode.INFRASTRUCTURE
    retryable = True


class StoreUnavailable(InfrastructureError):
    """The mailbox cannot be read or written: full, read-only, unreachable."""


class CorruptObject(InfrastructureError):
    """The hash of an object differs from its manifest, or a record cannot be read.

    Its exit code is not that of infrastructure: the same command would end in the same way.
    """

    exit_code = ExitCode.EXPERIMENT_FAILED
    retryable = False


class ControlPlaneError(InfrastructureError):
    """An orchestrator's or a cloud's API failed. Decides nothing about the work."""


class NoCapacity(InfrastructureError):
    """No machine is available. The message names the zone or quota that is full."""


class SearchEnded(NoCapacity):
    """The search for machines of a lease has ended: the lease is of no use, and is ended."""

    retryable = False


class WorkerLost(InfrastructureError):
    """A worker died, or never started.

    Attributes:
        row: The lost attempt that another one follows: ticket, attempt, cause and reason.
    """

    row: dict[str, str | int] | None = None


class HostLost(WorkerLost):
    """A machine with copies of a simulator is gone; the training goes back to its checkpoint."""


class ProcessKilled(InfrastructureError):
    """A process of the user's code was ended by SIGKILL, and drillyard did not send it."""


class OutOfMemory(ProcessKilled):
    """The kernel ended a process of the user's code to free memory."""


class TeardownUnconfirmed(InfrastructureError):
    """The provider's own listing still shows a resource of the experiment."""


class Superseded(DrillyardError):
    """Another attempt owns this ticket now. The process stops without writing."""

    exit_code = ExitCode.INFRASTRUCTURE


class Stopped(DrillyardError):
    """Stopped on request (cancel, Ctrl-C, SIGTERM). The message says how to resume."""

    exit_code = ExitCode.INTERRUPTED


class Bug(DrillyardError):
    """A bug in drillyard."""
