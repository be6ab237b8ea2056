"""When a session offers a ticket to what shows it."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any

from drillyard.driver.bodies import Bodies, Body
from drillyard.driver.work import Work
from drillyard.errors import Stopped
from drillyard.mailbox.records import PHASES, Phase, TicketRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState

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
