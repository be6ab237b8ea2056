"""How long an experiment still takes, from how long its runs take."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from drillyard.mailbox.records import Board, Phase, StudyState
from drillyard.spec.study import StudySpec

LEAST_S = 1.0
"""A shorter time that is left is not shown: what is not counted takes longer."""


def worth_showing(left_s: float | None) -> float | None:
    """Returns a time that is left, in seconds, or None if nothing is worth saying."""
    return None if left_s is None or left_s < LEAST_S else left_s


def run_s(board: Board) -> float | None:
    """How long the training of a run takes in all, in seconds, at its speed of now."""
    if board.phase is not Phase.TRAIN or not board.total or not board.steps_per_s:
        return None
    return board.total / board.steps_per_s


def time_left(
    running: Sequence[Board | None], waiting: int, known_s: Iterable[float] = ()
) -> float | None:
    """Seconds until the last run has trained; a waiting run takes the place of one that ends.

    The time of evaluations, and of machines that are still to be rented, is not known and not
    counted.

    Args:
        running: The boards of the runs that are at work; None before the first heartbeat.
        waiting: Number of runs that have not begun.
        known_s: Whole durations of other runs, in seconds, such as those that have ended.

    Returns:
        The estimate, or None while nothing is known that it could be made from.
    """
    durations = [d for b in running if b is not None and (d := run_s(b)) is not None]
    durations += known_s
    typical_s = sum(durations) / len(durations) if durations else None
    ends: list[float] = []
    for board in running:
        left = typical_s if board is None else board.eta_s
        if board is not None and left is None:
            left = typical_s if board.phase is Phase.TRAIN else 0.0
        if left is None:
            return None
        ends.append(left)
    if waiting and typical_s is None:
        return None
    if not ends:
        return None  # nothing works now, so nothing says when something will
    heapq.heapify(ends)
    for _ in range(waiting):
        heapq.heapreplace(ends, ends[0] + (typical_s or 0.0))
    return max(ends)


def runs_to_come(
    study: StudySpec | None, seeds: int, state: StudyState | None, posted: int = 0
) -> int:
    """Number of runs of trials that a study has not chosen yet, if it goes on to its last one.

    Args:
        study: The study; None for a plain experiment.
        seeds: Number of seeds of a trial.
        state: The progress of the study; None before its first trial.
        posted: Number of trials that have runs. The state is written after them, so it may be
            behind.
    """
    if study is None or state is None or state.phase == "over" or state.stopped:
        return 0
    budget = state.budgets.get("trials")
    trials = max(0, int(budget["limit"] - max(budget["used"], posted))) if budget else 0
    again = study.confirmations(seeds) if state.confirmed is None else 0
    return trials * seeds + again
