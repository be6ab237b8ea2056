"""How often the interval of a mean held the truth in measurements.

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
"""Kind of data in ``measured.json`` -> its description."""


@cache
def _table() -> dict[str, dict[int, float]]:
    text = files("drillyard.statistics").joinpath("measured.json").read_text(encoding="utf-8")
    return {
        kind: {int(n): share for n, share in by_n.items()}
        for kind, by_n in json.loads(text).items()
    }


def measured(n: int) -> dict[str, float]:
    """Description of the data -> share of 95 % intervals over ``n`` values that hold the truth.

    Args:
        n: Number of values, at least 3. The result is for the largest measured number up to it.
    """
    table = _table()
    return {
        description: table[kind][max(k for k in table[kind] if k <= max(n, 3))]
        for kind, description in KINDS.items()
    }
