"""Machines of the emulated cloud that run in threads of this process instead of processes.

A played machine takes tickets, writes a few bytes for each and ends itself through its group as a
real one does (the same ``Leaver``), so that thousands of leases can be tried on a small computer.
"""

from __future__ import annotations

import contextlib
import random
import threading
from typing import Any

from drillyard.attempts import StateCache, ticket_states
from drillyard.backend import Order
from drillyard.clock import SYSTEM
from drillyard.errors import InfrastructureError
from drillyard.mailbox.records import WorkerRecord
from drillyard.testing.cloud.handle import GcpEmulator
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.leaving import Leaver
from drillyard_backends.gcp.own_group import OwnGroup
from tests.contract.tiny_backend import Worker, good_work

POLL_S = 2.0
IDLE_S = 60.0
"""Virtual seconds: how long a machine with nothing to do stays, as the default setting has it."""


class Player(Worker):
    """One machine.

    Args:
        found: The machine by the emulator's books.
        store_url: Its mailbox.
        project: Id of the project.
    """

    def __init__(self, found: dict[str, Any], store_url: str, project: str) -> None:
        labels = found["labels"]
        order = Order(
            lease_id=labels[naming.LEASE_LABEL], experiment=labels[naming.EXPERIMENT_LABEL],
            workers=1, store_url=store_url,
        )  # fmt: skip
        super().__init__(order, good_work, f"{order.lease_id}-{found['id']}")
        self._machine, self._number = found["name"], found["id"]
        place, _, group = str(found["group"]).partition("/instanceGroupManagers/")
        self._group = OwnGroup(project, f"{place}/{group}", found["zone"])

    def say(self, state: str, message: str = "") -> None:
        """Its word in the mailbox, under the name that the provider knows it by."""
        record = WorkerRecord(
            worker=self.worker, lease=self.order.lease_id, state=state, slots=1,
            host=self._machine, message=message, written_at=SYSTEM.now(), ready_at=SYSTEM.now(),
        )  # fmt: skip
        self.mailbox.write(f"workers/{self.worker}.json", record)

    def run(self) -> None:
        """Take tickets; with nothing left to do for a while, end this machine."""
        with contextlib.suppress(InfrastructureError):
            self.say("ready")
            self._work()
            if not self.end.is_set():
                self._leave()

    def _work(self) -> None:
        cache, useful_at = StateCache(), SYSTEM.monotonic()
        while not self.end.is_set():
            states = ticket_states(self.mailbox, cache)
            open_ = [s for s in states.values() if s.claimable is not None]
            for state in open_[:1]:
                assert state.claimable is not None
                self.one(state.ticket, state.claimable)
                useful_at = SYSTEM.monotonic()
            if not open_:
                if SYSTEM.monotonic() - useful_at >= IDLE_S:
                    return
                SYSTEM.wait(self.end, POLL_S)

    def _leave(self) -> None:
        leaver = Leaver(self.mailbox, self.order, self._group, self._machine, self._number)
        leaver.say("nothing left to do")
        leaver.go(leaver.last(), self.end)


class Players:
    """Plays every machine that comes up, until it is gone; use it as a context manager.

    Args:
        cloud: Whose machines; they have no processes there.
        store_url: Their mailbox.
        cut: Share of machines that are taken away without notice, some time after they came up.
        seed: Of the chance in that.
    """

    def __init__(
        self, cloud: GcpEmulator, store_url: str, cut: float = 0.0, seed: int = 0
    ) -> None:
        self._cloud, self._store_url, self._cut = cloud, store_url, cut
        self._dice = random.Random(seed)
        self._players: dict[str, Player] = {}
        self._doomed: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="players")
        self.cuts = 0

    def __enter__(self) -> Players:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(10.0)
        for player in self._players.values():
            player.die()

    def _watch(self) -> None:
        while not self._end.wait(0.25):
            up = {m["id"]: m for m in self._cloud.state()["machines"] if m["status"] == "RUNNING"}
            for number in self._players.keys() - up.keys():
                self._players.pop(number).die()
            for number, found in up.items():
                if number not in self._players:
                    self._begin(number, found)
                elif self._doomed.get(number, float("inf")) < SYSTEM.monotonic():
                    del self._doomed[number]
                    self.cuts += 1
                    self._cloud.happen("cut", found["name"])

    def _begin(self, number: str, found: dict[str, Any]) -> None:
        if self._dice.random() < self._cut:
            self._doomed[number] = SYSTEM.monotonic() + self._dice.uniform(0.0, 20.0)
        player = Player(found, self._store_url, self._cloud.project)
        self._players[number] = player
        player.start()
