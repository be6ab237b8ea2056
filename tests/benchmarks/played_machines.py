"""Machines of the emulated cloud that are threads of the emulator instead of processes.

A played machine takes tickets, writes a few bytes for each and ends itself through its group as a
real one does (the same ``SelfDelete``), so that thousands of leases, or hundreds of machines in
one, can be tried on a small computer. It reads and writes the bucket from within the emulator:
what the log of requests shows are the driver's.

This module is the emulator's program; from ``cloud.ask("play", ...)`` on its machines do so.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drillyard.backend import Order
from drillyard.errors import InfrastructureError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Board, Phase, TicketRecord, WorkerRecord
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from drillyard.mailbox.ticket_states import StateCache, TicketState, ticket_states
from drillyard.system.clock import SYSTEM
from drillyard_backends.buckets import as_metadata
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf
from drillyard_backends.gcp.self_delete import SelfDelete
from drillyard_emulators.gcp.cloud import Cloud, main
from drillyard_emulators.gcp.compute.model import Instance
from drillyard_emulators.gcp.gcs.objects import Conditions, Storage
from drillyard_emulators.http.handle import GcpEmulator
from drillyard_emulators.http.wire import Refusal
from tests.helpers.tiny_backend import Worker, good_work

from .virtual_clock import VirtualClock

POLL_S = 2.0
BEAT_S = 4.0
IDLE_S = 60.0
"""Virtual seconds, as a real machine's agent has them on a bucket."""
FRESH_S = 1.0
CUT_WITHIN_S = 20.0
_LOOK_S = 0.1


class BucketInside:
    """A bucket of the emulator as a store, without requests.

    Args:
        storage: Of the emulator.
        bucket: Its name.
    """

    pace_s = POLL_S

    def __init__(self, storage: Storage, bucket: str) -> None:
        self.url = f"gs://{bucket}"
        self._storage, self._name = storage, bucket

    def get(self, key: str) -> bytes:
        """Read an object."""
        found = self._storage.bucket(self._name).live.get(key)
        if found is None:
            raise ObjectMissing(key)
        return found.data

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what is there."""
        self._storage.write(self._name, key, data, {}, Conditions())

    def put_listed(self, key: str, data: bytes) -> None:
        """As the real client writes what is listed."""
        self._storage.write(
            self._name, key, data, {"metadata": {**(as_metadata(data) or {})}}, Conditions()
        )

    def contents(self, prefix: str) -> Iterator[tuple[ObjectInfo, bytes | None]]:
        """Every object whose key starts with ``prefix``, with its bytes."""
        for info in self.list(prefix):
            yield info, self.get(info.key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; True when it is ours."""
        try:
            self._storage.write(self._name, key, data, {}, Conditions(generation=0))
        except Refusal:
            return self.get(key) == data
        return True

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object, or None."""
        found = self._storage.bucket(self._name).live.get(key)
        return None if found is None else ObjectInfo(key, len(found.data), found.updated)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, sorted by key."""
        with self._storage.lock:
            bucket = self._storage.bucket(self._name)
            first = bisect.bisect_left(bucket.names, prefix)
            last = bisect.bisect_left(bucket.names, f"{prefix}\U0010ffff")
            found = [bucket.live[name] for name in bucket.names[first:last]]
        for one in found:
            yield ObjectInfo(one.name, len(one.data), one.updated)

    def delete(self, key: str) -> None:
        """Remove an object; missing is success."""
        with contextlib.suppress(Refusal):
            self._storage.delete(self._name, key, None, Conditions())

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file."""
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        """Read an object into a file."""
        path.write_bytes(self.get(key))

    def now(self) -> float:
        """The clock that stamps the objects."""
        return self._storage.clock.now()


class Look:
    """What the machines of one experiment see of its tickets: one look serves them all.

    Args:
        mailbox: The experiment.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox, self._cache = mailbox, StateCache()
        self._lock = threading.Lock()
        self._open: list[TicketState] = []
        self._at = float("-inf")

    def open(self) -> list[TicketState]:
        """Tickets that can be claimed, as they were a moment ago."""
        with self._lock:
            if SYSTEM.monotonic() - self._at >= FRESH_S:
                states = ticket_states(self._mailbox, self._cache).values()
                self._open = [state for state in states if state.claimable is not None]
                self._at = SYSTEM.monotonic()
            return self._open


class Player(Worker):
    """One machine.

    Args:
        instance: The machine.
        bucket: Its mailbox's.
        group: Its own, as it sees it.
        look: Of its experiment.
        train_s: Virtual seconds that training takes.
    """

    def __init__(
        self,
        instance: Instance,
        bucket: BucketInside,
        group: InstanceGroupSelf,
        look: Look,
        train_s: float,
    ) -> None:
        order = Order.from_bytes(instance.metadata[naming.ORDER_KEY].encode())
        self._instance, self._group = instance, group
        number = str(instance.instance_id)
        super().__init__(order, self._work_of, f"{order.lease_id}-{number}")
        self._look, self._train_s = look, train_s
        self.mailbox = Mailbox(bucket, order.experiment)
        self._leaver = SelfDelete(self.mailbox, order, group, instance.name, number)
        self._beats = 0

    def say(self, state: str, message: str = "") -> None:
        """Its word in the mailbox: of one slot, under the name that the provider knows it by."""
        self._beats += 1
        record = WorkerRecord(
            worker=self.worker,
            lease=self.order.lease_id,
            state=state,
            slots=1,
            message=message,
            host=self._instance.name,
            beat=self._beats,
            written_at=SYSTEM.now(),
            ready_at=SYSTEM.now(),
        )
        self.mailbox.write(f"workers/{self.worker}.json", record, listed=True)

    def run(self) -> None:
        """Take tickets; with nothing left to do for a while, end this machine."""
        self._work()
        if self.up:
            with contextlib.suppress(InfrastructureError):
                self._leaver.record("nothing left to do")
                self._leaver.wait(self.end)
                self._leaver.delete(self._leaver.last(), self.end)

    @property
    def up(self) -> bool:
        """False once its power is off or about to be: it writes nothing more."""
        if self._instance.status != "RUNNING":
            self.die()
        return not self.dead

    def _work_of(self, _: Worker, ticket: TicketRecord, attempt: int) -> str:
        until = SYSTEM.monotonic() + self._train_s * (ticket.phase is Phase.TRAIN)
        while SYSTEM.monotonic() < until and self.up:
            self.say("ready")
            self._tell(ticket, attempt)
            SYSTEM.wait(self.end, BEAT_S)
        return good_work(self, ticket, attempt)

    def _tell(self, ticket: TicketRecord, attempt: int) -> None:
        """Its progress, as a training's own thread writes it."""
        board = Board(
            run=ticket.run,
            phase=ticket.phase,
            attempt=attempt,
            worker=self.worker,
            beat=self._beats,
            written_at=SYSTEM.now(),
        )
        self.mailbox.write(f"board/{ticket.run}.json", board, listed=True)

    def _work(self) -> None:
        useful_at, beat_at = SYSTEM.monotonic(), 0.0
        while self.up:
            now = SYSTEM.monotonic()
            if now >= beat_at:
                self.say("ready")
                beat_at = now + BEAT_S
            open_ = self._look.open()
            if open_:  # not all of them at the same one
                state = open_[self._instance.instance_id % len(open_)]
                assert state.claimable is not None
                self.one(state.ticket, state.claimable)
                useful_at = SYSTEM.monotonic()
            elif now - useful_at >= IDLE_S:
                return
            SYSTEM.wait(self.end, FRESH_S if open_ else POLL_S)


class Players:
    """Plays every machine that is up, and every one that comes up.

    Args:
        cloud: Whose machines; they have no processes there.
        store_url: Their mailbox, a bucket.
        cut: Share of machines that are taken away without notice, some time after they came up.
        seed: Of the chance in that.
        train_s: Virtual seconds that each training takes.
    """

    def __init__(
        self, cloud: Cloud, store_url: str, cut: float = 0.0, seed: int = 0, train_s: float = 0.0
    ) -> None:
        self._cloud, self._cut, self._train_s = cloud, cut, train_s
        self._looks: dict[str, Look] = {}
        self._bucket = BucketInside(cloud.storage, store_url.removeprefix("gs://"))
        self._dice = random.Random(seed)
        self._session: Any = None
        self._playing: list[Player] = []
        os.environ.update(cloud.env())
        VirtualClock(cloud.clock.speed, cloud.clock.now(), time.monotonic()).install()
        with cloud.world.lock:
            for instance in list(cloud.world.instances.living.values()):
                if instance.status == "RUNNING":
                    self.begin(instance)
            cloud.world.instances.booted.append(self.begin)
        threading.Thread(target=self._watch, name="power", daemon=True).start()

    def begin(self, instance: Instance) -> None:
        """Play one; under the world's lock."""
        place, _, name = str(instance.group).partition("/instanceGroupManagers/")
        group = InstanceGroupSelf(self._cloud.project.project_id, f"{place}/{name}", instance.zone)
        # One login and one set of connections for all: they share this process.
        self._session = self._session or group.session
        group.session = self._session
        name = instance.labels[naming.EXPERIMENT_LABEL]
        look = self._looks.setdefault(name, Look(Mailbox(self._bucket, name)))
        player = Player(instance, self._bucket, group, look, self._train_s)
        self._playing.append(player)
        player.start()
        if self._dice.random() < self._cut:

            def cut() -> None:
                if instance.gone is None:
                    self._cloud.world.happen("cut", str(instance.instance_id))

            self._cloud.world.scheduler.after(self._dice.uniform(0.0, CUT_WITHIN_S), cut)

    def _watch(self) -> None:
        """Cut the power of who is not up any more, wherever he stands."""
        while True:
            with self._cloud.world.lock:
                self._playing = [player for player in self._playing if player.up]
            time.sleep(_LOOK_S)


class PlayedCloud(Cloud):
    """Google Cloud whose machines are played once it was asked to ``play``."""

    def verbs(self) -> dict[str, Any]:
        """One more."""
        return {**super().verbs(), "play": lambda asked: Players(self, **asked) and None}


def unplayed(folder: Path, speed: float, seed: int = 0, bodies: bool = False) -> GcpEmulator:
    """A cloud whose machines only exist until it is asked to ``play``.

    Args:
        folder: Of its own.
        speed: Virtual seconds a real one.
        seed: Of the faults.
        bodies: Whether the log of requests has the documents.
    """
    cloud = GcpEmulator(folder, speed=speed, seed=seed, module=__spec__.name, bodies=bodies)
    cloud.physics(processes=False)
    return cloud


if __name__ == "__main__":
    sys.exit(main(make=PlayedCloud))
