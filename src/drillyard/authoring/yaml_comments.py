"""Writes experiment files as text with comments, and adds missing keys to an edited file.

The user's text is never changed: missing keys are inserted as lines at the end of their mapping,
so that every comment, quote and number stays as it was typed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drillyard.documents.json_types import Json, as_object
from drillyard.documents.scalars import resolve, trap
from drillyard.errors import Bug

if TYPE_CHECKING:
    from ruamel.yaml.nodes import CollectionNode

    from drillyard.documents.json_types import Json

WIDTH = 99
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./ +-]*(?<! )\Z")


@dataclass
class Entry:
    """A key with its comment, and a value or further entries."""

    key: str
    comment: str
    value: Json = None
    entries: list[Entry] = field(default_factory=list)
    """If not empty: a mapping with a comment at each key."""


def render(entries: Iterable[Entry], indent: int = 0) -> list[str]:
    """Returns lines of YAML.

    Args:
        entries: The entries in order.
        indent: Spaces before each line.
    """
    lines: list[str] = []
    pad = " " * indent
    for entry in entries:
        lines += wrapped(entry.comment, indent)
        if entry.entries and not indent:
            lines.insert(len(lines) - len(wrapped(entry.comment, indent)), "")
        if entry.entries:
            lines.append(f"{pad}{entry.key}:")
            lines += render(entry.entries, indent + 2)
        else:
            lines.append(f"{pad}{entry.key}: {scalar(entry.value)}")
    return lines


def wrapped(comment: str, indent: int) -> list[str]:
    """Returns a comment, wrapped."""
    import textwrap

    pad = " " * indent
    return [f"{pad}# {line}" for line in textwrap.wrap(comment, max(40, WIDTH - indent - 2))]


def scalar(value: Json) -> str:
    """Returns a value on one line of YAML."""
    match value:
        case None | bool() | int():
            return json.dumps(value)
        case float():
            return _float(value)
        case dict():
            items = (f"{scalar(str(key))}: {scalar(item)}" for key, item in value.items())
            return "{" + ", ".join(items) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(scalar, value)) + "]"
    text = str(value)
    if _PLAIN.match(text) and resolve(text) == text and trap(text) is None:
        return text
    return json.dumps(text, ensure_ascii=False)


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if value != value else (".inf" if value > 0 else "-.inf")
    mantissa, sign, exponent = repr(value).partition("e")
    return f"{mantissa}.0e{exponent}" if sign and "." not in mantissa else repr(value)


@dataclass
class Completed:
    """A completed file."""

    text: str
    added: list[str]
    """Dotted paths of the added keys."""
    compact: list[str]
    """One-line mappings (``{…}``), which were not changed; missing keys have their defaults."""


def complete(text: str, entries: list[Entry]) -> Completed:
    """Adds missing keys to a file, each with its comment, and changes nothing else.

    Args:
        text: A well-formed YAML file whose top is a mapping.
        entries: The entries of a complete file.

    Returns:
        The new text; the same text if nothing is missing.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import MappingNode

    root = YAML(typ="safe", pure=True).compose(text)
    lines = text.splitlines()
    completed = Completed(text, [], [])
    insertions: list[tuple[int, list[str]]] = []

    def walk(node: MappingNode, entries: list[Entry], path: str) -> None:
        present = {k.value: v for k, v in node.value}
        missing = [e for e in entries if e.key not in present]
        if missing and node.flow_style:
            completed.compact.append(path)
        elif missing:
            indent = node.value[0][0].start_mark.column
            at = len(lines) if not path else _end(node, lines, indent)
            insertions.append((at, render(missing, indent)))
            completed.added.extend(f"{path}.{e.key}".lstrip(".") for e in missing)
        for entry in entries:
            child = present.get(entry.key)
            if entry.entries and isinstance(child, MappingNode) and child.value:
                walk(child, entry.entries, f"{path}.{entry.key}".lstrip("."))

    walk(root, entries, "")
    for at, new in sorted(insertions, key=lambda i: -i[0]):
        lines[at:at] = new
    if completed.added:
        completed.text = "\n".join(lines) + "\n"
        _must_keep(text, completed.text)
    return completed


def _end(node: CollectionNode, lines: list[str], indent: int) -> int:
    """Returns the line after a block mapping's last value and its comments."""
    last = node
    while getattr(last, "value", None) and isinstance(last.value, list) and not last.flow_style:
        final = last.value[-1]
        last = final[1] if isinstance(final, tuple) else final
    mark = last.end_mark
    at: int = mark.line + (1 if mark.column else 0)
    at = max(at, last.start_mark.line + (0 if mark.line > last.start_mark.line else 1))
    while at < len(lines):
        bare = lines[at].lstrip()
        if not bare.startswith("#") or len(lines[at]) - len(bare) < max(indent, 1):
            break
        at += 1
    return at


def _must_keep(before: str, after: str) -> None:
    """Verifies that every line of the user is kept in order, and that every value is unchanged."""
    from drillyard.documents.yaml_safe import parse_yaml
    from drillyard.spec.precedence import leaves

    remaining = iter(after.splitlines())
    kept = all(any(line == other for other in remaining) for line in before.splitlines())
    old, new = parse_yaml(before, "before").mapping, parse_yaml(after, "after").mapping
    for path in leaves(old):
        a: Json = old
        b: Json = new
        for part in path:
            if isinstance(a, dict):
                a, b = a[str(part)], as_object(b).get(str(part))
            elif isinstance(a, list):
                a, b = a[int(part)], None
        kept = kept and a == b
    if not kept:
        raise Bug("completing the file would have changed the user's text; nothing was written")
