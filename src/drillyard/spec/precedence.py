"""Layers of values, laid over each other, with the place of every value kept.

The chain of an experiment: command line > globals (later wins) > file > preset > default.
Mappings merge key by key; lists and everything else are replaced whole.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from drillyard.documents.document import Document, KeyPath, Mark
from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.scalars import dotted
from drillyard.documents.yaml_safe import typed
from drillyard.errors import ConfigError, refuse_together

_PART = re.compile(r"(?P<key>[^.\[\]=]+)|\[(?P<index>\d{1,6})\]")


@dataclass(frozen=True, slots=True)
class Place:
    """The origin of a value."""

    file: str
    line: int | None = None
    raw: str | None = None
    through: str | None = None
    """The reference that gave the value, ``$lr``."""

    def __str__(self) -> str:
        text = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{text} through {self.through}" if self.through else text


@dataclass
class Merged:
    """Values and the place of each leaf."""

    tree: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath) -> Place | None:
        """Returns the place of a value, of its parent, or of the first value inside it."""
        outer = path
        while outer:
            if outer in self.places:
                return self.places[outer]
            outer = outer[:-1]
        inside = [p for k, p in self.places.items() if k[: len(path)] == path and path]
        return inside[0] if inside else None

    def lay(self, document: Document) -> None:
        """Merges a layer whose values win."""
        self._lay(self.tree, document.mapping, (), document)

    def _lay(
        self, into: dict[str, Any], over: dict[str, Any], path: KeyPath, document: Document
    ) -> None:
        for key, value in over.items():
            here = (*path, key)
            if isinstance(value, dict) and value:
                if not isinstance(into.get(key), dict):
                    self._forget(here)
                    into[key] = {}
                mark = document.marks.get(here)
                if mark:
                    self.places[here] = Place(document.file, mark.line or None)
                self._lay(into[key], value, here, document)
            else:
                self._forget(here)
                into[key] = copy.deepcopy(value)
                self._note(value, here, document)

    def _note(self, value: Json, path: KeyPath, document: Document) -> None:
        mark = document.marks.get(path)
        self.places[path] = Place(
            document.file,
            (mark.line if mark else document.line(path)) or None,
            mark.raw if mark else None,
        )
        if isinstance(value, list):
            for number, item in enumerate(value):
                self._note(item, (*path, number), document)
        elif isinstance(value, dict):
            for key, item in value.items():
                self._note(item, (*path, key), document)

    def _forget(self, path: KeyPath) -> None:
        for known in [k for k in self.places if k[: len(path)] == path]:
            del self.places[known]

    def put(self, path: KeyPath, value: Json, place: Place) -> None:
        """Writes one value that a file says in another way; mappings on its path are created.

        Args:
            path: Its path.
            value: The value, which replaces everything that is there.
            place: What said it.
        """
        item: Any = self.tree
        for part in path[:-1]:
            item = item.setdefault(part, {}) if isinstance(item, dict) else item[part]
        item[path[-1]] = value
        self._forget(path)
        self.places[path] = place

    def get(self, *path: str) -> Any:
        """Returns the value at a path, or None."""
        return item_at(self.tree, path)


def command_line(sets: Sequence[str], below: JsonObject) -> Document:
    """Parses ``--set a.b=1`` into a layer.

    Args:
        sets: Each ``path=value``; ``path[2]=value`` changes an item of a list.
        below: The values so far, for items of lists.

    Raises:
        ConfigError: A text does not have that form, no such item, or two values for one path.
        ConfigErrors: This holds for several texts.
    """
    tree: JsonObject = {}
    marks: dict[KeyPath, Mark] = {}
    problems: list[ConfigError] = []
    for text, path, word in _pairs("--set", "path=value", "train.steps=5000", sets, problems):
        try:
            _put(tree, path, typed(word), below, text)
        except ConfigError as error:
            problems.append(error)
            continue
        first = next((n for n, p in enumerate(path) if isinstance(p, int)), len(path))
        marks[path[:first]] = Mark(0, 0, word)
    refuse_together(problems)
    return Document(tree, marks, "--set")


def tunable_line(assignments: Sequence[str]) -> Document:
    """Parses ``--tunable name=value`` into a layer over ``parameters.tunable_values``.

    Args:
        assignments: Each ``name=value``.

    Raises:
        ConfigError: A text does not have that form, or two values for one name.
        ConfigErrors: This holds for several texts.
    """
    values: JsonObject = {}
    marks: dict[KeyPath, Mark] = {}
    problems: list[ConfigError] = []
    for _, (name,), word in _pairs("--tunable", "name=value", "lr=1e-4", assignments, problems):
        values[str(name)] = typed(word)
        marks["parameters", "tunable_values", name] = Mark(0, 0, word)
    refuse_together(problems)
    tree: JsonObject = {"parameters": {"tunable_values": values}} if values else {}
    return Document(tree, marks, "--tunable")


def _pairs(
    option: str, form: str, example: str, texts: Sequence[str], problems: list[ConfigError]
) -> Iterator[tuple[str, KeyPath, str]]:
    """Yields (text, path, value) of each text of an option; a name is a path, too."""
    words: dict[KeyPath, str] = {}
    for text in texts:
        key, sign, word = text.partition("=")
        path = parse_dotted(key.strip())
        if form.startswith("name"):
            name = key.strip().replace("-", "_")
            path = (name,) if name.isidentifier() else ()
        if not sign or not path:
            problems.append(
                ConfigError(
                    f"{text!r} is not {form}",
                    file=option,
                    value=text,
                    allowed=f"{option} {form}",
                    hint=f"for example {option} {example}",
                )
            )
        elif (first := words.setdefault(path, word)) != word:
            name = dotted(path)
            problems.append(
                ConfigError(
                    f"has two different values: {first} and {word}",
                    file=option,
                    field=name,
                    value=word,
                    allowed="one value for each name",
                    hint=f"keep either {option} {name}={first} or {option} {name}={word}",
                )
            )
        else:
            yield text, path, word


def _put(tree: JsonObject, path: KeyPath, value: Json, below: Json, text: str) -> None:
    item: Any = tree
    for depth, part in enumerate(path[:-1]):
        following = path[depth + 1]
        under = item_at(below, path[: depth + 1])
        if isinstance(part, str) and not isinstance(item.get(part), dict | list):
            item[part] = copy.deepcopy(under) if isinstance(following, int) else {}
        item = _into(item, part, path[: depth + 1], text)
    last = path[-1]
    if isinstance(last, int) or not isinstance(item, dict):
        _into(item, last, path, text)
    item[last] = value


def _into(item: Any, part: str | int, path: KeyPath, text: str) -> Any:
    with contextlib.suppress(LookupError, TypeError):
        items: Any = () if isinstance(item, str) else item
        return items[part]
    raise ConfigError(
        "there is no such item to set",
        file="--set",
        field=dotted(path),
        value=text,
        hint="set the whole list: --set 'seeds=[1, 2, 3]'",
    )


def item_at(tree: Any, path: KeyPath) -> Any:
    """Returns the item of a nested document at a path, or None."""
    for part in path:
        try:
            tree = tree[part]
        except (LookupError, TypeError):
            return None
    return tree


def argument_at(path: KeyPath) -> str | None:
    """The name of the learner's argument at a path; None for another path."""
    return str(path[2]) if path[:2] == ("learner", "args") and len(path) == 3 else None


def parse_dotted(text: str) -> KeyPath:
    """``a.b[0]`` to ``("a", "b", 0)``; empty if it is not a path."""
    parts: list[str | int] = []
    position = 0
    while position < len(text):
        if text[position] == "." and parts:
            position += 1
        part = _PART.match(text, position)
        if not part:
            return ()
        parts.append(part["key"].strip() if part["key"] else int(part["index"]))
        position = part.end()
    return tuple(parts)


def leaves(tree: Json, path: KeyPath = ()) -> Iterable[KeyPath]:
    """Yields the paths of everything except non-empty mappings; a list counts as one value.

    A list of mappings (children, wrappers) does not: its values have their own places.
    """
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, list) and tree and all(isinstance(v, dict) for v in tree):
        for number, value in enumerate(tree):
            yield from leaves(value, (*path, number))
    else:
        yield path
