"""The rule for the steps at which a run writes checkpoints; it depends on the file alone.

A barrier is at each tenth of the budget, at the nearest end of a rollout. Experiments that began
with an older version (``simulators.streams``) have theirs at the first end of a rollout after it.
"""

from __future__ import annotations

CHECKPOINTS = 10


def part(total: int, parts: int) -> int:
    """Steps of one of some equal parts of a budget; at least 1."""
    return max(1, total // parts)


def interval(tenth: int, rollout: int) -> int:
    """Steps between barriers: every rollout, where two are longer than a tenth of the budget."""
    return rollout if 2 * rollout > tenth else tenth


def next_barrier(step: int, every: int, early: int) -> int:
    """The first step at which the next barrier may be.

    Args:
        step: Environment steps so far.
        every: Steps between two barriers.
        early: Half a rollout: the barrier is at the nearest boundary, which may be before.
    """
    return ((step + early) // every + 1) * every - early


def barrier_steps(total: int, every: int, rollout: int) -> list[int]:
    """The steps at which a run writes checkpoints.

    Args:
        total: The budget in steps.
        every: Steps between two barriers.
        rollout: Steps of one rollout, over all copies.
    """
    steps: list[int] = []
    early, step = rollout // 2, 0
    while (step := -(-next_barrier(step, every, early) // rollout) * rollout) < total:
        steps.append(step)
    return steps
