"""The work of one experiment: its trials, their tickets, and the states of these.

Without a study, the file defines all of it from the beginning. In a study, the search chooses
trials one after the other, so that the work grows. By request, a program names each phase of each
run when it needs it, until it releases the experiment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from drillyard.driver import reopen
from drillyard.driver.reconcile import DONE, over_in_vain
from drillyard.errors import NotFound, UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import ticket_id
from drillyard.mailbox.records import PHASES, Phase
from drillyard.mailbox.ticket_states import TicketState, ticket_states
from drillyard.runs import submit
from drillyard.spec import ExperimentSpec
from drillyard.system.clock import Clock

if TYPE_CHECKING:
    from drillyard.studies.search import Search


class WorkList:
    """The trials of an experiment, as its driver sees them.

    Args:
        spec: The experiment.
        mailbox: Where its tickets are.
        watched: Returns the last known states of all tickets; empty before the first poll.
        stopped: Returns True once the experiment was asked to stop.
        spent: Returns the cost so far.
        say: Called with a sentence about each decision of a study.
        must_drive: Raises once another driver took over.
        clock: For times in records.
        by_request: Only what is requested has tickets; not for a study.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        mailbox: Mailbox,
        watched: Callable[[], dict[str, TicketState]],
        *,
        stopped: Callable[[], bool],
        spent: Callable[[], float],
        say: Callable[[str], None],
        must_drive: Callable[[], None],
        clock: Clock,
        by_request: bool = False,
    ) -> None:
        self._spec = spec
        self._mailbox = mailbox
        self._watched = watched
        self._must_drive = must_drive
        self._clock = clock
        self._trials = submit.plain(spec) if spec.study is None else []
        self.by_request = by_request
        self.held = by_request
        """Whether more may be requested."""
        self.requests = 0
        if by_request:
            self._trials = [replace(trial, phases=()) for trial in self._trials]
        self._tickets = {ticket for ticket, _, _ in submit.tickets(self._trials)}
        self._of: tuple[dict[str, TicketState], set[str], dict[str, TicketState]] = ({}, set(), {})
        """The last states and tickets that ``of`` was asked about, and its answer."""
        self._requesting = threading.Lock()
        self.study: Search | None = None
        if spec.study is not None:
            from drillyard.studies.search import Search  # a plain experiment needs none of it

            self.study = Search(
                spec,
                mailbox,
                states=self._all_states,
                post=self._post,
                stopped=stopped,
                spent=spent,
                say=say,
                must_drive=must_drive,
                clock=clock,
            )

    # -- trials -------------------------------------------------------------------------------

    def trials(self) -> list[submit.Trial]:
        """Every trial so far; in a study, also those of earlier drivers."""
        if self.study is not None:
            self.study.load()
            self._trials = self.study.book.trials()
            self._tickets = {ticket for ticket, _, _ in submit.tickets(self._trials)}
        return self._trials

    def request(self, run: str, phase: Phase) -> None:
        """Post the ticket of a phase of a run, or open it again if it ended without a result.

        Raises:
            NotFound: The file has no such run.
            UserError: A phase before it has no result and was not requested, or nothing more can
                be requested.
        """
        runs = {run: (seed, trial) for run, seed, trial in submit.runs(self._trials)}
        if run not in runs:
            names = ", ".join(runs)
            raise NotFound(f"{self._spec.name} has no run {run!r}", hint=f"one of: {names}")
        with self._requesting:
            ticket = ticket_id(run, phase)
            if ticket in self._tickets:
                return
            if not self.held:
                raise UserError(
                    f"{ticket} was requested after the teardown",
                    hint=f"call `{phase.value}` before `teardown`, or open another session",
                )
            for earlier in PHASES[: PHASES.index(phase)]:
                known = ticket_id(run, earlier) in self._tickets
                if not known and self._mailbox.accepted(run, earlier) is None:
                    raise UserError(
                        f"{ticket} needs the result of {earlier.value}",
                        hint=f"call `{earlier.value}(session, {run!r})` before it",
                    )
            seed, trial = runs[run]
            self._must_drive()
            state = self._all_states().get(ticket)
            if state is not None and over_in_vain(state):
                reopen.forgive(self._mailbox, [ticket])
            alone = replace(trial, seeds=(seed,), phases=(phase,))
            position = list(runs).index(run)
            submit.post_trials(
                self._spec,
                self._mailbox,
                [alone],
                self._must_drive,
                first=position,
                clock=self._clock,
            )
            self._tickets = self._tickets | {ticket}
            self.requests += 1

    def release(self) -> None:
        """Nothing more will be requested."""
        self.held = False

    def settled(self) -> set[int]:
        """Numbers of a study's trials that were judged."""
        return set() if self.study is None else self.study.book.settled()

    def remaining_runs(self) -> int:
        """The number of open runs, with those that a study has not chosen yet."""
        if self.by_request:
            last, states = PHASES[-1], self._all_states()
            stored = [states.get(ticket_id(run, last)) for run, _, _ in submit.runs(self._trials)]
            return sum(state is None or state.status not in DONE for state in stored)
        open_ = {s.ticket.run for s in self.states().values() if s.status not in DONE}
        return len(open_) if self.study is None else max(len(open_), self.study.remaining_runs)

    def _post(self, trial: submit.Trial) -> None:
        before = sum(len(t.seeds) for t in self._trials)
        self._tickets = self._tickets | {ticket for ticket, _, _ in submit.tickets([trial])}
        submit.post_trials(
            self._spec, self._mailbox, [trial], self._must_drive, first=before, clock=self._clock
        )
        self._trials.append(trial)

    # -- states -------------------------------------------------------------------------------

    def states(self) -> dict[str, TicketState]:
        """The latest view of the tickets, in queue order."""
        return self.of(self._all_states())

    def read(self) -> dict[str, TicketState]:
        """The tickets of the experiment, read now, in queue order."""
        return self.of(ticket_states(self._mailbox))

    def of(self, states: dict[str, TicketState]) -> dict[str, TicketState]:
        """Only tickets of the file's seeds: others belong to seeds that were removed."""
        tickets = self._tickets
        before, known, answer = self._of
        if before is not states or known is not tickets:
            if states.keys() <= tickets:
                answer = states
            else:
                answer = {name: state for name, state in states.items() if name in tickets}
            self._of = states, tickets, answer
        return answer

    def at_work(self) -> dict[str, TicketState]:
        """``states`` without the judged trials of a study: a few of thousands."""
        if self.study is None:
            return self.states()
        states = self._all_states()
        open_ = (ticket for ticket, _, _ in submit.tickets(self.study.book.open_trials()))
        return {ticket: states[ticket] for ticket in open_ if ticket in states}

    def _all_states(self) -> dict[str, TicketState]:
        """The watcher's states; read from the mailbox before it runs."""
        return self._watched() or ticket_states(self._mailbox)

    # -- the end ------------------------------------------------------------------------------

    @property
    def decided(self) -> bool:
        """True if no ticket can change again, so that leases may end; reads the mailbox."""
        if self._more:
            return False
        states = self.read()
        return all(t in states and states[t].status.ended for t in self._tickets)

    @property
    def over(self) -> bool:
        """True if every ticket has ended and none will follow, at the last poll."""
        if self._more:
            return False
        states = self.states()
        seen = not self.by_request or states.keys() >= self._tickets
        return seen and all(s.status.ended for s in states.values())

    def done_early(self) -> bool:
        """True if workers that were ready early have done everything already."""
        return self.over and (self.by_request or bool(self.states()))

    @property
    def _more(self) -> bool:
        """Whether more tickets may follow."""
        return self.held or (self.study is not None and not self.study.over)
