"""Lists of names in a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def few(names: Sequence[str], most: int, rest: str = " and {} more") -> str:
    """The first names of a list, and that there are more.

    Args:
        names: The names.
        most: How many are named.
        rest: Text for the others, with ``{}`` for their number.
    """
    return ", ".join(names[:most]) + (rest.format(len(names) - most) if names[most:] else "")
