"""YAML to plain values, each with its line; nothing is ever executed.

The tree is built here from the parser's events, so that tags are refused before anything is
constructed, aliases are counted before they are expanded, and duplicate keys are seen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from drillyard.documents.document import (
    MAX_DEPTH,
    MAX_NODES,
    Document,
    KeyPath,
    Mark,
    refuse_hidden,
)
from drillyard.documents.json_types import Json, JsonObject, as_object
from drillyard.documents.scalars import dotted, resolve, trap
from drillyard.errors import ConfigError, refuse_together

if TYPE_CHECKING:
    from ruamel.yaml.events import ScalarEvent

    Event: TypeAlias = ScalarEvent
    """An event of the parser; those that are of no node have only ``start_mark``."""


def parse_yaml(text: str, shown: str) -> Document:
    """Parse YAML text.

    Args:
        text: The text.
        shown: Its name in messages.

    Raises:
        ConfigError: Not YAML, a tag, too deep, too many nodes, hidden characters.
        ConfigErrors: Duplicate keys and words that readers disagree on, all at once.
    """
    refuse_hidden(text, shown)
    builder = Builder(shown)
    builder.build(events(text, shown))
    refuse_together(builder.problems)
    return Document(builder.value, builder.marks, shown)


def typed(text: str) -> Json:
    """A value from the command line or the environment, with the type that it has in a file.

    ``[1, 2]``, ``{a: 1}`` and quoted text are read as YAML. A scalar that readers interpret
    differently is text here, because quotes are unusual on a command line.
    """
    stripped = text.strip()
    if stripped[:1] in ("[", "{", '"', "'"):
        return parse_yaml(stripped, "the command line").value
    if trap(stripped):
        return text
    return resolve(stripped) if stripped else text


def events(text: str, shown: str) -> Iterator[Event]:
    """The parser's events: tokens with places, nothing built.

    Raises:
        ConfigError: Not YAML, with line and column.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        column = f"column {mark.column + 1}: " if mark else ""
        problem = str(error.problem or error.context or "not YAML").replace("\t", "\\t")
        tab = "'\\t'" in problem
        raise ConfigError(
            f"{column}not YAML: {problem}",
            file=shown,
            line=line,
            hint="indent with spaces: a tab is not allowed"
            if tab
            else "check the indentation, colons and quotes of that line and the one before",
        ) from None
    except (
        YAMLError,
        ValueError,
        RecursionError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
    ) as error:
        # The parser itself fails on some broken input; the mistake is in the user's file.
        raise ConfigError(
            f"not YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            file=shown,
            hint="check the quotes and brackets",
        ) from None


@dataclass
class _Anchor:
    value: Json
    nodes: int
    marks: dict[KeyPath, Mark]


@dataclass
class _Frame:
    """A mapping or sequence that is being read."""

    value: JsonObject | list[Json]
    path: KeyPath
    anchor: str | None
    first: int
    """Nodes read before it."""
    key: str | None = None
    waits_for_key: bool = True
    merge: bool = False
    merged: list[_Anchor] = field(default_factory=list)


class Builder:
    """Builds values, and the place of each, from events.

    Args:
        shown: Name of the file in messages.
    """

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.value: Json = None
        self.marks: dict[KeyPath, Mark] = {}
        self.problems: list[ConfigError] = []
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Anchor] = {}
        self._nodes = 0
        self._documents = 0

    def build(self, events: Iterator[Event]) -> None:
        """Read every event; afterwards ``value``, ``marks`` and ``problems`` are complete.

        Raises:
            ConfigError: A mistake after which the rest cannot be read.
        """
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                self._documents += 1
                if self._documents > 1:
                    raise self._error(
                        "a second document starts", event, hint="one file, one experiment"
                    )
            elif kind == "ScalarEvent":
                self._tag(event)
                self._scalar(event)
            elif kind == "AliasEvent":
                self._alias(event)
            elif kind in ("MappingStartEvent", "SequenceStartEvent"):
                self._tag(event)
                self._open(event, {} if kind == "MappingStartEvent" else [])
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                self._close(event)

    # -- events -------------------------------------------------------------------------------

    def _scalar(self, event: Event) -> None:
        plain = event.style is None
        raw = str(event.value)
        self._count(1, event)
        if self._at_key():
            self._key(raw, plain, event)
            return
        key = str(self._frames[-1].key or "") if self._frames else ""
        value: Json = raw
        if plain:
            ambiguous = trap(raw, key)
            if ambiguous:
                self._report(ambiguous.message, event, field=self._here(), hint=ambiguous.hint)
            value = resolve(raw)
        self._put(value, self._mark(event, raw if plain else None))
        if event.anchor:
            self._anchors[event.anchor] = _Anchor(value, 1, {})

    def _alias(self, event: Event) -> None:
        anchor = self._anchors.get(event.anchor or "")
        if anchor is None:
            raise self._error(
                f"*{event.anchor} refers to no anchor before it, or to itself",
                event,
                hint=f"define &{event.anchor} above",
            )
        self._count(anchor.nodes, event)
        if self._at_key():
            raise self._error("an alias as a key", event, hint="write the key out")
        here = self._path()
        if not self._merging():
            for below, mark in anchor.marks.items():
                self.marks[here + below] = mark
            self._put(copy.deepcopy(anchor.value), self._mark(event, None))
        else:
            self._merge(anchor, event)

    def _open(self, event: Event, value: JsonObject | list[Json]) -> None:
        self._count(1, event)
        if self._at_key():
            raise self._error("a mapping or list as a key", event, hint="a key is a word")
        if len(self._frames) >= MAX_DEPTH:
            raise self._error(
                "nested too deeply", event, allowed=f"{MAX_DEPTH} levels", hint="flatten it"
            )
        path = self._path()
        if not self._frames or isinstance(self._frames[-1].value, list):
            self.marks[path] = self._mark(event, None)  # that of a key is there
        self._frames.append(_Frame(value, path, event.anchor, self._nodes - 1))

    def _close(self, event: Event) -> None:
        frame = self._frames.pop()
        if isinstance(frame.value, dict):
            for anchor in frame.merged:
                for key, value in as_object(anchor.value).items():
                    if key not in frame.value:
                        frame.value[key] = copy.deepcopy(value)
                        for below, mark in anchor.marks.items():
                            if below[:1] == (key,):
                                self.marks.setdefault(frame.path + below, mark)
        if frame.anchor:
            depth = len(frame.path)
            inside = {
                p[depth:]: m
                for p, m in self.marks.items()
                if len(p) > depth and p[:depth] == frame.path
            }
            self._anchors[frame.anchor] = _Anchor(frame.value, self._nodes - frame.first, inside)
        if self._merging():
            self._merge(_Anchor(frame.value, 0, {}), event)
        else:
            self._put(frame.value, None)

    # -- helpers ------------------------------------------------------------------------------

    def _key(self, raw: str, plain: bool, event: Event) -> None:
        frame = self._frames[-1]
        if plain and raw == "<<":
            frame.waits_for_key, frame.merge = False, True
            return
        if plain and raw in ("", "~"):
            raise self._error("an empty key", event, hint="write `key: value`")
        if plain and raw.lower() == "null":
            self._report("null as a key", event, hint=f"write a name, or quote it: '{raw}'")
        ambiguous = trap(raw) if plain else None
        if ambiguous:
            self._report(f"as a key, {ambiguous.message}", event, hint=f"quote it: '{raw}'")
        path = (*frame.path, raw)
        assert isinstance(frame.value, dict)
        if raw in frame.value:
            first = self.marks[path].line
            lines = f"line {first} and line {event.start_mark.line + 1}"
            self._report(
                f"is listed twice: {lines}", event, field=dotted(path), hint="keep one of the two"
            )
        else:
            self.marks[path] = self._mark(event, None)
        frame.key, frame.waits_for_key = raw, False

    def _put(self, value: Json, mark: Mark | None) -> None:
        if not self._frames:
            self.value = value
            if mark:
                self.marks[()] = mark
            return
        frame = self._frames[-1]
        if self._merging():
            raise ConfigError(
                "`<<` takes a mapping",
                file=self.shown,
                line=mark.line if mark else None,
                hint="write `<<: *anchor` where &anchor is a mapping",
            )
        path = self._path()
        if isinstance(frame.value, list):
            frame.value.append(value)
            if mark:
                self.marks[path] = mark
            return
        assert frame.key is not None
        frame.value[frame.key] = value
        if mark and mark.raw is not None:
            at = self.marks[path]
            self.marks[path] = Mark(at.line, at.column, mark.raw)
        frame.key, frame.waits_for_key = None, True

    def _merge(self, anchor: _Anchor, event: Event) -> None:
        frame = self._frames[-1]
        parts = anchor.value if isinstance(anchor.value, list) else [anchor.value]
        if not all(isinstance(p, dict) for p in parts):
            raise self._error("`<<` takes a mapping", event, hint="write `<<: *anchor`")
        for part in parts:
            frame.merged.append(_Anchor(part, 0, anchor.marks))
        frame.merge, frame.waits_for_key = False, True

    def _at_key(self) -> bool:
        return bool(
            self._frames
            and isinstance(self._frames[-1].value, dict)
            and self._frames[-1].waits_for_key
        )

    def _merging(self) -> bool:
        return bool(self._frames and self._frames[-1].merge)

    def _path(self) -> KeyPath:
        if not self._frames:
            return ()
        frame = self._frames[-1]
        if isinstance(frame.value, list):
            return (*frame.path, len(frame.value))
        return (*frame.path, "<<" if frame.merge else str(frame.key))

    def _here(self) -> str | None:
        return dotted(self._path()) or None

    def _mark(self, event: Event, raw: str | None) -> Mark:
        return Mark(event.start_mark.line + 1, event.start_mark.column + 1, raw)

    def _count(self, nodes: int, event: Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._error(
                "has too many values, counted with aliases expanded",
                event,
                allowed=f"at most {MAX_NODES:,}",
                hint="write aliases of aliases out, or less",
            )

    def _tag(self, event: Event) -> None:
        if event.tag is not None:
            raise self._error(
                f"tag {event.tag} is not allowed",
                event,
                field=self._here(),
                allowed="plain mappings, lists, text, numbers, booleans",
                hint="delete the tag; quote what is text",
            )

    def _report(self, message: str, event: Event, *, hint: str, field: str | None = None) -> None:
        """Keeps a mistake that the rest can be read with."""
        self.problems.append(self._error(message, event, field=field, hint=hint))

    def _error(
        self,
        message: str,
        event: Event,
        *,
        field: str | None = None,
        allowed: str | None = None,
        hint: str | None = None,
    ) -> ConfigError:
        mark = event.start_mark
        return ConfigError(
            message if field else f"column {mark.column + 1}: {message}",
            file=self.shown,
            line=mark.line + 1,
            field=field,
            allowed=allowed,
            hint=hint,
        )
