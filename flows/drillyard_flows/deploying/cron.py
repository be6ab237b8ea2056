"""Times as cron writes them, refused before Prefect is imported, which takes seconds.

Prefect knows more forms (``L``, ``#``, ``@daily``, seconds and years). Those are left to Prefect.
"""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

from drillyard.errors import ConfigError, misused

EXAMPLE = '--cron "0 3 * * *" --timezone Europe/Berlin'
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of the month", 1, 31, []),
    ("month", 1, 12, ["", *_MONTHS]),
    ("day of the week", 0, 7, _DAYS),
)
"""Name, smallest and largest number, names of the numbers."""
_PART = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?")
_PREFECTS = re.compile(r"[lwh#?]", re.IGNORECASE)


def problems_of(cron: str, timezone: str) -> list[ConfigError]:
    """Returns what is wrong with the times of a schedule, all at once.

    Args:
        cron: Five fields.
        timezone: Name of a time zone.
    """
    problems = []
    if (message := _problem(cron)) is not None:
        problems.append(misused(message, "--cron", cron, "five fields of cron", EXAMPLE))
    try:
        ZoneInfo(timezone)
    except (LookupError, OSError, ValueError):  # unknown, a folder, or outside of the folder
        message, allowed = "is not a time zone", "Area/City, or UTC"
        problems.append(misused(message, "--timezone", timezone, allowed, EXAMPLE))
    return problems


def _problem(cron: str) -> str | None:
    fields = cron.split()
    if cron.startswith("@"):
        return None
    if not len(_FIELDS) <= len(fields) <= len(_FIELDS) + 2:
        names = ", ".join(name for name, *_ in _FIELDS)
        return f"has {len(fields)} fields, and not the five of cron: {names}"
    for (name, low, high, words), text in zip(_FIELDS, fields, strict=False):
        for part in text.split(","):
            prefects = _PREFECTS.search(part) and part.lower() not in words
            if not prefects and not _is_valid(part, low, high, words):
                return f"{part!r} is not valid as the {name}: a number from {low} to {high}, or *"
    return None


def _is_valid(part: str, low: int, high: int, words: list[str]) -> bool:
    parts = _PART.fullmatch(part.lower())
    if parts is None or not int(parts["step"] or 1):
        return False
    ends = [end for end in (parts["low"], parts["high"]) if end is not None]
    numbers = [words.index(e) if e in words else int(e) if e.isdecimal() else -1 for e in ends]
    return all(low <= number <= high for number in numbers)
