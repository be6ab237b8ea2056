"""The meaning of unquoted scalars in a file.

The rules are those of YAML 1.2 with two common additions: ``1e-3`` and ``200_000`` are numbers.
Scalars that YAML readers interpret differently are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError

_INT = re.compile(r"[-+]?[0-9](?:_?[0-9])*\Z")
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_DIGITS = r"[0-9](?:_?[0-9])*"
_FLOAT = re.compile(rf"[-+]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = {"", "~", "null", "Null", "NULL"}
_YES_NO = re.compile(r"(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)\Z")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
_OLD_OCTAL = re.compile(r"[-+]?0[0-9_]*[0-9]\Z")
_MAX_DIGITS = 60
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Trap:
    """Why an unquoted word is refused."""

    message: str
    hint: str


def resolve(word: str) -> Json:
    """The value of an unquoted word.

    Args:
        word: The text in the file, stripped.

    Returns:
        None, a boolean, an integer, a float or the word itself.
    """
    if word in _NULLS:
        return None
    if word in _WORDS:
        return _WORDS[word]
    if len(word) > _MAX_DIGITS:
        return word
    if _INT.match(word):
        return int(word.replace("_", ""))
    if _HEX.match(word):
        return int(word, 16)
    if _OCTAL.match(word):
        return int(word[2:], 8)
    if _FLOAT.match(word):
        return float(word.replace("_", ""))
    if _NOT_FINITE.match(word):
        return float(word.replace(".", "", 1))
    return word


def trap(word: str, key: str = "") -> Trap | None:
    """A word that YAML readers do not agree on.

    Args:
        word: An unquoted word.
        key: The key whose value it is.
    """
    if _YES_NO.match(word):
        return Trap(
            f"{word} without quotes is read as a boolean by many YAML readers",
            f"quote it: '{word}'; or write "
            + ("true" if word.lower() in ("yes", "on") else "null when you mean none, false")
            + " when you mean a boolean",
        )
    if _SEXAGESIMAL.match(word):
        total = 0.0
        for part in word.replace("_", "").lstrip("+-").split(":"):
            total = total * 60 + float(part)
        return Trap(
            f"{word} without quotes is read as the number {total:g} by many YAML readers "
            "(base 60)",
            f"quote it: '{word}'",
        )
    if _OLD_OCTAL.match(word):
        digits = word.replace("_", "").lstrip("+-")
        octal = f"{int(digits, 8)}" if not set(digits) & {"8", "9"} else "text"
        return Trap(
            f"{word} has a leading zero: some readers take it as {octal} (octal), others as "
            f"{int(digits)}",
            f"write {int(digits)}, or quote it: '{word}'",
        )
    if _FLOAT.match(word) and "." in word and word.endswith("0") and _about_versions(key):
        return Trap(
            f"{word} without quotes is read as the number {float(word.replace('_', '')):g}",
            f"quote it: '{word}'",
        )
    return None


def _about_versions(key: str) -> bool:
    return key == "python" or key.endswith("version")


def hidden_character(text: str) -> tuple[int, str] | None:
    """The first character that is invisible or changes the direction of text.

    Returns:
        (offset, ``U+202E``), or None.
    """
    match = _HIDDEN.search(text)
    return (match.start(), f"U+{ord(match[0]):04X}") if match else None


def values_in(
    tree: Json, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Json]]:
    """Yields (path, value) of everything in a tree except mappings and lists."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from values_in(value, (*path, key))
            if isinstance(key, str) and hidden_character(key):
                yield path, key
    else:
        yield path, tree


def must_be_clean(tree: Json) -> Iterator[ConfigError]:
    """Yields an error for each number that is not finite, and each invisible character.

    They have no file and line yet.
    """
    for path, value in values_in(tree):
        if isinstance(value, float) and not math.isfinite(value):
            yield ConfigError(
                "is not a number"
                if math.isnan(value)
                else "not finite, or out of the range of a number",
                field=dotted(path),
                value=value,
                allowed="a finite number, at most 1.8e308",
                hint="write a finite number",
            )
        elif isinstance(value, str) and (hidden := hidden_character(value)):
            yield ConfigError(
                f"character {hidden[1]} at position {hidden[0] + 1} is invisible",
                field=dotted(path),
                value=value.encode("ascii", "backslashreplace").decode(),
                allowed="visible characters, spaces, tabs and line ends",
                hint="delete that character and type the text again",
            )


def dotted(path: tuple[str | int, ...]) -> str:
    """``learner.args.net_arch[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
