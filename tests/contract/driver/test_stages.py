"""Stages of a composite: their order, their data, their services, and what a death repeats."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drillyard.driver import stages as stages_module
from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Kind, Outcome
from drillyard.driver.six_phases import drive
from drillyard.driver.stages import Stages
from drillyard.errors import IdentityChanged, Stopped
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Cancel, Phase, TicketRecord
from drillyard.mailbox.stage_records import (
    Inputs,
    Release,
    Serving,
    inputs_key,
    release_key,
    serving_key,
    states,
)
from drillyard.runs.inputs import place_inputs
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.load import Loaded
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.tiny_backend import ThreadBackend, Work, Worker, tiny

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("drillyard.driver.stages.POLL_S", 0.02)
    monkeypatch.setattr("drillyard.driver.stages.CANCEL_EVERY_S", 0.05)


FILE = "result.txt"
"""What a thread worker keeps of each ticket."""


def a_child(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "workload": "tiny", "outputs": {"out": FILE}, **changes}


def a_service(name: str) -> dict[str, Any]:
    return {"name": name, "workload": "service", "service": {"start": "serve"}}


class Lab:
    """A composite whose stages run on thread backends; notes who did which training when."""

    def __init__(self, folder: Path, mailbox: Mailbox, *children: dict[str, Any]) -> None:
        self.folder, self.mailbox = folder, Mailbox(mailbox.store, "whole")
        self.children = list(children)
        self.done: list[str] = []
        self.backends: dict[str, ThreadBackend] = {}
        self.works: dict[str, Work] = {}

    def loaded(self) -> Loaded:
        made = tiny(self.folder)
        tree = {"name": "whole", "workload": "composite", "children": self.children, "seeds": [1]}
        spec = {**tree, "tracking": {"mlflow": None}}
        made.spec = ExperimentSpec.model_validate(spec)
        return made

    def stages(
        self, driving: Callable[[Driver, str], Outcome] | None = None, **more: Any
    ) -> Stages:
        def plainly(driver: Driver, name: str) -> Outcome:
            return drive(driver, report=False)

        drives = driving or plainly
        return Stages(
            self.loaded(), self.mailbox, self._driver, drives, say=lambda text: None, **more
        )

    def run(self) -> Outcome:
        stages = self.stages()
        left = stages.open()
        outcome = stages.run() if left else Outcome(Kind.SUCCEEDED)
        stages.close(outcome.word)
        return outcome

    def box(self, child: str) -> Mailbox:
        return Mailbox(self.mailbox.store, f"whole.{child}")

    def statuses(self) -> dict[str, str]:
        return {stage.name: stage.status for stage in states(self.mailbox)}

    def _driver(self, loaded: Loaded) -> Driver:
        name = loaded.spec.stage_of.name

        def work(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
            if ticket.phase is Phase.TRAIN:
                self.done.append(f"{name}/{ticket.run}")
                if name in self.works:
                    return self.works[name](worker, ticket, attempt)
                if loaded.spec.workload == "service":
                    serve(worker, ticket)
            return f"{name} {ticket.run}"

        backend = self.backends.setdefault(name, ThreadBackend(work))
        return Driver(loaded, self.box(name), backend)


def serve(worker: Worker, ticket: TicketRecord) -> None:
    """As the workload does: say where, and go on until the order to stop."""
    where = Serving(attempt=1, host="127.0.0.1", port=4000, ready_at=0.0)
    worker.mailbox.write(serving_key(ticket.run), where)
    until(
        lambda: worker.end.is_set() or worker.mailbox.read(release_key(ticket.run), Release),
        what="the order to stop",
    )


def fails(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
    raise ValueError("no such file")


def test_independent_stages_run_side_by_side_and_each_waits_for_its_own(folder, mailbox):
    lab = Lab(
        folder,
        mailbox,
        a_child("left"),
        a_child("right"),
        a_child("last", inputs={"one": "left.out", "other": "right.out"}),
    )
    both = threading.Barrier(2)

    def together(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        both.wait(PATIENCE_S)  # passes only if the other one is at work, too
        return "made"

    lab.works = {"left": together, "right": together}
    assert lab.run().kind is Kind.SUCCEEDED
    assert lab.done[-1] == "last/t0001-s1" and len(lab.done) == 3
    assert set(lab.statuses().values()) == {"succeeded"}
    assert ThreadBackend.alive == {}, "every stage's machines are gone"


def test_a_step_starts_what_is_due_beside_it_and_never_waits(folder, mailbox):
    lab = Lab(folder, mailbox, a_child("left"), a_child("right"), a_child("last", after=["left"]))
    due: dict[str, Callable[[], None]] = {}
    stages = lab.stages(run_beside=lambda name, work: due.setdefault(name, work))
    assert stages.open() == ["left", "right", "last"]
    before = threading.active_count()
    for begins in (["stage-left", "stage-right"], ["stage-last"]):
        assert stages.step(0.0) == stages_module.POLL_S
        assert [*due] == begins and threading.active_count() == before
        assert stages.step(1.0) == stages_module.POLL_S and [*due] == begins
        while due:
            due.pop(next(iter(due)))()
        before = threading.active_count()
    assert stages.step(2.0) is None
    stages.close("succeeded")
    assert lab.done[-1] == "last/t0001-s1" and set(lab.statuses().values()) == {"succeeded"}


def test_outputs_arrive_by_seed_or_of_all_seeds(folder, mailbox, tmp_path):
    lab = Lab(
        folder,
        mailbox,
        a_child("make", seeds=[1, 2, 3]),
        a_child("each", seeds=[2, 3], inputs={"data": "make.out"}),
        a_child("sum", inputs={"all": {"from": "make.out", "seeds": "all"}}),
    )
    got: dict[str, str] = {}

    def reads(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        own = tmp_path / worker.order.experiment / ticket.run
        for value in place_inputs(worker.mailbox, ticket.run, own).values():
            for path in sorted((own / str(value)).rglob("*")) or [own / str(value)]:
                if path.is_file():
                    got[path.relative_to(tmp_path).as_posix()] = path.read_text()
        return "read"

    lab.works = {"each": reads, "sum": reads}
    assert lab.run().kind is Kind.SUCCEEDED
    assert got == {
        "whole.each/t0001-s2/inputs/data/result.txt": "make t0001-s2",
        "whole.each/t0001-s3/inputs/data/result.txt": "make t0001-s3",
        **{
            f"whole.sum/t0001-s1/inputs/all/s{s}/result.txt": f"make t0001-s{s}" for s in (1, 2, 3)
        },
    }


def test_a_failed_stage_stops_what_depends_on_it_and_nothing_else(folder, mailbox):
    lab = Lab(
        folder,
        mailbox,
        a_child("bad"),
        a_child("good"),
        a_child("after-bad", after=["bad"]),
        a_child("after-good", after=["good"]),
    )
    lab.works = {"bad": fails}
    outcome = lab.run()
    assert outcome.kind is Kind.FAILED
    assert lab.statuses() == {
        "bad": "failed",
        "good": "succeeded",
        "after-bad": "skipped",
        "after-good": "succeeded",
    }
    assert "no such file" in str(outcome.error) and "after-bad: was not started" in str(
        outcome.error
    )
    assert ThreadBackend.alive == {}
    lab.works, before = {}, list(lab.done)
    assert lab.run().kind is Kind.SUCCEEDED
    assert lab.done[len(before) :] == ["bad/t0001-s1", "after-bad/t0001-s1"]
    assert len(lab.backends["good"].provisions) == 1, "a finished stage is not rented again"
    assert lab.run().kind is Kind.SUCCEEDED and len(lab.done) == len(before) + 2


def test_a_service_is_ready_before_its_users_and_stops_after_them(folder, mailbox):
    lab = Lab(
        folder,
        mailbox,
        a_service("app"),
        a_child("first", inputs={"url": "app.url"}),
        a_child("second", after=["app", "first"]),
    )

    def uses(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        assert lab.box("app").read(release_key("t0001-s1"), Release) is None
        return "used"

    lab.works = {"first": uses, "second": uses}
    assert lab.run().kind is Kind.SUCCEEDED
    assert lab.done == ["app/t0001-s1", "first/t0001-s1", "second/t0001-s1"]
    given = lab.box("first").read(inputs_key("t0001-s1"), Inputs)
    assert given is not None and given.inputs["url"].value == "http://127.0.0.1:4000"
    assert ThreadBackend.alive == {}
    assert lab.run().kind is Kind.SUCCEEDED and len(lab.done) == 3, "nothing is started again"


def test_a_service_serves_again_for_what_failed(folder, mailbox):
    lab = Lab(folder, mailbox, a_service("app"), a_child("user", after=["app"]))
    lab.works = {"user": fails}
    assert lab.run().kind is Kind.FAILED
    lab.works = {}
    assert lab.run().kind is Kind.SUCCEEDED
    assert lab.done == ["app/t0001-s1", "user/t0001-s1", "app/t0001-s2", "user/t0001-s1"]
    assert ThreadBackend.alive == {}


def test_what_uses_a_service_that_ends_by_itself_is_stopped(folder, mailbox):
    lab = Lab(folder, mailbox, a_service("app"), a_child("user", after=["app"]), a_child("other"))
    used = threading.Event()

    def ends(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        where = Serving(attempt=1, host="127.0.0.1", port=4000, ready_at=0.0)
        worker.mailbox.write(serving_key(ticket.run), where)
        assert used.wait(PATIENCE_S)
        raise ValueError("out of memory")

    def waits(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        used.set()
        until(lambda: worker.mailbox.cancelled() is not None, what="the order to stop")
        worker.end.set()
        return "stopped"

    lab.works = {"app": ends, "user": waits}
    outcome = lab.run()
    assert outcome.kind is Kind.FAILED and "out of memory" in str(outcome.error)
    assert lab.statuses() == {"app": "failed", "user": "failed", "other": "succeeded"}
    assert ThreadBackend.alive == {}


def test_an_order_to_stop_reaches_every_stage(folder, mailbox):
    from drillyard_flows.stopping import order_stop

    lab = Lab(folder, mailbox, a_child("long"), a_child("later", after=["long"]))

    def waits(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        order_stop(lab.mailbox, reason="enough", by="a test")
        until(lambda: worker.mailbox.cancelled() is not None, what="the order to stop")
        worker.end.set()
        return "stopped"

    lab.works = {"long": waits}
    outcome = lab.run()
    assert outcome.kind is Kind.STOPPED and isinstance(outcome.error, Stopped)
    assert lab.statuses() == {"long": "stopped", "later": "stopped"}
    lab.works = {}
    assert lab.run().kind is Kind.SUCCEEDED


def test_a_change_is_refused_before_anything_is_written(folder, mailbox):
    lab = Lab(folder, mailbox, a_child("first"), a_child("second", after=["first"]))
    assert lab.run().kind is Kind.SUCCEEDED
    before = sorted(info.key for info in mailbox.store.list(""))
    lab.children[1]["train"] = {"steps": 100, "n_envs": 3}
    with pytest.raises(IdentityChanged, match=r"whole\.second"):
        lab.stages().open()
    assert sorted(info.key for info in mailbox.store.list("")) == before


def test_a_drain_lets_running_work_of_a_stage_finish(folder, mailbox, monkeypatch):
    monkeypatch.setattr("drillyard.driver.six_phases.STOP_PATIENCE_S", 0.05)
    lab = Lab(folder, mailbox, a_child("left"))
    ended_early = []

    def long(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        order = Cancel(reason="drained", by="me", drain=True, written_at=0.0)
        lab.mailbox.create("control/cancel.json", order)
        until(lambda: worker.mailbox.cancelled(), what="the order in the stage")
        ended_early.append(worker.end.wait(1.0))
        return "made"

    lab.works = {"left": long}
    assert lab.run().kind is Kind.STOPPED
    assert ended_early == [False]


def test_a_stop_waits_for_as_long_as_workers_take_to_see_it_in_the_store(
    folder, mailbox, monkeypatch
):
    """Workers of a bucket that are busy look for it once in five paces."""
    monkeypatch.setattr("drillyard.driver.six_phases.STOP_PATIENCE_S", 0.0)
    monkeypatch.setattr(type(mailbox.store), "pace_s", 0.3, raising=False)
    lab = Lab(folder, mailbox, a_child("left"))
    took_s = []

    def ignores(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
        began = time.monotonic()
        order = Cancel(reason="enough", by="me", written_at=0.0)
        lab.mailbox.create("control/cancel.json", order)
        assert worker.end.wait(PATIENCE_S)
        took_s.append(time.monotonic() - began)
        return "stopped"

    lab.works = {"left": ignores}
    assert lab.run().kind is Kind.STOPPED
    assert took_s[0] > 5 * 0.3


def test_an_order_that_comes_while_a_stage_opens_reaches_it_and_a_drain_becomes_a_stop(
    folder, mailbox
):
    lab = Lab(folder, mailbox, a_child("left"))
    due: dict[str, Callable[[], None]] = {}
    drains: list[bool] = []

    def drives(driver: Driver, name: str) -> Outcome:
        for drain in (True, False):
            order = Cancel(reason="enough", by="me", drain=drain, written_at=0.0)
            lab.mailbox.write("control/cancel.json", order)
            stages.step(10.0 * (1 + len(drains)))
            now = lab.box("left").cancelled()
            drains.append(now is not None and now.drain and driver.stopping.drains)
        return Outcome(Kind.STOPPED, Stopped("enough"))

    stages = lab.stages(drives, run_beside=lambda name, work: due.setdefault(name, work))
    stages.open()
    stages.step(0.0)
    stages.stop("enough", drain=True)
    due["stage-left"]()
    assert drains == [True, False]
    assert stages.step(40.0) is None
    stages.close("stopped")


def test_what_opens_while_its_service_ends_is_stopped(folder, mailbox):
    lab = Lab(folder, mailbox, a_service("server"), a_child("user", after=["server"]))
    due: dict[str, Callable[[], None]] = {}
    outcomes = {"server": Outcome(Kind.SUCCEEDED), "user": Outcome(Kind.STOPPED, Stopped("x"))}
    stages = lab.stages(
        lambda driver, name: outcomes[name],
        run_beside=lambda name, work: due.setdefault(name, work),
    )
    stages.open()
    stages.step(0.0)
    lab.box("server").write(
        serving_key("t0001-s1"), Serving(attempt=1, host="127.0.0.1", port=4000, ready_at=0.0)
    )
    stages.step(10.0)
    assert [*due] == ["stage-server", "stage-user"]
    due["stage-server"]()
    stages.step(20.0)
    due["stage-user"]()
    assert lab.box("user").cancelled() is not None
    assert stages.step(30.0) is None
    assert lab.statuses() == {"server": "failed", "user": "failed"}
    stages.close("failed")
