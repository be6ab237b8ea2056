"""The used part of a study's budgets, and the study's state for people and programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import StudyState
from drillyard.spec.study import ObjectiveSpec, StudySpec
from drillyard.studies import state as states_of
from drillyard.studies.trial_log import TrialLog
from drillyard.system.clock import Clock

MONEY_EVERY_S = 5.0
"""Seconds for which the cost of the machines is not read again."""


class Account:
    """Keeps ``study.json``.

    Args:
        study: The limits.
        objectives: The objectives.
        book: The trials.
        mailbox: The experiment.
        spent: Returns the cost of machines so far.
        clock: The clock.
    """

    def __init__(
        self,
        study: StudySpec,
        objectives: Sequence[ObjectiveSpec],
        book: TrialLog,
        mailbox: Mailbox,
        spent: Callable[[], float],
        clock: Clock,
    ) -> None:
        self._study = study
        self._objectives = objectives
        self._book = book
        self._mailbox = mailbox
        self._spent = spent
        self._clock = clock
        self._earlier_s = 0.0
        self._began = clock.monotonic()
        self._cost = 0.0
        self._cost_at: float | None = None
        self.most: int | None = None
        """Maximum number of trials."""
        self.reason: str | None = None
        """Why no more trials are chosen."""
        self.state: StudyState | None = None
        """The state that was written last."""

    def begin(self) -> None:
        """Add up the time of earlier drivers."""
        self._earlier_s = sum(
            (driver.ended_at or driver.written_at) - driver.started_at
            for driver in self._mailbox.drivers()[:-1]
        )

    def budgets(self) -> dict[str, dict[str, float]]:
        """Every budget: the used amount and the limit."""
        hours = (self._earlier_s + self._clock.monotonic() - self._began) / 3600.0
        return states_of.budgets_of(
            self._study,
            self.most,
            self._book.records,
            self._book.outcomes,
            self._objectives,
            hours=hours,
            cost=self._cost_so_far(),
        )

    def _cost_so_far(self) -> float:
        now = self._clock.monotonic()
        old = self._cost_at is None or now - self._cost_at >= MONEY_EVERY_S
        if old and self._study.budget.cost is not None:
            self._cost, self._cost_at = self._spent(), now
        return self._cost

    @property
    def failed_too_often(self) -> bool:
        """True if the allowed failures are used up."""
        return states_of.failures(self._book.outcomes) >= self._study.failures_allowed

    def write(self, phase: str, seeds_rule: str | None) -> StudyState:
        """Write the state.

        Args:
            phase: ``search``, ``confirm``, ``over``.
            seeds_rule: The result of ``seeds: auto``.
        """
        self.state = states_of.state_of(
            self._book.records,
            self._book.outcomes,
            self._objectives,
            phase=phase,
            budgets=self.budgets(),
            stopped=self.reason,
            seeds_rule=seeds_rule,
        )
        self._mailbox.write_study_state(self.state)
        return self.state
