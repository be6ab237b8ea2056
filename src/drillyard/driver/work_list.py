"""What one experiment wants done: its trials and their tickets, and how these stand.

A plain experiment wants what its file says, from the beginning. Of a study the search chooses
trials as it goes, so that what is wanted grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from drillyard.driver.reconcile import DONE
from drillyard.mailbox import Mailbox
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
        watched: The states of all tickets as they were seen last; none before anybody looked.
        stopped: True once the experiment was asked to stop.
        spent: What it has cost so far.
        say: Notification in a sentence what a study decides.
        clock: For times in records.
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
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._mailbox = mailbox
        self._watched = watched
        self._clock = clock
        self._trials = submit.plain(spec) if spec.study is None else []
        self._tickets = {ticket for ticket, _, _ in submit.tickets(self._trials)}
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
                clock=clock,
            )

    # -- trials -------------------------------------------------------------------------------

    def trials(self) -> list[submit.Trial]:
        """Every trial so far; of a study, with those that an earlier driver posted."""
        if self.study is not None:
            self.study.load()
            self._trials = self.study.trials()
            self._tickets = {ticket for ticket, _, _ in submit.tickets(self._trials)}
        return self._trials

    def settled(self) -> set[int]:
        """Numbers of a study's trials that were judged."""
        return set() if self.study is None else self.study.settled()

    def remaining_runs(self) -> int:
        """How many runs are still to be done, with those that a study has not chosen yet."""
        open_ = {s.ticket.run for s in self.states().values() if s.status not in DONE}
        return len(open_) if self.study is None else max(len(open_), self.study.remaining_runs)

    def _post(self, trial: submit.Trial) -> None:
        before = sum(len(t.seeds) for t in self._trials)
        self._tickets = self._tickets | {ticket for ticket, _, _ in submit.tickets([trial])}
        submit.post_trials(self._spec, self._mailbox, [trial], first=before, clock=self._clock)
        self._trials.append(trial)

    # -- states -------------------------------------------------------------------------------

    def states(self) -> dict[str, TicketState]:
        """The latest view of the tickets, in queue order."""
        return self.of(self._all_states())

    def read(self) -> dict[str, TicketState]:
        """The tickets as the mailbox has them now, in queue order."""
        return self.of(ticket_states(self._mailbox))

    def of(self, states: dict[str, TicketState]) -> dict[str, TicketState]:
        """Those of all tickets that are wanted: others are of seeds that the file has no more."""
        return {name: state for name, state in states.items() if name in self._tickets}

    def at_work(self) -> dict[str, TicketState]:
        """``states`` without the trials of a study that were judged: of thousands, a few."""
        if self.study is None:
            return self.states()
        states = self._all_states()
        open_ = (ticket for ticket, _, _ in submit.tickets(self.study.open_trials()))
        return {ticket: states[ticket] for ticket in open_ if ticket in states}

    def _all_states(self) -> dict[str, TicketState]:
        """As the watcher sees them; read anew before it watches."""
        return self._watched() or ticket_states(self._mailbox)

    # -- the end ------------------------------------------------------------------------------

    @property
    def decided(self) -> bool:
        """True when no ticket can move any more, so that machines may go; asks the mailbox."""
        if self._searching:
            return False
        states = self.read()
        return all(t in states and states[t].status.ended for t in self._tickets)

    @property
    def over(self) -> bool:
        """True when every ticket has ended and no more will come, as far as was seen."""
        return not self._searching and all(s.status.ended for s in self.states().values())

    def done_early(self) -> bool:
        """True when workers that were ready early have done everything already."""
        states = self.states().values()
        return self.study is None and bool(states) and all(s.status.ended for s in states)

    @property
    def _searching(self) -> bool:
        return self.study is not None and not self.study.over
