"""What a session offers and says."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import Executor, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.driver.bodies import Bodies, Body
from drillyard.driver.going_on import MOST_LINES, going_on
from drillyard.driver.work import Work
from drillyard.errors import InfrastructureError, Stopped, WorkerLost
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import run_id, ticket_id
from drillyard.mailbox.records import (
    PHASES,
    Board,
    Ending,
    ExperimentRecord,
    Phase,
    TicketRecord,
)
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import TicketState, ticket_states
from drillyard.runs import checkpoints

# -- When a session offers a ticket to what shows it ------------------------------------------


RUN = "t0001-s1"


class AtOnce(Executor):
    """Verifies in the caller's thread."""

    def submit(self, call: Any, /, *args: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(call(*args, **more))
        except Exception as error:
            done.set_exception(error)
        return done


class Driver:
    """As much of a driver as a session asks for."""

    study = None
    by_request = False
    mailbox = SimpleNamespace(run=lambda run: SimpleNamespace(name=None))

    def __init__(self) -> None:
        self.changes = 0
        self.found = dict.fromkeys(PHASES, Status.PENDING)

    @property
    def over(self) -> bool:
        return all(status.ended for status in self.found.values())

    def states(self) -> dict[str, TicketState]:
        tickets = {
            p: TicketRecord(ticket=f"{RUN}.{p}", run=RUN, phase=p, posted_at=0.0) for p in PHASES
        }
        return {t.ticket: TicketState(t, self.found[p]) for p, t in tickets.items()}

    def result(self, state: TicketState) -> str:
        if state.status is Status.CANCELLED:
            raise Stopped("stopped")
        return state.ticket.ticket


class Seen(Bodies):
    """Keeps what was offered."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Body] = []

    def offer(self, body: Body) -> None:
        self.seen.append(body)


def test_bodies_are_not_kept_once_they_are_taken():
    bodies = Bodies()
    for phase in ("a", "b"):
        bodies.offer(Body("train", phase))
    follow = bodies.follow()
    first = weakref.ref(next(follow))
    next(follow)
    gc.collect()
    assert first() is None
    bodies.close()
    bodies.offer(Body("train", "late"))
    assert list(follow) == []


def test_what_follows_a_training_is_offered_when_a_worker_takes_it():
    driver, bodies = Driver(), Seen()
    work = Work(driver, bodies, AtOnce())  # type: ignore[arg-type]

    def offered(phase: Phase, status: Status) -> list[str]:
        driver.found[phase] = status
        driver.changes += 1
        for _ in range(4):
            work.look()
        return [body.phase for body in bodies.seen]

    assert offered(Phase.TRAIN, Status.READY) == ["train"]
    assert offered(Phase.TRAIN, Status.SUCCEEDED) == ["train"]
    assert offered(Phase.EVALUATE, Status.READY) == ["train"]
    assert offered(Phase.EVALUATE, Status.RUNNING) == ["train", "evaluate"]
    assert offered(Phase.EVALUATE, Status.PREEMPTED) == ["train", "evaluate"]
    assert offered(Phase.EVALUATE, Status.SUCCEEDED) == ["train", "evaluate"]
    assert not work.over
    # It may be taken and ended between two looks, or be cancelled before it was taken.
    assert offered(Phase.STORE, Status.CANCELLED) == ["train", "evaluate", "store"]
    assert work.over
    assert isinstance(bodies.seen[-1].future.exception(), Stopped)


def test_a_store_that_is_away_for_a_moment_hides_no_run():
    answers = [InfrastructureError("away"), SimpleNamespace(name=None), SimpleNamespace(name=None)]

    def run(run: str) -> SimpleNamespace:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    driver, bodies = Driver(), Seen()
    driver.mailbox = SimpleNamespace(run=run)
    tickets = [
        TicketRecord(ticket=f"{run}.train", run=run, phase=Phase.TRAIN, posted_at=0.0)
        for run in (RUN, "t0001-s2")
    ]
    states = {t.ticket: TicketState(t, Status.RUNNING, 1) for t in tickets}
    driver.states = lambda: states  # type: ignore[method-assign]
    work = Work(driver, bodies, AtOnce())  # type: ignore[arg-type]
    with pytest.raises(InfrastructureError):
        work.look()
    work.look()
    assert [body.run for body in bodies.seen] == [RUN, "t0001-s2"]


def ended(attempt: int, cause: Cause, message: str = "") -> Ending:
    return Ending(
        ticket=f"{RUN}.train",
        attempt=attempt,
        status=Status.FAILED,
        cause=cause,
        message=message,
        by="w",
        ended_at=0.0,
    )


def test_each_attempt_that_another_one_follows_ends_one_wait_for_the_phase():
    endings = {
        1: ended(1, Cause.PREEMPTION),
        3: ended(3, Cause.INFRASTRUCTURE, "no answer"),
        4: ended(4, Cause.PREEMPTION),
    }
    ticket = TicketRecord(ticket=f"{RUN}.train", run=RUN, phase=Phase.TRAIN, posted_at=0.0)
    driver, bodies = Driver(), Seen()
    driver.mailbox = SimpleNamespace(
        run=lambda run: SimpleNamespace(name=None), ending=lambda _, number: endings.get(number)
    )
    work = Work(driver, bodies, AtOnce())  # type: ignore[arg-type]

    def look(status: Status, attempt: int | None, ending: int | None = None) -> None:
        state = TicketState(ticket, status, attempt, ending=endings.get(ending or 0))
        driver.states = lambda: {ticket.ticket: state}  # type: ignore[method-assign]
        driver.changes += 1
        for _ in range(3):
            work.look()

    # The first attempt is of an earlier driver, and was lost before this session.
    look(Status.PREEMPTED, 1, 1)
    look(Status.RUNNING, 2, 1)  # while an attempt runs, the state has the ending before it
    look(Status.RUNNING, 4, 3)  # two ended between two looks
    look(Status.PREEMPTED, 4, 4)
    look(Status.RUNNING, 5, 4)
    look(Status.SUCCEEDED, 5, 4)
    (body,) = bodies.seen
    waits = []
    while not body.delivered:
        try:
            waits.append(str(body.join()))
        except WorkerLost as lost:
            waits.append(lost.message)
    assert waits == [
        f"attempt 2 of {RUN}.train was lost (unknown); attempt 3 follows",
        f"attempt 3 of {RUN}.train was lost (infrastructure): no answer; attempt 4 follows",
        f"attempt 4 of {RUN}.train was lost (preemption); attempt 5 follows",
        f"{RUN}.train",
    ]


def test_a_running_attempt_of_an_earlier_driver_is_an_attempt_of_this_session():
    driver, bodies = Driver(), Seen()
    driver.mailbox = SimpleNamespace(
        run=lambda run: SimpleNamespace(name=None), ending=lambda *_: None
    )
    work = Work(driver, bodies, AtOnce())  # type: ignore[arg-type]
    ticket = TicketRecord(ticket=f"{RUN}.train", run=RUN, phase=Phase.TRAIN, posted_at=0.0)
    for status, attempt in ((Status.RUNNING, 3), (Status.RUNNING, 4), (Status.FAILED, 4)):
        state = TicketState(ticket, status, attempt)
        driver.states = lambda state=state: {ticket.ticket: state}  # type: ignore[method-assign]
        driver.changes += 1
        work.look()
    (body,) = bodies.seen
    with pytest.raises(WorkerLost, match="attempt 3"):
        body.join()
    work.look()
    body.join()


# -- The sentences about where stopped trainings go on ----------------------------------------


def experiment(folder: Path, workload: str = "rl") -> Mailbox:
    mailbox = Mailbox(open_store(str(folder)), "x")
    spec = {"workload": workload}
    record = ExperimentRecord(name="x", spec=spec, identity="i", created_at=0.0)
    mailbox.create("experiment.json", record)
    return mailbox


def stopped_at(mailbox: Mailbox, seed: int, step: int, *kept: int) -> None:
    run = run_id(1, seed)
    ticket = ticket_id(run, Phase.TRAIN)
    mailbox.post(
        TicketRecord(ticket=ticket, run=run, phase=Phase.TRAIN, order=seed, posted_at=0.0)
    )
    board = Board(run=run, phase=Phase.TRAIN, attempt=1, worker="w", step=step, written_at=0.0)
    mailbox.write(f"board/{run}.json", board)
    for number in kept:
        checkpoints.save(mailbox, run, 1, number, 1, {"a": b"a"}, {}, 0.0)


def test_each_training_says_its_step_and_what_is_repeated(tmp_path):
    mailbox = experiment(tmp_path)
    stopped_at(mailbox, 1, 10_176, 8192, 10_176)
    stopped_at(mailbox, 2, 10_176, 8192)
    stopped_at(mailbox, 3, 10_176)
    stopped_at(mailbox, 4, 0)
    assert going_on(mailbox, ticket_states(mailbox)) == [
        "t0001-s1 continues at step 10,176, where it stopped; no step is repeated",
        "t0001-s2 continues at step 8,192, its last checkpoint; 1,984 steps are repeated",
        "t0001-s3 has no checkpoint yet and starts again at step 0; 10,176 steps are repeated",
    ]


def test_what_runs_or_is_done_is_left_out(tmp_path):
    mailbox = experiment(tmp_path)
    stopped_at(mailbox, 1, 100)
    (state,) = ticket_states(mailbox).values()
    for status in (Status.RUNNING, Status.SUCCEEDED, Status.PRUNED, Status.FAILED):
        assert going_on(mailbox, {"t": TicketState(state.ticket, status)}) == []


def test_many_are_counted(tmp_path):
    mailbox = experiment(tmp_path)
    for seed in range(MOST_LINES + 3):
        stopped_at(mailbox, seed, 100)
    lines = going_on(mailbox, ticket_states(mailbox))
    assert len(lines) == MOST_LINES + 1 and lines[-1] == "and 3 more runs"


def test_a_script_does_not_count_steps(tmp_path):
    mailbox = experiment(tmp_path, "script")
    stopped_at(mailbox, 1, 100)
    assert going_on(mailbox, ticket_states(mailbox)) == []
