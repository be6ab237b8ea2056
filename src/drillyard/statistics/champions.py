"""Whether a challenger replaces a champion: by the mean, and by the worst episodes.

Both played the same episodes. The mean alone would promote a challenger that fails rarely: the
failure is in few samples, and without it the challenger looks better in each of them. So the
number of episodes has to be one that shows such a failure (``failures.needed``), and the worst
tenth of the challenger's episodes (the conditional value at risk; R. T. Rockafellar, S. Uryasev,
"Optimization of conditional value-at-risk", 2000) may not be worse than the champion's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drillyard.statistics.comparing import MIN_PAIRS, above
from drillyard.statistics.failures import needed, shows
from drillyard.statistics.shares import share_ends

RAREST = 0.02
"""The rarest failure that a decision takes into account, by default."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The worst episodes of a challenger and a champion.

    Attributes:
        challenger: Mean return of the challenger's worst tenth of episodes.
        champion: The same of the champion.
        failures: Number of the challenger's episodes below the champion's worst return.
        at_most: Share of such episodes that is not exceeded, with 95 % confidence (exact).
    """

    challenger: float
    champion: float
    failures: int
    at_most: float


def tail(challenger: Sequence[float], champion: Sequence[float]) -> Tail:
    """The worst episodes of both.

    Args:
        challenger: Returns on the same episodes, at least one.
        champion: As many.
    """
    lowest, n = min(champion), len(challenger)
    failures = sum(value < lowest for value in challenger)
    at_most = float(share_ends(failures / n, n, 0.9)[1])
    return Tail(_worst(challenger), _worst(champion), failures, at_most)


def _worst(returns: Sequence[float]) -> float:
    tenth = sorted(returns)[: math.ceil(len(returns) / 10)]
    return math.fsum(tenth) / len(tenth)


def obstacles(
    challenger: Sequence[float],
    champion: Sequence[float],
    margin: float = 0.0,
    rarest: float = RAREST,
) -> tuple[str, ...]:
    """Why a challenger does not become champion, in sentences without their periods.

    Args:
        challenger: Its returns.
        champion: The champion's, on the same episodes in the same order.
        margin: Required difference of the means. A negative one also allows the worst tenth to be
            this much lower.
        rarest: Probability of the rarest failure that the episodes have to show.

    Returns:
        Nothing if it becomes champion.
    """
    notes = []
    n, enough = len(challenger), max(MIN_PAIRS, needed(rarest))
    if n < enough:
        notes.append(
            f"{n} episodes show a failure of one in {1 / rarest:.0f} with "
            f"{100 * shows(n, rarest):.0f} % probability; a decision needs {enough}"
        )
    if not above([a - b for a, b in zip(challenger, champion, strict=True)], margin):
        notes.append(f"the difference is not shown to be above {margin:g}")
    worst = tail(challenger, champion)
    lost = worst.champion + min(0.0, margin) - worst.challenger
    if lost > 1e-9 * max(1.0, abs(worst.champion)):
        notes.append(
            f"its worst tenth of episodes has the mean return {worst.challenger:.2f}, the "
            f"champion's {worst.champion:.2f}"
        )
    return tuple(notes)
