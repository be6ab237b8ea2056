"""One process of the house: its command, its environment, and how one sees that it is up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Member:
    """A process of the house.

    Attributes:
        name: Of its entry and its log.
        command: Program and arguments; no secret stands in them.
        environment: Instead of the caller's.
        ready: Says why it does not answer yet, None once it does. Without it, that the process
            lives is all there is to see.
        before: What is done before each start; safe to repeat.
        after: What is done once it answers; safe to repeat.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(repr=False)
    ready: Callable[[], str | None] | None = None
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
