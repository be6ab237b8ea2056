"""A backend whose workers are threads of this process, and a workload of a few bytes.

Faults on demand: workers that die without a word, provisions that fail, machines that stay listed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from drillyard.backend import Backend, Cost, Lease, Liveness, Order, Trait
from drillyard.errors import InfrastructureError, Superseded
from drillyard.findings import Finding
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import new_token
from drillyard.mailbox.records import (
    Claim,
    Ending,
    TicketRecord,
)
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.registry import names, register
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec
from drillyard.spec.load import Loaded
from drillyard.system.clock import SYSTEM
from tests.helpers.records import claim_of, result_of, tell_worker


class Tiny:
    """A workload that only freezes; ``Worker`` below does its work."""

    kind = "tiny"

    def check(self, spec: ExperimentSpec, folder: Path | None) -> list[Finding]:
        return []

    def preload(self, spec: ExperimentSpec) -> list[str]:
        return ["json"]

    def freeze(self, spec: ExperimentSpec, seed: int) -> dict[str, Any]:
        return {"seed_twice": 2 * seed}

    def train(self, context: RunContext) -> PhaseOutcome:
        return PhaseOutcome()

    def evaluate(self, context: RunContext) -> PhaseOutcome:
        return PhaseOutcome()


if "tiny" not in names("workloads"):
    register("workloads", "tiny", "tests.helpers.tiny_backend:Tiny")

Work = Callable[["Worker", TicketRecord, int], str]


def good_work(worker: Worker, ticket: TicketRecord, attempt: int) -> str:
    return f"{ticket.ticket} by attempt {attempt}"


class Worker(threading.Thread):
    """Takes tickets until it is told to end."""

    def __init__(
        self, order: Order, work: Work, name: str, failed: str = "", left: str = ""
    ) -> None:
        super().__init__(daemon=True)
        self.order, self.work, self.worker, self.failed = order, work, name, failed
        self.left = left
        self.mailbox = Mailbox(open_store(order.store_url), order.experiment)
        self.end = threading.Event()
        self.dead = False

    def say(self, state: str, message: str = "") -> None:
        told = {"state": state, "message": message, "written_at": SYSTEM.now()}
        lease, slots = self.order.lease_id, self.order.workers
        tell_worker(self.mailbox, self.worker, lease, slots=slots, host="elsewhere", **told)

    def die(self) -> None:
        """As after kill -9: no word more."""
        self.dead = True
        self.end.set()

    def run(self) -> None:
        if self.failed:
            self.say("failed", self.failed)
            return
        if self.left:
            self.say("leaving", self.left)
            return
        self.say("ready")
        while not self.end.wait(0.02):
            for state in ticket_states(self.mailbox).values():
                if state.claimable is not None and not self.end.is_set():
                    self.one(state.ticket, state.claimable)
                    break

    def one(self, ticket: TicketRecord, attempt: int) -> None:
        now = SYSTEM.now()
        own = {"worker": self.worker, "token": new_token()}
        claim = claim_of(ticket.ticket, attempt, claimed_at=now, **own)
        if not self.mailbox.claim(claim):
            return
        try:
            text = self.work(self, ticket, attempt)
        except ValueError as error:
            self.finish(claim, Status.FAILED, Cause.USER_ERROR, str(error))
            return
        if self.dead:
            return
        if self.mailbox.cancelled() is not None and self.end.is_set():
            self.finish(claim, Status.CANCELLED, Cause.CANCELLED, "stopped")
            return
        files, took = {"result.txt": text.encode()}, {"started_at": now, "ended_at": SYSTEM.now()}
        result = result_of(self.mailbox, ticket.run, ticket.phase, files, attempt, **took)
        try:
            if self.mailbox.accept(claim, result):
                self.finish(claim, Status.SUCCEEDED, None, "")
        except Superseded:
            pass

    def finish(self, claim: Claim, status: Status, cause: Cause | None, message: str) -> None:
        self.mailbox.end(
            Ending(
                ticket=claim.ticket,
                attempt=claim.attempt,
                status=status,
                cause=cause,
                message=message,
                by=self.worker,
                ended_at=SYSTEM.now(),
            )
        )


class ThreadBackend:
    """Leases are threads; what is alive survives the backend object, as at a provider."""

    kind = "thread"
    traits: frozenset[Trait] = frozenset({Trait.PULLS})
    alive: ClassVar[dict[str, tuple[Lease, Worker]]] = {}

    def __init__(self, work: Work = good_work) -> None:
        self.work = work
        self.provisions: list[str] = []
        self.teardowns = 0
        self.undeletable = False
        self.unreachable = 0
        self.setup_error = ""
        self.left_in_setup: list[str] = []
        """Why workers leave before they are ready, in this order; then none does."""
        self.price = 0.0

    def check(self, order: Order | None = None) -> list[Finding]:
        return []

    def provision(self, order: Order) -> Lease:
        if self.unreachable:
            self.unreachable -= 1
            raise InfrastructureError("no answer")
        there = self.alive.get(order.lease_id)
        if there is not None and there[1].is_alive():
            return there[0]
        self.provisions.append(order.lease_id)
        lease = Lease(lease_id=order.lease_id, backend=self.kind, order=order, created_at=0.0)
        name = f"w-{order.lease_id}-{len(self.provisions)}"
        left = self.left_in_setup.pop(0) if self.left_in_setup else ""
        worker = Worker(order, self.work, name, self.setup_error, left)
        self.alive[order.lease_id] = (lease, worker)
        worker.start()
        return lease

    def worker(self, lease: Lease) -> Worker:
        return self.alive[lease.lease_id][1]

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        there = self.alive.get(lease.lease_id)
        if there is None or there[1].dead or not there[1].is_alive():
            return Liveness.GONE
        return Liveness.ALIVE

    def launch(self, lease: Lease, ticket_id: str) -> dict[str, Any] | None:
        return None

    def logs(self, lease: Lease, handle: dict[str, Any] | None, since: int = 0) -> Iterator[str]:
        yield from ["booting", "out of disc"][since:]

    def cancel(self, lease: Lease, ticket_id: str) -> None:
        return None

    def teardown(self, lease: Lease) -> None:
        self.teardowns += 1
        there = self.alive.get(lease.lease_id)
        if there is not None and not self.undeletable:
            there[1].end.set()
            there[1].join(5.0)
            del self.alive[lease.lease_id]

    def leases(self) -> Iterator[Lease]:
        yield from [lease for lease, _ in self.alive.values()]

    def estimate(self, order: Order) -> Cost:
        return Cost(per_hour=self.price * order.workers)


def a_backend() -> Backend:
    """Lets mypy prove that it is one."""
    return ThreadBackend()


def tiny(folder: Path, **changes: Any) -> Loaded:
    """A loaded experiment of the tiny workload, with a module beside its file."""
    spec = ExperimentSpec.model_validate(
        {"name": "tiny", "workload": "tiny", "train": {"steps": 100}, "seeds": [1, 2], **changes}
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tiny.yaml"
    file.write_text("schema: 1\nworkload: tiny\n")
    if not (folder / "world.py").exists():
        (folder / "world.py").write_text("GRAVITY = 9.81\n")
    return Loaded(
        spec=spec,
        provenance={"train.steps": "tiny.yaml:3"},
        file=file,
        folder=folder,
        text=file.read_text(),
        command=["drillyard", "run", str(file)],
    )
