"""What a driver knows about the progress of its runs, without a request to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drillyard.backend import Trait
from drillyard.mailbox.records import PHASES, Board, Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import by_run, worst
from drillyard.results import formatting
from drillyard.results.time_left import run_s, time_left, worth_showing

if TYPE_CHECKING:
    from drillyard.driver.driver import Driver

MANY = 10**6
"""A study without a number of trials reports so many runs, or more, as remaining."""


@dataclass(frozen=True)
class Run:
    """The progress of a run."""

    run: str
    phase: Phase | None
    status: Status
    board: Board | None

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        if self.status.ended:
            return 1.0
        if self.board is None or self.board.phase is not self.phase:
            return 0.0
        if self.phase is not Phase.TRAIN:
            return 1.0  # what follows the training is short beside it
        return min(1.0, self.board.step / self.board.total) if self.board.total else 0.0


@dataclass(frozen=True)
class Whole:
    """The progress of all runs together.

    Attributes:
        done: Runs that are done; a run at work counts in part.
        total: Runs in all; None where a study has no number of trials.
        facts: The same in words, with the time that is left.
    """

    done: float
    total: int | None
    facts: str


@dataclass(frozen=True)
class Look:
    """What there is to show at one moment.

    Attributes:
        runs: The runs; of a study those of the trials that have not been judged.
        whole: All runs together; None where each run is shown and there are no others.
        waiting: What is waited for while no run is at work; empty otherwise.
    """

    runs: Sequence[Run]
    whole: Whole | None = None
    waiting: str = ""


class Looks:
    """Looks at the runs of a driver.

    Args:
        driver: The driver.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._seen_s: dict[str, float] = {}
        """Run -> its whole duration, by the last board that told it."""

    def __call__(self) -> Look:
        """What there is to show now."""
        runs = self._runs()
        for run in runs:
            if run.board is not None and (whole_s := run_s(run.board)) is not None:
                self._seen_s[run.run] = whole_s
        return Look(runs, self._whole(runs), self._waiting(runs))

    def _runs(self) -> list[Run]:
        driver = self._driver
        runs = by_run(driver.at_work())
        if driver.study is not None:
            # The study prints a line for each trial that ended, so only open ones are shown.
            runs = {run: ts for run, ts in runs.items() if not all(t.status.ended for t in ts)}
        progress = []
        for run, tickets in runs.items():
            tickets.sort(key=lambda t: PHASES.index(t.ticket.phase))
            current = next((t for t in tickets if not t.status.ended), tickets[-1])
            running = current.status is Status.RUNNING
            board = driver.board(run) if running else None
            status = Status.RUNNING if running else worst(tickets)
            progress.append(Run(run, current.ticket.phase, status, board))
        return progress

    def _whole(self, runs: Sequence[Run]) -> Whole | None:
        study = self._driver.study
        running = [run for run in runs if run.status is Status.RUNNING]
        if study is None:
            waiting = sum(not run.status.ended for run in runs) - len(running)
            ended = sum(run.status.ended for run in runs)
            counts = f"{ended:,} of {formatting.plural(len(runs), 'run')}"
            done, total = sum(run.share for run in runs), len(runs)
            return Whole(done, total, self._facts(counts, running, waiting))
        each, judged = max(1, len(self._driver.spec.seeds)), len(study.outcomes)
        left = study.remaining_runs
        done = judged * each + sum(run.share for run in runs)
        if left >= MANY:
            active = formatting.plural(len(running), "active run")
            return Whole(done, None, f"{judged:,} trials judged, {active}")
        # Trials are chosen a few at a time, so the others have no runs yet.
        trials = judged + -(-max(left, len(runs)) // each)
        counts = f"{judged:,} of {formatting.plural(trials, 'trial')}"
        waiting = max(0, max(left, len(runs)) - len(running))
        return Whole(done, trials * each, self._facts(counts, running, waiting))

    def _facts(self, counts: str, running: Sequence[Run], waiting: int) -> str:
        left_s = time_left([r.board for r in running], waiting, self._seen_s.values())
        left = f", about {formatting.duration(left_s)} left" if worth_showing(left_s) else ""
        return f"{counts} done, {len(running)} running{left}"

    def _waiting(self, runs: Sequence[Run]) -> str:
        driver = self._driver
        if any(run.board is not None for run in runs):
            return ""
        if driver.stopping.given_at is not None:
            return "the workers to stop and the machines to end"
        if runs and all(run.status.ended for run in runs):
            return "the machines to end, and the report"
        started = [run for run in runs if run.status is Status.RUNNING]
        if started:
            return f"the first heartbeat of {started[0].run}"
        if driver.lease is None:
            several = "one of the backends" if driver.spec.elsewhere else "the backend"
            return f"machines of {several} {driver.spec.where}"
        if Trait.JOBS in driver.backend.traits:
            return f"{driver.spec.where} to start a job: it finds a machine and prepares it"
        if not driver.times.knows("setup"):
            return "workers to be ready: they install and import what the experiment needs"
        return "a worker to start a run"
