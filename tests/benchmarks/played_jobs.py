"""Jobs of the emulated Azure that are threads of the emulator instead of processes.

A played job takes its run's tickets, writes a few bytes for each, and ends as a real one does, so
that hundreds of leases can be tried on a small computer. It reads and writes the blobs from within
the emulator: what the log of requests shows are the driver's.

This module is the emulator's program; from ``cloud.ask("play", ...)`` on its jobs do so.
"""

from __future__ import annotations

import os
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from drillyard.backend import Order
from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase, TicketRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.store import ObjectInfo, ObjectMissing
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.clock import SYSTEM
from drillyard.worker import endings
from drillyard_backends.azure.job import ORDER_KEY, STORE, TICKET
from drillyard_emulators.azure.cloud import CONTAINER, Azure
from drillyard_emulators.azure.model import Job
from drillyard_emulators.http.emulator import parser, serve
from tests.helpers.records import tell_worker
from tests.helpers.tiny_backend import Worker, good_work

POLL_S, BEAT_S = 1.0, 4.0
TRAIN_S = 1.0
_BLOB = re.compile(
    r"<Name>([^<]+)</Name>.*?<Last-Modified>([^<]+)</Last-Modified>.*?"
    r"<Content-Length>(\d+)</Content-Length>",
    re.S,
)


class BlobsInside:
    """Blobs of the emulator below a prefix as a store, without requests of a client.

    Args:
        cloud: The emulator.
        url: ``az://account/container/prefix``.
    """

    pace_s = 1.0

    def __init__(self, cloud: Azure, url: str) -> None:
        self._blobs, self.url = cloud.blobs, url
        self._prefix = url.partition(f"/{CONTAINER}/")[2]

    def _path(self, key: str) -> str:
        return f"/{CONTAINER}/{self._prefix}/{key}"

    def get(self, key: str) -> bytes:
        """Read an object."""
        found = self._blobs.read(CONTAINER, f"{self._prefix}/{key}")
        if found is None:
            raise ObjectMissing(key)
        return found

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what is there."""
        self._blobs.write(CONTAINER, f"{self._prefix}/{key}", data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; True when it is ours."""
        headers = {"x-ms-blob-type": "BlockBlob", "if-none-match": "*"}
        answer = self._blobs.ask("PUT", self._path(key), body=data, headers=headers)
        if answer.status not in (201, 409):
            raise StoreUnavailable(f"{key}: {answer.status} {answer.body[:200]!r}")
        return answer.status == 201 or self.get(key) == data

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object, or None."""
        answer = self._blobs.ask("HEAD", self._path(key))
        if answer.status != 200:
            return None
        stamp = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
        return ObjectInfo(key, int(answer.headers["Content-Length"]), stamp)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, sorted by key."""
        query = f"restype=container&comp=list&prefix={self._prefix}/{prefix}"
        text = self._blobs.ask("GET", f"/{CONTAINER}", query).body.decode()
        for name, stamp, size in _BLOB.findall(text):
            when = parsedate_to_datetime(stamp).timestamp()
            yield ObjectInfo(name.removeprefix(f"{self._prefix}/"), int(size), when)

    def delete(self, key: str) -> None:
        """Remove an object; missing is success."""
        self._blobs.ask("DELETE", self._path(key))

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file."""
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        """Read an object into a file."""
        path.write_bytes(self.get(key))

    def now(self) -> float:
        """The clock that stamps the objects."""
        return time.time()


class Player(Worker):
    """One job, on the nodes that it has now.

    Args:
        cloud: The emulator.
        job: The job.
    """

    def __init__(self, cloud: PlayedAzure, job: Job) -> None:
        variables = job.properties["environmentVariables"]
        store = BlobsInside(cloud, variables[STORE])
        order = Order.from_bytes(store.get(variables[ORDER_KEY]))
        super().__init__(order, self._work_of, f"{order.lease_id}-{job.name}-{job.times}")
        self.mailbox = Mailbox(store, order.experiment)
        self._cloud, self._job, self._times = cloud, job, job.times
        self._run_name = str(variables[TICKET]).rpartition(".")[0]

    @property
    def up(self) -> bool:
        """False once its node is taken away or its job is over: it writes nothing more."""
        job = self._job
        if job.times != self._times or job.status != "Running" or job.ending:
            self.die()
        return not self.dead

    def say(self, state: str, message: str = "") -> None:
        """Its word in the mailbox, under the name that Azure knows it by."""
        told = {"state": state, "message": message, "host": self._job.name}
        times = {"written_at": SYSTEM.now(), "ready_at": SYSTEM.now()}
        tell_worker(self.mailbox, self.worker, self.order.lease_id, **told, **times)

    def run(self) -> None:
        """Do the tickets of its run; then the job is over."""
        self._bury()
        self.say("ready")
        while self.up:
            states = ticket_states(self.mailbox).values()
            mine = [state for state in states if state.ticket.run == self._run_name]
            claimable = [state for state in mine if state.claimable is not None]
            if claimable:
                attempt = claimable[0].claimable
                assert attempt is not None
                self.one(claimable[0].ticket, attempt)
            elif not any(state.status is Status.RUNNING for state in mine):
                break
            else:
                SYSTEM.wait(self.end, POLL_S)
        with self._cloud.world.lock:
            if self.up:
                self._cloud.world.nodes.finish(self._job, 0)

    def _work_of(self, _: Worker, ticket: TicketRecord, attempt: int) -> str:
        if ticket.phase is Phase.TRAIN:
            SYSTEM.wait(self.end, TRAIN_S)
        self.say("ready")
        if not self.up:
            return ""
        return good_work(self, ticket, attempt)

    def _bury(self) -> None:
        """What this job held on the node that it had before."""
        before = f"{self.order.lease_id}-{self._job.name}-"
        for name, state in ticket_states(self.mailbox).items():
            if state.status is not Status.RUNNING or state.attempt is None:
                continue
            claim = self.mailbox.read_claim(name, state.attempt)
            if claim is None or not claim.worker.startswith(before):
                continue
            accepted = self.mailbox.accepted(state.ticket.run, state.ticket.phase)
            if accepted is not None and accepted.attempt == claim.attempt:
                ending = endings.succeeded(claim, SYSTEM, "", accepted.status)
            else:
                ending = endings.failed(claim, SYSTEM, Cause.PREEMPTION, "its node went", hint="")
            self.mailbox.end(ending)


class PlayedAzure(Azure):
    """Azure whose jobs are played once it was asked to ``play``."""

    def _verbs(self) -> dict[str, Any]:
        return {**super()._verbs(), "play": self._play}

    def _play(self, asked: dict[str, Any]) -> None:
        """Play every job that begins.

        Args:
            asked: ``cut``: share of those that lose their node; ``seed`` of the chance in that.
        """
        dice, cut = random.Random(asked["seed"]), float(asked["cut"])

        def begin(job: Job) -> None:
            threading.Thread(target=lambda: Player(self, job).run(), daemon=True).start()
            if dice.random() < cut:
                what, times = dice.choice(("cut", "preempt", "crash")), job.times

                def happen() -> None:
                    if job.times == times and job.status == "Running":
                        self.world.happen(what, job.name)

                self.world.scheduler.after(dice.uniform(0.0, 2 * TRAIN_S), happen)

        os.environ.update(self.env())
        self.world.nodes.started.append(begin)


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop."""
    a = parser(__spec__.name).parse_args(arguments)
    return serve(lambda: PlayedAzure(a.folder, a.speed, a.seed, a.bodies, a.image), a.parent)


if __name__ == "__main__":
    sys.exit(main())
