"""How many trainings or episodes show a rare failure.

No test of values sees what is not in them. A failure that happens independently with probability
s is in none of n values with probability (1 - s)^n.
"""

from __future__ import annotations

import math

RARE = 0.1
"""The failure that reports name."""


def needed(share: float = RARE, confidence: float = 0.95) -> int:
    """The number of values of which one or more is a failure, with this confidence.

    Args:
        share: Probability of the failure, above 0 and below 1.
        confidence: 0 to 1.
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - share))


def shows(n: int, share: float = RARE) -> float:
    """The probability that one or more of ``n`` values is a failure."""
    return float(1 - (1 - share) ** n)


def remark(n: int, noun: str = "seeds") -> str:
    """A sentence without its period: whether this number would show a failure of one in ten.

    Args:
        n: Number of values of each of the compared.
        noun: Name of the values.
    """
    if n >= needed():
        return f"{n} {noun} are enough to show a failure of one in ten with 95 % probability"
    return (
        f"{n} {noun} show a failure of one in ten with {100 * shows(n):.0f} % probability "
        f"({needed()} {noun}: 95 %)"
    )
