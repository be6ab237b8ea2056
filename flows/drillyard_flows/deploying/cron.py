"""Times as cron writes them, refused before Prefect is imported, which takes seconds.

Prefect knows more forms (``L``, ``#``, ``@daily``, seconds and years). Those are left to Prefect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

from drillyard.errors import ConfigError

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
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days that a month can have."""
_PART = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?")
_PREFECTS = re.compile(r"[lwh#?]", re.IGNORECASE)


def problems_of(cron: str, timezone: str) -> list[ConfigError]:
    """Returns what is wrong with the times of a schedule, all at once.

    Args:
        cron: Five fields.
        timezone: Name of a time zone.
    """
    found = []
    if (message := next(_problems(cron), None)) is not None:
        found.append(_refused(message, "--cron", cron, "five fields of cron"))
    try:
        ZoneInfo(timezone)
    except (LookupError, OSError, ValueError):  # unknown, a folder, or outside of the folder
        found.append(_refused("is not a time zone", "--timezone", timezone, "Area/City, or UTC"))
    return found


def _problems(cron: str) -> Iterator[str]:
    fields = cron.split()
    if cron.startswith("@"):
        return
    if not len(_FIELDS) <= len(fields) <= len(_FIELDS) + 2:
        names = ", ".join(name for name, *_ in _FIELDS)
        yield f"has {len(fields)} fields, and not the five of cron: {names}"
        return
    plain = True
    for (name, low, high, words), text in zip(_FIELDS, fields, strict=False):
        for part in text.split(","):
            if _numbers(part, low, high, words) is not None:
                continue
            if _PREFECTS.search(part) and part.lower() not in words:
                plain = False
                continue
            yield f"{part!r} is not valid as the {name}: a number from {low} to {high}, or *"
    if plain and len(fields) == len(_FIELDS) and fields[4] == "*" and _never(fields):
        yield "these times never come: no year has such a day"


def _never(fields: list[str]) -> bool:
    days, months = (
        [n for part in fields[i].split(",") for n in _numbers(part, *_FIELDS[i][1:]) or ()]
        for i in (2, 3)
    )
    return all(day > _LENGTHS[month - 1] for day in days for month in months)


def _numbers(part: str, low: int, high: int, words: list[str]) -> Sequence[int] | None:
    """The numbers that a part of a field means; None if it cannot be read."""
    read = _PART.fullmatch(part.lower())
    if read is None:
        return None

    def number(text: str) -> int:
        return words.index(text) if text in words else int(text) if text.isdecimal() else -1

    ends = (low, high)
    if read["low"] is not None:
        first = number(read["low"])
        # `3` is one number, and `3/5` begins there.
        last = high if read["step"] is not None else first
        ends = (first, number(read["high"]) if read["high"] is not None else last)
    step = int(read["step"] or 1)
    if not (low <= ends[0] <= high and low <= ends[1] <= high and step):
        return None
    if ends[0] > ends[1]:  # `28-3`: from the 28th over the end of the month to the 3rd
        return [*range(low, ends[1] + 1), *range(ends[0], high + 1)]
    return range(ends[0], ends[1] + 1, step)


def _refused(message: str, field: str, value: str, allowed: str) -> ConfigError:
    never = message.startswith("these times")
    return ConfigError(
        message,
        file="command line",
        field=field,
        value=value,
        allowed=allowed,
        hint='--cron "0 0 28 2 *" is the end of February; "0 2 * * 1" each Monday at two'
        if never
        else EXAMPLE,
    )
