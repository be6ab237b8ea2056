"""A file as values and places."""

from __future__ import annotations

from dataclasses import dataclass, field

from drillyard.documents.json_types import Json, JsonObject, as_object
from drillyard.documents.scalars import hidden_character
from drillyard.errors import ConfigError

MAX_NODES = 50_000
"""Values of a file, counted with aliases expanded."""
MAX_DEPTH = 40

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """The place of a value; for an entry of a mapping, the place of its key."""

    line: int
    column: int
    raw: str | None = None
    """The text of an unquoted scalar."""


@dataclass(frozen=True)
class Document:
    """A file as values and places."""

    value: Json
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    file: str = ""

    @property
    def mapping(self) -> JsonObject:
        """The value of a file that is known to be a mapping; empty for an empty file."""
        return as_object(self.value)

    def line(self, path: KeyPath) -> int | None:
        """Line of a value, or of the nearest thing around it."""
        while path and path not in self.marks:
            path = path[:-1]
        mark = self.marks.get(path)
        return mark.line if mark else None


def refuse_hidden(text: str, shown: str) -> None:
    """Refuse a text with invisible characters.

    Raises:
        ConfigError: With line, column and the character's number.
    """
    hidden = hidden_character(text.replace("\r\n", "\n"))
    if hidden:
        before = text.replace("\r\n", "\n")[: hidden[0]]
        column = len(before) - (before.rfind("\n") + 1) + 1
        raise ConfigError(
            f"column {column}: character {hidden[1]} is invisible",
            file=shown,
            line=before.count("\n") + 1,
            allowed="visible characters, spaces and line ends",
            hint="delete that character and type the text again",
        )
