"""The watch over budgets and preemptions: each is told once, at 80 %."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.runs.logs import Tail
from drillyard_flows import events
from drillyard_tasks import publisher
from drillyard_tasks.publisher import Publisher
from tests.helpers.patience import until

TASK: ContextVar[str] = ContextVar("task", default="nothing")


def driver(hours: float | None = None, cost: float | None = None, **states: Any) -> Any:
    return SimpleNamespace(
        mailbox=Mailbox(MemoryStore(), "e"),
        study=None,
        states=lambda: states,
        spec=SimpleNamespace(budget=SimpleNamespace(max_hours=hours, max_cost=cost)),
    )


def test_a_budget_is_told_once_from_80_percent_on(monkeypatch):
    told: list[tuple[str, dict[str, Any]]] = []
    watch = events.Watch(
        driver(hours=1.0, cost=10.0), lambda event, _, **payload: told.append((event, payload))
    )
    spent, hours = 7.9, 0.79
    monkeypatch.setattr(Ledger, "spent", lambda self: spent)
    monkeypatch.setattr(Ledger, "used_s", lambda self, since: hours * 3600)
    watch.look()
    assert told == []
    spent, hours = 8.1, 0.81
    watch.look()
    watch.look()
    assert [(e, p["limit"]) for e, p in told] == [
        ("drillyard.budget.reached", "budget.max_hours"),
        ("drillyard.budget.reached", "budget.max_cost"),
    ]
    assert "8.10 of 10" in told[1][1]["text"]


def test_a_lost_machine_is_told_once_an_attempt():
    told: list[Any] = []
    ticket = SimpleNamespace(ticket="t0001-s1.train", run="t0001-s1")
    state = SimpleNamespace(ticket=ticket, status=Status.PREEMPTED, attempt=1)
    watch = events.Watch(driver(a=state), lambda event, _, **payload: told.append(payload))
    watch.look()
    watch.look()
    state.attempt = 2
    watch.look()
    assert [one["attempt"] for one in told] == [1, 2]


def test_lines_of_a_worker_are_sent_once_over_all_phases(caplog, monkeypatch):
    # Without a server, Prefect would start one for this.
    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", lambda *_, **__: None)
    found = driver()
    folder = "runs/t0001-s1/attempts"

    def wrote(phase: str, line: int, text: str) -> None:
        box = found.mailbox
        box.store.put(box.key(f"{folder}/{phase}-1/logs/{line:012d}.txt"), text.encode())

    log = logging.getLogger("worker-lines")
    publisher = Publisher(interval_s=1e9, logs_every_s=1e9)
    with caplog.at_level(logging.INFO, "worker-lines"):
        with publisher.publishing(found, "e", "t0001-s1", "t0001-s1.train", log):
            wrote("train", 0, "one\ntwo\n")
        with publisher.publishing(found, "e", "t0001-s1", "t0001-s1.evaluate", log):
            wrote("train", 2, "three\n")
            wrote("evaluate", 0, "2026-11-22 15:04:29,638Z WARNING drillyard.run: four\n")
    said = [(r.levelname, r.getMessage()) for r in caplog.records if "|" in r.getMessage()]
    # Time and level of what a worker itself says are columns of the page, not part of the text.
    assert said == [
        *(("INFO", f"t0001-s1 | {word}") for word in ("one", "two", "three")),
        ("WARNING", "t0001-s1 | four"),
    ]


def test_only_a_training_that_takes_a_while_has_an_artifact(monkeypatch):
    created: list[str] = []

    def create(_: float, key: str, **__: Any) -> Any:
        created.append(f"{key} of {TASK.get()}")
        return uuid4()

    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", create)
    monkeypatch.setattr("prefect.artifacts.update_progress_artifact", lambda *_: None)
    found, log = driver(), logging.getLogger("artifacts")
    TASK.set("the task")
    with Publisher(short_s=1e9).publishing(found, "e", "short", "short.train", log):
        pass
    soon = Publisher(interval_s=1e9, logs_every_s=0.05, short_s=0.0)
    with (
        soon.publishing(found, "e", "long", "long.evaluate", log),
        soon.publishing(found, "e", "long", "long.train", log),
    ):
        until(lambda: created, what="the artifact")
    with Publisher(short_s=0.0).publishing(found, "e", "brief", "brief.train", log):
        pass
    assert created == ["progress-e-long of the task", "progress-e-brief of the task"]


def test_a_look_that_was_late_does_not_write_over_the_result(monkeypatch):
    shown: list[float] = []
    monkeypatch.setattr(
        "prefect.artifacts.update_progress_artifact", lambda _, percent, __: shown.append(percent)
    )
    found = driver()
    board = SimpleNamespace(
        run="t0001-s1",
        phase=Phase.TRAIN,
        attempt=1,
        step=5,
        total=10,
        steps_per_s=None,
        episode_return=None,
        eta_s=None,
        usage={},
        message="",
    )
    found.board = lambda run: board
    monkeypatch.setattr(publisher, "so_far", lambda _: "no cost so far")
    tail = Tail(found.mailbox, "t0001-s1")
    one = publisher._Watched(
        found, "e", "t0001-s1", "train", logging.getLogger("late"), tail, artifact=uuid4()
    )
    for done in (False, True, False):
        Publisher._publish(one, done)
    assert shown == [50.0, 100.0]
