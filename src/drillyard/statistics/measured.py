"""How often the interval of a mean was measured to hold the truth.

``measured.json`` is written by ``python -m tests.benchmarks.coverage --write``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

KINDS = {
    "normal": "results are normally distributed",
    "skewed": "they are skewed (exponential)",
    "two groups": "they fall into two groups",
    "one in five fails": "one training in five fails",
}
"""Kind of data in ``measured.json`` -> what it is, in words."""


@cache
def _table() -> dict[str, dict[int, float]]:
    text = files("drillyard.statistics").joinpath("measured.json").read_text(encoding="utf-8")
    return {
        kind: {int(n): share for n, share in by_n.items()}
        for kind, by_n in json.loads(text).items()
    }


def measured(n: int) -> dict[str, float]:
    """Kind of data in words -> share of 95 % intervals over ``n`` values that hold the truth.

    Args:
        n: At least 3; measured was the largest number that is not above it.
    """
    table = _table()
    return {
        words: table[kind][max(k for k in table[kind] if k <= max(n, 3))]
        for kind, words in KINDS.items()
    }
