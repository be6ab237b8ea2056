"""One service of the stack: its command, its environment and its readiness check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Service:
    """A service of the stack, which is one process.

    Attributes:
        name: Name of its entry and of its log.
        command: Program and arguments, without secrets.
        environment: Its whole environment.
        ready: Returns why it does not answer yet, or None once it does. Without this function,
            a live process counts as ready.
        before: Called before each start; safe to repeat.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(repr=False)
    ready: Callable[[], str | None] | None = None
    before: Callable[[], None] | None = None
