"""Runs a study in steps: it chooses, posts, watches, judges and stops.

It is independent of backends and of Prefect. A trial is frozen in the mailbox before its tickets
are posted. So a driver that is killed between any two lines loses no trial and repeats none: the
next driver posts frozen trials, chooses missing ones, and reports missed outcomes to the chooser.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from drillyard.backend import is_paid
from drillyard.errors import (
    Bug,
    DrillyardError,
    InfrastructureError,
    Superseded,
)
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.fenced import Fenced
from drillyard.mailbox.mailbox import ticket_id
from drillyard.mailbox.records import Phase, StudyState, TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.runs.parallelism import runs as listed_runs
from drillyard.runs.parallelism import workers
from drillyard.runs.submit import Trial
from drillyard.studies import messages
from drillyard.studies import state as states_of
from drillyard.studies.budget import Account
from drillyard.studies.choosers import Chooser, Fixed
from drillyard.studies.confirmation import Confirmation
from drillyard.studies.factory import listed_seeds, make_chooser, refuse_changed
from drillyard.studies.objectives import objectives_of
from drillyard.studies.outcome import judged
from drillyard.studies.trial_log import NumberTaken, TrialLog
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.loops import Loop

if TYPE_CHECKING:
    from drillyard.spec import ExperimentSpec
    from drillyard.studies.pruning import Judge

TICK_S = 0.1
PRUNE_EVERY_S = 0.5
RETRY_S = 2.0
PATIENCE_S = 180.0
"""Seconds for which an unavailable memory or store is tried again."""
log = logging.getLogger(__name__)


class Search:
    """The study of one driver.

    Args:
        spec: An experiment with a ``study``.
        mailbox: The experiment's mailbox.
        states: Returns the latest states of all tickets.
        post: Posts the tickets of a trial; safe to repeat.
        stopped: Returns True after a stop was requested.
        spent: Returns the cost of machines so far.
        say: Receives a sentence about each event.
        must_drive: Raises ``Superseded`` once another driver took over. It is called before each
            choice and before each write.
        clock: The clock.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        mailbox: Mailbox,
        *,
        states: Callable[[], Mapping[str, TicketState]],
        post: Callable[[Trial], None],
        stopped: Callable[[], bool],
        spent: Callable[[], float],
        say: Callable[[str], None],
        must_drive: Callable[[], None],
        clock: Clock = SYSTEM,
    ) -> None:
        assert spec.study is not None
        self.spec = spec
        self.study = spec.study
        self.objectives = objectives_of(spec)
        self._mailbox = mailbox = Fenced(mailbox, must_drive)
        self._must_drive = must_drive
        self._states = states
        self._stop_asked = stopped
        self._say = say
        self._clock = clock
        self.book = TrialLog(mailbox, spec.seeds, post, clock)
        self._account = Account(self.study, self.objectives, self.book, mailbox, spent, clock)
        self._after = Confirmation(self.study, self.objectives, self.book, say)
        self._chooser: Chooser | None = None
        self._told: set[int] = set()
        self._exhausted = False
        self.over = False
        """True when this driver will choose and judge nothing more."""
        self._failing_since: float | None = None
        self._loop = Loop("drillyard-study", self.step, clock)
        self._judge: Judge | None = None
        self._judge_at = 0.0
        self.earlier: frozenset[int] = frozenset()
        """Trials that had ended before this driver began."""
        self.error: DrillyardError | None = None
        """The error that ended the loop before the study was over."""

    # -- before it begins ---------------------------------------------------------------------

    def load(self) -> None:
        """Read what was chosen and how it ended. Reads only.

        Raises:
            IdentityChanged: A frozen trial is different in the current file.
        """
        self.book.load()
        refuse_changed(self.spec, self._mailbox.experiment, self.book.search)
        self.book.extend(listed_seeds(self.spec, self.book.search))

    # -- its life -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Reconcile the memory, choose the first trials and start the loop.

        Raises:
            DrillyardError: The chooser or its memory cannot be used.
        """
        self._account.begin()
        self._chooser = make_chooser(self.spec, self._mailbox)
        self.book.keep_added()
        finished = self.book.reopen(self._states())
        self._chooser.reconcile(self.book.records, finished)
        self._account.most = self._most
        self._told.update(finished)
        self.earlier = frozenset(finished)
        if self.study.pruner is not None:
            from drillyard.studies.pruning import Judge

            self._judge = Judge(self.spec, self.objectives[0], self._mailbox)
            for number, outcome in finished.items():
                seeds = self.book.seeds[number]
                self._judge.ended(self.book.record(number), seeds, outcome)
        self.advance()
        if not self.over:
            self._loop.start()

    def close(self) -> None:
        """End the loop."""
        self._loop.stop(30.0)

    @property
    def outcomes(self) -> Mapping[int, TrialOutcome]:
        """How the trials ended, by number."""
        return dict(self.book.outcomes)

    def outcome(self, trial: int) -> TrialOutcome | None:
        """How a trial ended; None if its outcome is not final."""
        return self.book.outcomes[trial] if self.book.has_ended(trial) else None

    @property
    def remaining_runs(self) -> int:
        """Number of runs that may still come; a large number if it is not known."""
        per_trial = max(1, len(self.spec.seeds))
        most = self._most
        left = 10**6 if most is None else most - len(self.book.search)
        at_work = sum(len(self.book.seeds[n]) for n in self.book.open)
        return max(0, left) * per_trial + at_work

    def verdict(self) -> DrillyardError | None:
        """The error that ended the study, or None. Single failed trials are not an error."""
        if self.error is not None:
            return self.error
        if self._stop_asked():
            return None  # the caller knows the reason of a stop better
        state = self._account.state
        if state is None or not states_of.failed_too_often(state):
            return None
        return messages.too_often(state, self.book.outcomes, self.study)

    # -- the loop -----------------------------------------------------------------------------

    def step(self, now: float) -> float | None:
        """Judge ended trials and choose new ones; None once the study is over.

        Args:
            now: Monotonic time.
        """
        if self.over:
            return None
        try:
            self.advance()
            self._failing_since = None
        except Exception as error:
            self._failing_since = now if self._failing_since is None else self._failing_since
            may_pass = isinstance(error, InfrastructureError)
            if may_pass and now - self._failing_since <= PATIENCE_S:
                log.warning("the study cannot continue now: %s", error)
                return RETRY_S
            if not isinstance(error, DrillyardError):
                log.error("the study broke", exc_info=error)
                error = Bug(f"the study broke: {error!r}")
            self._finish(error)
        return None if self.over else max(TICK_S, pace(self._mailbox.store))

    def advance(self) -> None:
        """Judge ended trials and choose new ones; one round."""
        states, book = self._states(), self.book
        book.post_rest()
        for number in sorted(book.open):
            self._look(number, states)
        stop = self._stop_asked()
        if not stop:
            self._prune()
            try:
                self._choose_some(states)
                if not book.open and not self._account.failed_too_often:
                    self._go_on()
            except NumberTaken:
                self._take_over()
        if not book.open or (stop and book.idle(states)):
            if stop:
                self._account.reason = "stopped on request"
            self._finish(None)
        elif self._account.state is None:
            self._write_state("search")

    def _take_over(self) -> None:
        """Take over a trial that a superseded driver froze after this one had read them."""
        assert self._chooser is not None
        self.book.take_over()
        self._chooser.reconcile(self.book.records, self.book.judged())

    def _go_on(self) -> None:
        """Do what follows the search."""
        before = self._after.seeds_rule
        if self._after.more_seeds():
            return
        if self._after.seeds_rule != before:
            self._write_state("search")
        if self._after.confirm(len(self.spec.seeds)):
            self._write_state("confirm")

    def _look(self, number: int, states: Mapping[str, TicketState]) -> None:
        book = self.book
        record, runs = book.record(number), book.runs(number)
        known = [s for t in book.tickets(number) if (s := states.get(t)) is not None]
        if len(known) < len([*book.tickets(number)]):
            return  # posted a moment ago
        ended = all(s.status.ended for s in known)
        if ended and any(s.status is Status.CANCELLED for s in known):
            return  # the next command continues it
        if not ended and (number in self._told or not _measured(runs.values(), states)):
            return
        reached = self._judge.reached(number) if self._judge is not None else None
        outcome = judged(self._mailbox, record, runs, known, self.objectives, self._clock, reached)
        if number not in self._told:
            # Its values are known before its files are stored: the next choice may use them.
            assert self._chooser is not None
            if record.search:
                self._chooser.tell(record, outcome)
            self._told.add(number)
        if ended:
            self._end(record, outcome, states)

    def _end(
        self, record: TrialRecord, outcome: TrialOutcome, states: Mapping[str, TicketState]
    ) -> None:
        """Record the end of a trial, and say it."""
        book = self.book
        if self._judge is not None:
            self._judge.ended(record, book.seeds[record.number], outcome)
        book.end(outcome)
        if self._account.failed_too_often:
            book.withdraw(states, "too many trials before it have failed")
        state = self._write_state("search" if record.search else "confirm")
        self._say(messages.line(record, outcome, state, self._most, self.objectives[0].name))

    def _prune(self) -> None:
        """Prune bad trials; their workers stop, and no worker begins the rest of them."""
        now = self._clock.monotonic()
        if self._judge is None or now < self._judge_at:
            return
        self._judge_at = now + max(PRUNE_EVERY_S, 5 * pace(self._mailbox.store))
        before = self._mailbox.reopened()
        book = self.book
        working = {
            n: book.seeds[n]
            for n in book.open
            if book.record(n).search
            and n not in self._told
            and not any(run in before.pruned for run in book.runs(n).values())
        }
        book.prune({given.trial: given.reason for given in self._judge.look(working)})

    def _choose_some(self, states: Mapping[str, TicketState]) -> None:
        """Choose as many trials as there are workers for them, as long as the budgets allow."""
        chooser, account = self._chooser, self._account
        assert chooser is not None
        most = workers(self.spec) + self._ahead
        while not self._exhausted and account.reason is None:
            if self.book.busy(states) >= most:
                return
            search = self.book.search
            if self._most is not None and len(search) >= self._most:
                self._exhausted = True
                return
            account.reason = states_of.used_up(account.budgets())
            if account.reason is not None:
                self._say(f"no more trials: {account.reason}")
                return
            if not chooser.ready(len(search) + 1):
                return
            self._must_drive()  # the memory of the chooser may be shared with the other driver
            choice = chooser.ask(len(search) + 1, [r.assignment for r in search])
            if choice is None:
                self._exhausted = True
                account.reason = (
                    None
                    if isinstance(chooser, Fixed)
                    else "no assignment remains that is new and allowed"
                )
                return
            self.book.freeze(choice, kept=chooser.kept)

    @property
    def _ahead(self) -> float:
        """Number of runs that are posted before a worker is free for them.

        On rented machines these are all listed runs, if only their end can keep one from being
        run: your laptop may be off, and then no driver can post more.
        """
        assert self._chooser is not None
        if self._chooser.adaptive:
            return 0
        limits = self.study.budget.model_dump(exclude_none=True)
        if is_paid(*self.spec.places) and listed_runs(self.spec) is not None and not limits:
            return math.inf
        return workers(self.spec)

    @property
    def _most(self) -> int | None:
        """Maximum number of trials; None for as many as there are assignments."""
        total = self._chooser.total if self._chooser is not None else None
        if self.study.trials is None:
            return total
        return self.study.trials if total is None else min(total, self.study.trials)

    def _write_state(self, phase: str) -> StudyState:
        return self._account.write(phase, self._after.seeds_rule)

    def _finish(self, error: DrillyardError | None) -> None:
        """Write how the study ended.

        Raises:
            InfrastructureError: It ended without an error, and the store is away: try again.
        """
        try:
            stopped = self._stop_asked() or error is not None
            self._write_state("search" if stopped else "over")
        except (InfrastructureError, Superseded) as away:
            if error is None:
                raise
            log.warning("the state of the study could not be written: %s", away)
        self.error, self.over = error, True


def _measured(runs: Iterable[str], states: Mapping[str, TicketState]) -> bool:
    evaluations = (states[ticket_id(run, Phase.EVALUATE)] for run in runs)
    return all(state.status is Status.SUCCEEDED for state in evaluations)
