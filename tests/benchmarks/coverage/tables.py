"""Tables as text, and whether what they show is as it has to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

LOW, HIGH, ERROR = 0.93, 0.98, 0.05
"""Coverage of 95 % intervals, and the most that equal things may be called better."""


@dataclass
class Run:
    """How much is tried, and what was missed.

    Attributes:
        tries: Data sets of what is computed at once.
        pages: Data sets of what is computed one by one.
        missed: What is not as it has to be.
        kept: Kind -> number of values -> coverage, for ``measured.json``.
    """

    tries: int = 20_000
    pages: int = 800
    missed: list[str] = field(default_factory=list)
    kept: dict[str, dict[int, float]] = field(default_factory=dict)

    def generator(self, *key: int) -> np.random.Generator:
        """Random numbers of their own for each part, the same in each call."""
        return np.random.default_rng([20_260_601, *key])

    def noise(self, share: float, tries: int) -> float:
        """Three standard errors of a measured share."""
        return 3 * float(np.sqrt(max(share * (1 - share), 1e-4) / tries))

    def must(self, fulfilled: bool, what: str) -> str:
        """Remember what is missed; the mark of a cell."""
        if not fulfilled:
            self.missed.append(what)
        return "" if fulfilled else "!"


def show(
    title: str, header: Sequence[object], rows: Sequence[Sequence[object]], *notes: str
) -> None:
    """Print a table."""
    cells = [[_cell(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    print(f"\n{title}")
    for number, row in enumerate(cells):
        line = [row[0].ljust(widths[0])]
        line += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(line).rstrip())
        if number == 0:
            print("  ".join("-" * w for w in widths))
    for note in notes:
        print(note)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


Section = Callable[[Run], None]
