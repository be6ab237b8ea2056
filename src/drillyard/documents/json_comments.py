"""JSON with comments (JSON5) to plain values, each with its line."""

from __future__ import annotations

import json
import re

from drillyard.documents.document import MAX_DEPTH, Document, KeyPath, Mark, refuse_hidden
from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.yaml_safe import Builder, events
from drillyard.errors import ConfigError

MAX_JSON5_BYTES = 64 * 1024
"""The JSON5 reader is slow; beyond this size only comments are allowed over plain JSON."""

_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|//[^\n]*|/\*.*?(?:\*/|\Z)|\t', re.DOTALL
)


def parse_json(text: str, shown: str) -> Document:
    """Parse JSON, or JSON with comments (JSON5).

    Args:
        text: The text.
        shown: Its name in messages.

    Raises:
        ConfigError: Not JSON, duplicate keys, too deep, hidden characters.
    """
    refuse_hidden(text, shown)
    if not text.strip():
        return Document(None, {}, shown)
    if _depth(text) > MAX_DEPTH:
        raise ConfigError(
            "nested too deeply", file=shown, allowed=f"{MAX_DEPTH} levels", hint="flatten it"
        )
    # Comments and tabs become blanks, so that every line and column stays.
    bare = _TOKEN.sub(_blank, text)
    marks = _json_marks(bare, shown)
    value = _json_value(text, bare, shown)
    return Document(value, marks, shown)


def _blank(token: re.Match[str]) -> str:
    """Blanks for a comment or tab. A comment without an end stays: it is a mistake."""
    text = token[0]
    endless = text.startswith("/*") and (len(text) < 4 or not text.endswith("*/"))
    return text if text[0] in "\"'" or endless else re.sub(r"[^\n]", " ", text)


def _depth(text: str) -> int:
    depth = deepest = 0
    for token in re.finditer(_TOKEN.pattern + r"|[\[{]|[\]}]", text, re.DOTALL):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
    return deepest


def _json_marks(bare: str, shown: str) -> dict[KeyPath, Mark]:
    """Places of values. JSON without comments is nearly YAML, so the YAML parser finds them."""
    builder = Builder(shown)
    try:
        builder.build(events(bare, shown))
    except ConfigError as error:
        if error.allowed and "counted" in error.message:
            raise
        return {}
    for problem in builder.problems:
        if "twice" in problem.message:
            raise problem
    return {p: Mark(m.line, m.column) for p, m in builder.marks.items()}


def _json_value(text: str, bare: str, shown: str) -> Json:
    def no_duplicates(pairs: list[tuple[str, Json]]) -> JsonObject:
        pairs_by_key: JsonObject = {}
        for key, value in pairs:
            if key in pairs_by_key:
                raise ConfigError(
                    f"key {key!r} is listed twice", file=shown, hint="keep one of the two"
                )
            pairs_by_key[key] = value
        return pairs_by_key

    value: Json
    try:
        value = json.loads(bare, object_pairs_hook=no_duplicates)
        return value
    except RecursionError:
        raise ConfigError("nested too deeply", file=shown, hint="flatten it") from None
    except ValueError as error:
        if len(text) > MAX_JSON5_BYTES:
            at = error if isinstance(error, json.JSONDecodeError) else None
            raise ConfigError(
                f"not JSON: {error}",
                file=shown,
                line=at.lineno if at else None,
                allowed=f"beyond {MAX_JSON5_BYTES:,} bytes: plain JSON with comments",
                hint="quote keys with double quotes and drop trailing commas",
            ) from None
    import json5

    try:
        value = json5.loads(text, object_pairs_hook=no_duplicates)
        return value
    except (ValueError, RecursionError) as error:
        match = re.match(r"<string>:(\d+) (.*)", str(error), re.DOTALL)
        raise ConfigError(
            f"not JSON: {match[2] if match else error}",
            file=shown,
            line=int(match[1]) if match else None,
            hint="check the commas, quotes and brackets of that line and the one before",
        ) from None
