"""Tables as text, and whether what they show is as it has to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

LOW, HIGH, ERROR = 0.93, 0.98, 0.05
"""Coverage of 95 % intervals, and the most that equal things may be called better."""

PROMISES = {
    "P-mean": "at least 0.93 of the intervals of a mean hold it, for normal values from 3 on, for "
    "the others from the number in the last column on.",
    "P-width": "an interval is at most twice as wide as Student's t.",
    "P-better": "at most 5 % of reports call something better that is equal, for candidates of "
    "one shape, also if they vary differently. Not for different shapes: P-shapes.",
    "P-shapes": "none. Equal means and different shapes are called better as often as in this "
    "table: a rare failure that is in none of the runs is seen by no test.",
    "P-baseline": "at most 5 % of sentences call an equal agent above or below the best baseline, "
    "for seeds that are normal, capped or in two groups, from 5 on. Not for skewed ones.",
    "P-auto": "at most 5 % of searches with `seeds: auto` tell equal trials of one shape apart.",
    "P-champion": "an equal challenger becomes champion in at most 5 % of decisions, for failures "
    "of one in 50 or more, and for all other shapes here.",
    "P-power": "none: how often a challenger that is better becomes champion.",
}
"""Id of each promise of a page -> for what it holds."""


@dataclass
class Run:
    """How much is tried, and what was missed.

    Attributes:
        tries: Data sets of what is computed at once.
        pages: Data sets of what is computed one by one.
        missed: What is not as it has to be.
        kept: Kind -> number of values -> coverage, for ``measured.json``.
        promised: Id of a promise -> its table in Markdown, for the page that has it.
    """

    tries: int = 20_000
    pages: int = 800
    missed: list[str] = field(default_factory=list)
    kept: dict[str, dict[int, float]] = field(default_factory=dict)
    promised: dict[str, str] = field(default_factory=dict)

    def generator(self, *key: int) -> np.random.Generator:
        """Random numbers of their own for each part, the same in each call."""
        return np.random.default_rng([20_260_601, *key])

    def noise(self, share: float, tries: int) -> float:
        """Three standard errors of a measured share."""
        return 3 * float(np.sqrt(max(share * (1 - share), 1e-4) / tries))

    def promise(
        self,
        promise: str,
        title: str,
        header: Sequence[object],
        rows: Sequence[Sequence[object]],
        *notes: str,
    ) -> None:
        """Print a table with the promise that it measures, and keep it."""
        show(f"{promise}: {title}", header, rows, *notes, f"Promise: {PROMISES[promise]}")
        lines = [list(map(str, header)), ["---"] * len(header), *[[*map(str, r)] for r in rows]]
        self.promised[promise] = "\n".join(f"| {' | '.join(line)} |" for line in lines)

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
