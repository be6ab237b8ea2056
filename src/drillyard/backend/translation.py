"""The outermost seam of a backend: only errors of our tree leave its verbs.

A provider's library raises what it likes, also things that its pages do not mention. Whoever waits
for machines must not end because of that, and machines must not be forgotten because of that. So
each class is decorated once::

    @translating(known)
    class MyBackend: ...

where ``known`` names the errors of the library that mean something. What it does not know becomes
an ``InfrastructureError``: it decides nothing, and the next look tries again.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from drillyard.backend.capabilities import CAPABILITIES
from drillyard.backend.port import Backend
from drillyard.errors import (
    ControlPlaneError,
    DrillyardError,
    InfrastructureError,
    SignInRefused,
)

log = logging.getLogger(__name__)
B = TypeVar("B", bound=Backend)
P = ParamSpec("P")
T = TypeVar("T")
Translate = Callable[[Exception, str], DrillyardError | None]
"""(what was raised, what was tried in words) -> the error to raise instead; None: not known."""

VERBS = frozenset(
    name
    for protocol in (Backend, *CAPABILITIES)
    for name, member in vars(protocol).items()
    if not name.startswith("_") and inspect.isfunction(member)
)
"""Every public method of the port and of its capabilities."""
_LISTING = frozenset({"logs", "leases"})
"""Verbs that return an iterator: errors come while it is read."""
_AT_WORK = frozenset({"provision", "probe", "launch", "tend", "cancel", "logs", "now", "lost_to"})
"""Verbs that are called again and again while machines work. A sign-in that ends meanwhile decides
nothing: the machines go on. Whoever gives machines back, or lists them, is told at once."""
_MARK = "_drillyard_translated"


def translating(translate: Translate | None = None) -> Callable[[type[B]], type[B]]:
    """A class decorator: verbs raise nothing but ``DrillyardError``.

    Args:
        translate: Knows the errors of the provider's library.
    """

    def decorate(backend: type[B]) -> type[B]:
        for verb in VERBS.intersection(dir(backend)):
            method = inspect.getattr_static(backend, verb)
            if inspect.isfunction(method) and not hasattr(method, _MARK):
                wrap = _listing if verb in _LISTING else _single
                made = wrap(method, verb, str(backend.kind), translate)
                setattr(made, _MARK, True)
                setattr(backend, verb, made)
        return backend

    return decorate


def _single(
    method: Callable[P, T], verb: str, kind: str, translate: Translate | None
) -> Callable[P, T]:
    @functools.wraps(method)
    def called(*args: P.args, **more: P.kwargs) -> T:
        try:
            return method(*args, **more)
        except Exception as error:
            ours = _ours(error, verb, kind, translate)
            if ours is error:
                raise
            raise ours from error

    return called


def _listing(
    method: Callable[P, Iterator[T]], verb: str, kind: str, translate: Translate | None
) -> Callable[P, Iterator[T]]:
    @functools.wraps(method)
    def called(*args: P.args, **more: P.kwargs) -> Iterator[T]:
        try:
            yield from method(*args, **more)
        except Exception as error:
            ours = _ours(error, verb, kind, translate)
            if ours is error:
                raise
            raise ours from error

    return called


def _ours(error: Exception, verb: str, kind: str, translate: Translate | None) -> DrillyardError:
    what = f"{kind}: {verb.replace('_', ' ')}"
    found = error if isinstance(error, DrillyardError) else None
    if found is None and translate is not None:
        found = translate(error, what)
    if found is None:
        log.info("%s raised what nobody expects", what, exc_info=error)
        name = type(error).__name__
        found = InfrastructureError(
            f"{what}: {name}: {error}" if str(error) else f"{what}: {name}",
            hint="it decides nothing: the same command looks again. If it stays, report it",
        )
    if verb in _AT_WORK and isinstance(found, SignInRefused):
        goes_on = "what is rented goes on, and the same command watches it again"
        hint = f"{found.hint}; {goes_on}" if found.hint else goes_on
        return ControlPlaneError(found.message, hint=hint)
    return found
