"""The outermost layer of a backend: its verbs raise only errors of drillyard's tree.

A provider's library may raise anything, also errors that its documentation does not mention. The
driver must not end because of that, and machines must not be forgotten because of that. So each
class is decorated once::

    @translating(known)
    class MyBackend: ...

where ``known`` translates the errors of the library that have a meaning. Any other error becomes
a ``ControlPlaneError``: it decides nothing, and the next call tries again.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from drillyard.backend.capabilities import CAPABILITIES
from drillyard.backend.port import Backend
from drillyard.errors import (
    ControlPlaneError,
    DrillyardError,
    SignInRefused,
)

log = logging.getLogger(__name__)
B = TypeVar("B", bound=Backend)
P = ParamSpec("P")
T = TypeVar("T")
Translate = Callable[[Exception, str], DrillyardError | None]
"""(the error, a description of the call) -> the error to raise instead; None: unknown."""

VERBS = frozenset(
    name
    for protocol in (Backend, *CAPABILITIES)
    for name, member in vars(protocol).items()
    if not name.startswith("_") and inspect.isfunction(member)
)
"""Every public method of the port and of the capabilities."""
_LISTING = frozenset({"logs", "leases"})
"""Verbs that return an iterator: they raise while it is read."""
_AT_WORK = frozenset({"provision", "probe", "launch", "tend", "cancel", "logs", "now", "lost_to"})
"""Verbs that are called repeatedly while machines work. A sign-in that expires meanwhile decides
nothing: the machines continue. Verbs that list machines or give them back raise at once."""
_MARK = "_drillyard_translated"


def translating(translate: Translate | None = None) -> Callable[[type[B]], type[B]]:
    """Returns a class decorator that lets verbs raise only ``DrillyardError``.

    Args:
        translate: Translates the errors of the provider's library.
    """

    def decorate(backend: type[B]) -> type[B]:
        for verb in VERBS.intersection(dir(backend)):
            method = inspect.getattr_static(backend, verb)
            if inspect.isfunction(method) and not hasattr(method, _MARK):
                wrap = _listing if verb in _LISTING else _single
                wrapped = wrap(method, verb, str(backend.kind), translate)
                setattr(wrapped, _MARK, True)
                setattr(backend, verb, wrapped)
        return backend

    return decorate


def _single(
    method: Callable[P, T], verb: str, kind: str, translate: Translate | None
) -> Callable[P, T]:
    @functools.wraps(method)
    def called(*args: P.args, **more: P.kwargs) -> T:
        with _translation(verb, kind, translate):
            return method(*args, **more)

    return called


def _listing(
    method: Callable[P, Iterator[T]], verb: str, kind: str, translate: Translate | None
) -> Callable[P, Iterator[T]]:
    @functools.wraps(method)
    def called(*args: P.args, **more: P.kwargs) -> Iterator[T]:
        with _translation(verb, kind, translate):
            yield from method(*args, **more)

    return called


@contextmanager
def _translation(verb: str, kind: str, translate: Translate | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        translated = _translated(error, verb, kind, translate)
        if translated is error:
            raise
        raise translated from error


def _translated(
    error: Exception, verb: str, kind: str, translate: Translate | None
) -> DrillyardError:
    what = f"{kind}: {verb.replace('_', ' ')}"
    translated = error if isinstance(error, DrillyardError) else None
    if translated is None and translate is not None:
        translated = translate(error, what)
    if translated is None:
        log.info("%s raised an unexpected error", what, exc_info=error)
        name = type(error).__name__
        translated = ControlPlaneError(
            f"{what}: {name}: {error}" if str(error) else f"{what}: {name}",
            hint="nothing was decided: run the same command again. If the error stays, report it",
        )
    if verb in _AT_WORK and isinstance(translated, SignInRefused):
        continues = "the rented machines continue; run the same command to watch them again"
        hint = f"{translated.hint}; {continues}" if translated.hint else continues
        return ControlPlaneError(translated.message, hint=hint)
    return translated
