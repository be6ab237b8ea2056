"""Whether two machines ended in the same way."""

from __future__ import annotations

import re

HINT = (
    "correct the image, the network or the settings, and run the same command again; `drillyard "
    "logs` has all that machines wrote"
)
_CHANGING = re.compile(r"[\w.:/-]*\d[\w.:/-]*")


def alike(words: str) -> str:
    """Returns last words without times, ids and addresses: words that have a digit.

    Args:
        words: What a machine said at its end.
    """
    return _CHANGING.sub("#", words)
