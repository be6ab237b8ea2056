"""The loop of a study: chooses, posts, watches, judges, stops; one thread of the driver.

It knows no backend and no Prefect. A trial is frozen in the mailbox before its tickets are posted,
so that whoever kills the driver between any two lines loses no trial and repeats none: the next
driver posts what was frozen, asks for what is missing, and tells the chooser what it missed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from drillyard.attempts import TicketState
from drillyard.clock import SYSTEM, Clock
from drillyard.errors import (
    Bug,
    DrillyardError,
    IdentityChanged,
    InfrastructureError,
    Stopped,
    TimedOut,
)
from drillyard.mailbox import Mailbox, pace
from drillyard.mailbox.mailbox import run_id, ticket_id, trial_id
from drillyard.mailbox.records import (
    PHASES,
    MoreSeeds,
    Phase,
    StudyState,
    TrialOutcome,
    TrialRecord,
)
from drillyard.side_by_side import workers
from drillyard.status import Cause, Status
from drillyard.studies import state as states_of
from drillyard.studies import telling
from drillyard.studies.choosers import Choice, Chooser, Fixed
from drillyard.studies.comparing import verdict
from drillyard.studies.judging import judged
from drillyard.studies.making import fixed_choices, make_chooser
from drillyard.studies.objectives import objectives_of
from drillyard.submit import Trial

if TYPE_CHECKING:
    from drillyard.spec import ExperimentSpec
    from drillyard.studies.pruning import Judge

TICK_S = 0.1
PRUNE_EVERY_S = 0.5
PATIENCE_S = 180.0
"""How long a memory or store that is away is tried again."""
TRY_AGAIN = (Cause.INFRASTRUCTURE, Cause.PREEMPTION)
"""A trial that ended for these causes is tried again by the same command; others have failed."""
log = logging.getLogger(__name__)


class Search:
    """The study of one driver.

    Args:
        spec: With a ``study``.
        mailbox: The experiment.
        states: The latest states of all tickets.
        post: Posts the tickets of a trial; safe to repeat.
        stopped: True once somebody asked to stop.
        spent: What machines have cost so far.
        say: Told in a sentence what happens.
        clock: Time.
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
        clock: Clock = SYSTEM,
    ) -> None:
        assert spec.study is not None
        self.spec = spec
        self.study = spec.study
        self.objectives = objectives_of(spec)
        self._mailbox = mailbox
        self._states = states
        self._post = post
        self._stop_asked = stopped
        self._spent = spent
        self._say = say
        self._clock = clock
        self._chooser: Chooser | None = None
        self._records: list[TrialRecord] = []
        self._outcomes: dict[int, TrialOutcome] = {}
        self._seeds: dict[int, list[int]] = {}
        self._open: set[int] = set()
        self._told: set[int] = set()
        self._exhausted = False
        self._reason: str | None = None
        self._seeds_rule: str | None = None
        self._state: StudyState | None = None
        self._earlier_s = 0.0
        self._began = clock.monotonic()
        self._moved = threading.Condition()
        self._end = threading.Event()
        self._over = False
        self._thread: threading.Thread | None = None
        self._judge: Judge | None = None
        self._judge_at = 0.0
        self.earlier: frozenset[int] = frozenset()
        """Trials that had ended before this driver began."""
        self.error: DrillyardError | None = None
        """What ended the loop before the study was over."""

    # -- before it begins ---------------------------------------------------------------------

    def load(self) -> None:
        """Read what was chosen and how it ended. Reads only.

        Raises:
            IdentityChanged: A trial that was frozen is another one in today's file.
        """
        self._records, self._outcomes, more = self._mailbox.trials()
        self._seeds = {
            r.number: [*r.seeds, *(more[r.number].seeds if r.number in more else ())]
            for r in self._records
        }
        self._refuse_changed()

    def trials(self) -> list[Trial]:
        """Every trial so far, as it is posted."""
        return [self._trial(record) for record in self._records]

    def open_trials(self) -> list[Trial]:
        """Those of them that are not judged yet."""
        with self._moved:
            return [self._trial(self._record(number)) for number in sorted(self._open)]

    def settled(self) -> set[int]:
        """Trials that ended for good: a failed one is not tried again by the same command."""
        return {n for n, o in self._outcomes.items() if o.cause not in TRY_AGAIN}

    def _refuse_changed(self) -> None:
        """Listed trials must be what they were when they were frozen."""
        if self.study.chooser not in ("list", "manual"):
            return
        from drillyard.parameters import space

        known = fixed_choices(self.spec, space(self.spec), [])
        search = [r for r in self._records if r.search]
        for index, record in enumerate(search):
            choice = known[index % len(known)] if self.study.chooser == "manual" or (
                index < len(known)
            ) else None  # fmt: skip
            if choice is None or (choice.assignment, choice.parts) != (
                record.assignment, record.parts,
            ):  # fmt: skip
                what = "experiments" if self.study.chooser == "list" else "cycles"
                now = "is not there any more" if choice is None else "has changed"
                raise IdentityChanged(
                    f"{self._mailbox.experiment!r}: trial {record.number} was begun, and "
                    f"study.{what}[{index}] {now}",
                    hint="put it back and add new ones at the end, or choose a new name "
                    "(--set name=…)",
                )

    # -- its life -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Bring the memory in line, choose the first trials and start the loop.

        Raises:
            DrillyardError: The chooser or its memory cannot be used.
        """
        for driver in self._mailbox.drivers()[:-1]:
            self._earlier_s += (driver.ended_at or driver.written_at) - driver.started_at
        self._chooser = make_chooser(self.spec, self._mailbox)
        states = self._states()
        for record in self._records:
            runs = self._runs(record)
            done = record.number in self._outcomes and all(
                t in states and states[t].status.ended for run in runs for t in _tickets(run)
            )
            if not done:
                self._open.add(record.number)
        finished = {n: o for n, o in self._outcomes.items() if n not in self._open}
        self._chooser.reconcile(self._records, finished)
        self._told.update(finished)
        self.earlier = frozenset(finished)
        if self.study.pruner is not None:
            from drillyard.studies.pruning import Judge

            self._judge = Judge(self.spec, self.objectives[0], self._mailbox)
            for number, outcome in finished.items():
                self._judge.ended(self._record(number), self._seeds[number], outcome)
        self.advance()
        if not self._over:
            self._thread = threading.Thread(target=self._loop, name="drillyard-study", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the loop; who still waits is told."""
        self._end.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=30.0)
        with self._moved:
            self._moved.notify_all()

    @property
    def over(self) -> bool:
        """True once nothing more will be chosen or judged by this driver."""
        return self._over

    @property
    def state(self) -> StudyState | None:
        """How far it is."""
        return self._state

    @property
    def outcomes(self) -> Mapping[int, TrialOutcome]:
        """How the trials ended, by number."""
        return dict(self._outcomes)

    @property
    def remaining_runs(self) -> int:
        """Runs that may still come; many, where nobody knows."""
        per_trial = max(1, len(self.spec.seeds))
        total = self._total
        left = 10**6 if total is None else total - sum(r.search for r in self._records)
        return max(0, left) * per_trial + sum(len(self._seeds[n]) for n in self._open)

    def follow(self, seen: int, timeout_s: float) -> list[TrialRecord]:
        """Trials after the first ``seen`` ones; waits for one to be chosen.

        Args:
            seen: How many the caller knows.
            timeout_s: Longest wait.

        Returns:
            New ones; [] after the time, or when there will be none any more.
        """
        with self._moved:
            self._moved.wait_for(
                lambda: len(self._records) > seen or self._over or self._end.is_set(), timeout_s
            )
            return self._records[seen:]

    def wait(self, trial: int, timeout_s: float | None = None) -> TrialOutcome:
        """Wait for a trial to end, however it does.

        Raises:
            Stopped: On request, before it had ended.
            TimedOut: It took longer than ``timeout_s``.
            DrillyardError: The loop cannot go on.
        """
        with self._moved:
            done = self._moved.wait_for(
                lambda: self.has_ended(trial) or self._over or self._end.is_set(), timeout_s
            )
            if self.has_ended(trial):
                return self._outcomes[trial]
        if self.error is not None:
            raise self.error
        if not done:
            raise TimedOut(f"{trial_id(trial)} had not ended after {timeout_s:.0f} s")
        raise Stopped(f"{trial_id(trial)} was stopped", hint="the same command goes on")

    def verdict(self) -> DrillyardError | None:
        """How the study ended, as an error; None: well. Single failed trials are no error."""
        if self.error is not None:
            return self.error
        if self._stop_asked():
            return None  # the caller knows the reason of a stop better
        state = self._state
        if state is None:
            return None
        in_vain = state.failed and not state.succeeded and not state.pruned
        return self._too_often(state) if in_vain or self._failed_too_often else None

    # -- the loop -----------------------------------------------------------------------------

    def _loop(self) -> None:
        failing_since: float | None = None
        while not self._end.is_set() and not self._over:
            try:
                self.advance()
                failing_since = None
            except Exception as error:
                now = self._clock.monotonic()
                failing_since = failing_since if failing_since is not None else now
                may_pass = isinstance(error, InfrastructureError)
                if not may_pass or now - failing_since > PATIENCE_S:
                    if not isinstance(error, DrillyardError):
                        log.error("the study's loop broke", exc_info=error)
                        error = Bug(f"the study's loop broke: {error!r}")
                    self._finish(error)
                    return
                log.warning("the study cannot go on now: %s", error)
                self._clock.wait(self._end, 2.0)
            self._clock.wait(self._end, TICK_S)

    def advance(self) -> None:
        """Judge what has ended, choose what fits; one round."""
        states = self._states()
        for number in sorted(self._open):
            self._look(number, states)
        stop = self._stop_asked()
        if not stop:
            self._prune()
            self._choose_some(states)
            if not self._open and not self._more_seeds():
                self._confirm()
        if not self._open or (stop and self._all_ended(states)):
            if stop:
                self._reason = "stopped on request"
            self._finish(None)
        elif self._state is None:
            self._write_state("search")

    def _look(self, number: int, states: Mapping[str, TicketState]) -> None:
        record = self._record(number)
        runs = {seed: run_id(number, seed) for seed in self._seeds[number]}
        own = [states.get(t) for run in runs.values() for t in _tickets(run)]
        if any(s is None for s in own):
            return  # posted a moment ago
        found = [s for s in own if s is not None]
        ended = all(s.status.ended for s in found)
        measured = all(
            states[ticket_id(run, Phase.EVALUATE)].status is Status.SUCCEEDED
            for run in runs.values()
        )
        if not ended and (not measured or number in self._told):
            return
        if ended and any(s.status is Status.CANCELLED for s in found):
            return  # gone on with by the next command
        reached = self._judge.reached(number) if self._judge is not None else None
        outcome = judged(
            self._mailbox, record, runs, found, self.objectives, self._clock, reached
        )  # fmt: skip
        if number not in self._told:
            # What it is worth is known before its files are stored: the next choice may use it.
            assert self._chooser is not None
            if record.search:
                self._chooser.tell(record, outcome)
            self._told.add(number)
        if ended:
            if self._judge is not None:
                self._judge.ended(record, self._seeds[number], outcome)
            self._mailbox.end_trial(outcome)
            with self._moved:
                self._outcomes[number] = outcome
                self._open.discard(number)
                self._moved.notify_all()
            self._write_state("search" if record.search else "confirm")
            self._announce(record, outcome)

    def _prune(self) -> None:
        """Give up what does badly; its workers stop, and nobody begins what is left of it."""
        now = self._clock.monotonic()
        if self._judge is None or now < self._judge_at:
            return
        self._judge_at = now + max(PRUNE_EVERY_S, 5 * pace(self._mailbox.store))
        before = self._mailbox.reopened()
        working = {
            n: self._seeds[n] for n in self._open
            if self._record(n).search and n not in self._told
            and not any(run in before.pruned for run in self._runs(self._record(n)))
        }  # fmt: skip
        given = self._judge.look(working)
        if given:
            reasons = {run: g.reason for g in given for run in self._runs(self._record(g.trial))}
            after = before.model_copy(update={"pruned": {**before.pruned, **reasons}})
            self._mailbox.write("control/reopened.json", after)

    # -- choosing -----------------------------------------------------------------------------

    @property
    def _total(self) -> int | None:
        own = self._chooser.total if self._chooser is not None else None
        if self.study.trials is None:
            return own
        return self.study.trials if own is None else min(own, self.study.trials)

    def _choose_some(self, states: Mapping[str, TicketState]) -> None:
        assert self._chooser is not None
        at_once = workers(self.spec)
        ahead = 0 if self._chooser.adaptive else at_once
        while not self._exhausted and self._reason is None:
            busy = sum(
                not _ended(states, ticket_id(run_id(n, seed), Phase.EVALUATE))
                for n in self._open for seed in self._seeds[n]
            )  # fmt: skip
            if busy >= at_once + ahead:
                return
            search = [r for r in self._records if r.search]
            if self._total is not None and len(search) >= self._total:
                self._exhausted = True
                return
            self._reason = states_of.used_up(self._budgets())
            if self._reason is not None:
                self._say(f"no more trials: {self._reason}")
                return
            choice = self._chooser.ask(len(search) + 1, [r.assignment for r in search])
            if choice is None:
                self._exhausted = True
                self._reason = None if isinstance(self._chooser, Fixed) else (
                    "no further assignment is left that is new and allowed"
                )  # fmt: skip
                return
            self._keep(choice)

    def _keep(self, choice: Choice, of: int | None = None) -> TrialRecord:
        """Freeze a choice, then post it."""
        number = max((r.number for r in self._records), default=0) + 1
        record = TrialRecord(
            number=number, chooser=choice.chooser, assignment=choice.assignment,
            parts=choice.parts, label=choice.label, memory=choice.memory, of=of,
            seeds=list(choice.seeds or self.spec.seeds), chosen_at=self._clock.now(),
        )  # fmt: skip
        if not self._mailbox.choose(record):
            raise Bug(f"{trial_id(number)} was chosen by somebody else")
        if of is None:
            assert self._chooser is not None
            self._chooser.kept(record)
        self._post(self._trial(record))
        with self._moved:
            self._records.append(record)
            self._seeds[number] = list(record.seeds)
            self._open.add(number)
            self._moved.notify_all()
        return record

    def _more_seeds(self) -> bool:
        """Add a seed to the two best trials while they are not told apart; True when it did."""
        rule = self.study.auto
        found = states_of.ranked(self._records, self._outcomes, self.objectives)[:2]
        if rule is None or len(found) < 2 or self._failed_too_often:
            return False
        first = self.objectives[0].name
        values = [list(o.by_seed[first].values()) for o in found]
        if min(len(v) for v in values) < 2:
            return False
        done, self._seeds_rule = verdict(values[0], values[1], rule)
        if done:
            self._say(f"{trial_id(found[0].number)} against {trial_id(found[1].number)}: "
                      f"{self._seeds_rule}")  # fmt: skip
            self._write_state("search")
            return False
        (seed,) = _fresh({s for seeds in self._seeds.values() for s in seeds}, 1)
        for outcome in found:
            if len(outcome.by_seed[first]) >= rule.most:
                continue
            record = self._record(outcome.number)
            seeds = [*self._seeds[record.number], seed]
            added = MoreSeeds(seeds=seeds[len(record.seeds) :], rule=self._seeds_rule)
            self._mailbox.add_seeds(record.number, added)
            self._post(Trial(record.number, (seed,), record.assignment, record.parts))
            with self._moved:
                self._seeds[record.number] = seeds
                self._open.add(record.number)
        return True

    def _confirm(self) -> None:
        """Run the winner again on seeds that nothing was chosen by."""
        many = self.study.confirm
        if many is None:
            automatic = self.study.chooser not in ("list", "manual", "one-shot")
            many = len(self.spec.seeds) if automatic and len(self.objectives) == 1 else 0
        found = states_of.ranked(self._records, self._outcomes, self.objectives)
        if not many or not found or self._failed_too_often:
            return
        best = self._record(found[0].number)
        if any(r.of == best.number for r in self._records):
            return
        seeds = _fresh({s for seeds in self._seeds.values() for s in seeds}, many)
        choice = Choice(best.assignment, "confirm", best.parts, best.label, tuple(seeds))
        made = self._keep(choice, of=best.number)
        self._say(f"{trial_id(made.number)}: {trial_id(best.number)} is best so far, and is run "
                  f"again on fresh seeds {', '.join(map(str, seeds))}")  # fmt: skip
        self._write_state("confirm")

    # -- words and records --------------------------------------------------------------------

    def _budgets(self) -> dict[str, dict[str, float]]:
        hours = (self._earlier_s + self._clock.monotonic() - self._began) / 3600.0
        cost = self._spent() if self.study.budget.cost is not None else 0.0
        return states_of.budgets_of(
            self.study, self._total, self._records, self._outcomes, self.objectives,
            hours=hours, cost=cost,
        )  # fmt: skip

    def _write_state(self, phase: str) -> None:
        self._state = states_of.state_of(
            self._records, self._outcomes, self.objectives, phase=phase,
            budgets=self._budgets(), stopped=self._reason, seeds_rule=self._seeds_rule,
        )  # fmt: skip
        self._mailbox.write_study_state(self._state)

    def _finish(self, error: DrillyardError | None) -> None:
        self.error = error
        try:
            stopped = self._stop_asked() or error is not None
            self._write_state("search" if stopped else "over")
        except InfrastructureError as away:
            log.warning("the state of the study is not written: %s", away)
        with self._moved:
            self._over = True
            self._moved.notify_all()

    def _announce(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        assert self._state is not None
        first = self.objectives[0].name
        self._say(telling.line(record, outcome, self._state, self._total, first))

    @property
    def _failed_too_often(self) -> bool:
        failures = self._budgets()["failures"]
        return failures["used"] >= failures["limit"]

    def _too_often(self, state: StudyState) -> DrillyardError:
        return telling.too_often(state, self._outcomes, self.study)

    # -- small --------------------------------------------------------------------------------

    def _trial(self, record: TrialRecord) -> Trial:
        seeds = self._seeds.get(record.number, list(record.seeds))
        return Trial(record.number, tuple(seeds), record.assignment, record.parts)

    def _record(self, number: int) -> TrialRecord:
        # Numbers are given in order, without gaps unless somebody deleted a file.
        if number <= len(self._records) and self._records[number - 1].number == number:
            return self._records[number - 1]
        return next(r for r in self._records if r.number == number)

    def _runs(self, record: TrialRecord) -> list[str]:
        return [run_id(record.number, seed) for seed in self._seeds[record.number]]

    def has_ended(self, trial: int) -> bool:
        """True once a trial's outcome stands."""
        return trial in self._outcomes and trial not in self._open

    def _all_ended(self, states: Mapping[str, TicketState]) -> bool:
        return all(
            _ended(states, t) for n in self._open for run in self._runs(self._record(n))
            for t in _tickets(run)
        )  # fmt: skip


def _tickets(run: str) -> Iterator[str]:
    return (ticket_id(run, phase) for phase in PHASES)


def _ended(states: Mapping[str, TicketState], ticket: str) -> bool:
    return ticket in states and states[ticket].status.ended


def _fresh(used: set[int], many: int) -> Sequence[int]:
    """Seeds that were not used, from the one after the largest."""
    found: list[int] = []
    candidate = max(used, default=0) + 1
    while len(found) < many:
        candidate = candidate if candidate < 2**32 else 0
        if candidate not in used:
            found.append(candidate)
        candidate += 1
    return found
