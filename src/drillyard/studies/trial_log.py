"""The trials of a study in one process.

The mailbox is the truth; this is a copy. Only one thread, the study's loop, writes here; any
thread may read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id, ticket_id
from drillyard.mailbox.records import PHASES, MoreSeeds, Phase, TrialOutcome, TrialRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.runs.submit import Trial
from drillyard.studies.choosers import Choice
from drillyard.system.clock import Clock

TRY_AGAIN = (Cause.INFRASTRUCTURE, Cause.PREEMPTION, Cause.TIME_LIMIT)
"""The same command tries a trial again that ended for these causes; others have failed."""


class NumberTaken(Exception):
    """The mailbox has another trial under this number. Not an error of the tree: it is read."""


class TrialLog:
    """The trials of one study.

    Args:
        mailbox: The experiment.
        seeds: Seeds of a trial that does not have its own.
        post: Posts the tickets of a trial; safe to repeat.
        clock: The clock.
    """

    def __init__(
        self, mailbox: Mailbox, seeds: Sequence[int], post: Callable[[Trial], None], clock: Clock
    ) -> None:
        self._mailbox = mailbox
        self._default_seeds = seeds
        self._post = post
        self._clock = clock
        self._moving = threading.Lock()
        self.records: list[TrialRecord] = []
        self.search: list[TrialRecord] = []
        """The trials of the search, without confirming ones."""
        self.outcomes: dict[int, TrialOutcome] = {}
        self.seeds: dict[int, list[int]] = {}
        """Number -> its seeds, including added ones."""
        self.open: set[int] = set()
        """Trials that have not ended."""
        self._unposted: set[int] = set()
        """Trials that were frozen, and whose tickets may not all be posted."""
        self._added: set[int] = set()
        """Trials with seeds that are not yet recorded."""

    # -- from the mailbox ---------------------------------------------------------------------

    def load(self) -> None:
        """Read what was chosen and how it ended. Reads only."""
        self.records, self.outcomes, more = self._mailbox.trials()
        self.search = [r for r in self.records if r.search]
        self.seeds = {
            r.number: [*r.seeds, *(more[r.number].seeds if r.number in more else ())]
            for r in self.records
        }

    def extend(self, listed: Mapping[int, Sequence[int]]) -> None:
        """Give trials the seeds that the file lists now; writes nothing, see ``keep_added``.

        A trial that failed or was pruned gets none.

        Args:
            listed: Number of a trial -> its seeds in the file.
        """
        for number, seeds in listed.items():
            added = [s for s in seeds if s not in self.seeds[number]]
            outcome = self.outcomes.get(number)
            if added and (outcome is None or outcome.status is Status.SUCCEEDED):
                self.seeds[number] += added
                self._added.add(number)
                self.outcomes.pop(number, None)  # it is judged again with all its seeds

    def keep_added(self) -> None:
        """Record the seeds that ``extend`` added."""
        for number in sorted(self._added):
            seeds = self.seeds[number][len(self.record(number).seeds) :]
            self._mailbox.add_seeds(number, MoreSeeds(seeds=seeds, rule="listed in the file"))
        self._added.clear()

    def reopen(self, states: Mapping[str, TicketState]) -> dict[int, TrialOutcome]:
        """Find the trials that are running or must be judged again; returns the others' outcomes.

        Args:
            states: The states of all tickets.
        """
        for record in self.records:
            done = record.number in self.outcomes and all(
                t in states and states[t].status.ended for t in self.tickets(record.number)
            )
            if not done:
                self.open.add(record.number)
        return self.judged()

    def judged(self) -> dict[int, TrialOutcome]:
        """The outcomes that are final, by number."""
        return {n: o for n, o in self.outcomes.items() if n not in self.open}

    # -- read ---------------------------------------------------------------------------------

    def record(self, number: int) -> TrialRecord:
        """What was chosen for a trial."""
        # Numbers are in order, and without gaps unless a file was deleted.
        if number <= len(self.records) and self.records[number - 1].number == number:
            return self.records[number - 1]
        return next(r for r in self.records if r.number == number)

    def trial(self, record: TrialRecord) -> Trial:
        """A trial in the form in which it is posted."""
        seeds = self.seeds.get(record.number, list(record.seeds))
        return Trial(record.number, tuple(seeds), record.assignment, record.parts, record.lineage)

    def trials(self) -> list[Trial]:
        """Every trial so far, in the form in which it is posted."""
        return [self.trial(record) for record in self.records]

    def open_trials(self) -> list[Trial]:
        """The trials that are not yet judged; for any thread."""
        with self._moving:
            return [self.trial(self.record(number)) for number in sorted(self.open)]

    def runs(self, number: int) -> dict[int, str]:
        """Seed -> run of a trial."""
        return {seed: run_id(number, seed) for seed in self.seeds[number]}

    def tickets(self, number: int) -> Iterator[str]:
        """Every ticket of a trial."""
        runs = self.runs(number).values()
        return (ticket_id(run, phase) for run in runs for phase in PHASES)

    def used_seeds(self) -> set[int]:
        """Seeds that influenced a choice."""
        return {seed for seeds in self.seeds.values() for seed in seeds}

    def settled(self) -> set[int]:
        """Trials that ended permanently: the same command does not try a failed one again."""
        return {n for n, o in self.outcomes.items() if o.cause not in TRY_AGAIN}

    def has_ended(self, number: int) -> bool:
        """True when the outcome of a trial is final."""
        return number in self.outcomes and number not in self.open

    def busy(self, states: Mapping[str, TicketState]) -> int:
        """Number of runs that are not yet evaluated."""
        return sum(
            not _ended(states, ticket_id(run, Phase.EVALUATE))
            for number in self.open
            for run in self.runs(number).values()
        )

    def idle(self, states: Mapping[str, TicketState]) -> bool:
        """True if every ticket of the open trials has ended."""
        return all(_ended(states, t) for number in self.open for t in self.tickets(number))

    # -- write; the study's loop only ---------------------------------------------------------

    def freeze(
        self,
        choice: Choice,
        *,
        of: int | None = None,
        kept: Callable[[TrialRecord], None] = lambda _: None,
    ) -> TrialRecord:
        """Freeze a choice, then post it.

        Args:
            choice: What the trial will be.
            of: The trial that it confirms.
            kept: Called before anything is posted.

        Raises:
            NumberTaken: A driver that was superseded meanwhile has frozen another trial under its
                number; ``take_over`` reads it.
        """
        number = max(self.seeds, default=0) + 1
        record = TrialRecord(
            number=number,
            chooser=choice.chooser,
            assignment=choice.assignment,
            parts=choice.parts,
            label=choice.label,
            memory=choice.memory,
            of=of,
            lineage=choice.lineage,
            seeds=list(choice.seeds or self._default_seeds),
            chosen_at=self._clock.now(),
        )
        if not self._mailbox.choose(record):
            raise NumberTaken
        kept(record)
        self._add(record)
        self.post_rest()
        return record

    def take_over(self) -> None:
        """Read the trials that another driver has frozen, and post them."""
        known = {r.number for r in self.records}
        for record in self._mailbox.trials()[0]:
            if record.number not in known:
                self._add(record)
        self.post_rest()

    def post_rest(self) -> None:
        """Post the trials whose tickets may be missing, because the store was unavailable."""
        for number in sorted(self._unposted):
            self._post(self.trial(self.record(number)))
            self._unposted.discard(number)

    def _add(self, record: TrialRecord) -> None:
        with self._moving:
            self.records.append(record)
            if record.search:
                self.search.append(record)
            self.seeds[record.number] = list(record.seeds)
            self.open.add(record.number)
            self._unposted.add(record.number)

    def add_seed(self, number: int, seed: int, rule: str) -> None:
        """Add one seed to a trial."""
        record = self.record(number)
        seeds = [*self.seeds[number], seed]
        self._mailbox.add_seeds(number, MoreSeeds(seeds=seeds[len(record.seeds) :], rule=rule))
        self._post(replace(self.trial(record), seeds=(seed,)))
        with self._moving:
            self.seeds[number] = seeds
            self.open.add(number)

    def prune(self, reasons: Mapping[int, str]) -> None:
        """Record which trials are pruned, and why. Workers read it, also before a claim."""
        if not reasons:
            return
        before = self._mailbox.reopened()
        runs = {run: reason for n, reason in reasons.items() for run in self.runs(n).values()}
        after = before.model_copy(update={"pruned": {**before.pruned, **runs}})
        self._mailbox.write("control/reopened.json", after)

    def withdraw(self, states: Mapping[str, TicketState], reason: str) -> None:
        """Withdraw the trials that were posted ahead and not begun."""
        waiting = (
            n
            for n in self.open
            if all(t in states and states[t].attempt is None for t in self.tickets(n))
        )
        self.prune(dict.fromkeys(waiting, reason))

    def end(self, outcome: TrialOutcome) -> None:
        """Record the outcome of a trial."""
        self._mailbox.end_trial(outcome)
        with self._moving:
            self.outcomes[outcome.number] = outcome
            self.open.discard(outcome.number)

    def after(self, seen: int) -> list[TrialRecord]:
        """The trials after the first ``seen`` ones; for any thread."""
        with self._moving:
            return self.records[seen:]


def _ended(states: Mapping[str, TicketState], ticket: str) -> bool:
    return ticket in states and states[ticket].status.ended
