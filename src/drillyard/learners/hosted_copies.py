"""The hosts of one training: started, waited for, replaced, and what happens when one is lost.

When a host is lost, the training goes back to its last checkpoint in the same process: learner and
copies are made again as in a resumed run, which takes the same steps. Nothing that was written
after that checkpoint stays.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from drillyard.backend.settings.experiment import settings_of
from drillyard.documents.json_types import JsonObject
from drillyard.errors import HostLost, WorkerLost
from drillyard.learners import event_files
from drillyard.leases.ledger import Intent
from drillyard.metrics import streams
from drillyard.registry import load
from drillyard.runs import checkpoints
from drillyard.runs.parallelism import hosts as number_of_hosts
from drillyard.runs.workload import RunContext
from drillyard.simulators.hosts.certificates import Identity
from drillyard.simulators.hosts.listener import HostListener, JoinedHost
from drillyard.simulators.hosts.providers import Hosting, HostProvider
from drillyard.system.processes import MARK

JOINED = "joined"
"""The provider of hosts that others start."""
COMING_S = 600.0
"""Seconds to wait for hosts: their machines may have to start, and to install packages."""
MORE_S = 60.0
"""Seconds without another host after which a training begins with those that are there, if they
can have all copies. Later ones take their share at the next checkpoint."""
REPLACED_S = 5.0
"""The same after a loss: seconds to wait for a replacement."""
LOSSES = 5
"""Losses in a row without a new checkpoint between them, after which this attempt gives up."""
_LOOK_S = 0.5

T = TypeVar("T")


def with_hosts(context: RunContext, train: Callable[[HostSession | None], T]) -> T:
    """Train with the hosts of a run; after the loss of one, again from the last checkpoint.

    Args:
        context: The run.
        train: Trains from the last checkpoint, with the hosts, or None where there are none.

    Raises:
        HostLost: Hosts are lost again and again.
        WorkerLost: Too few hosts joined.
    """
    with session(context) as hosts:
        while True:
            try:
                return train(hosts)
            except HostLost as lost:
                if hosts is None:
                    raise
                hosts.go_back(lost)


@contextlib.contextmanager
def session(context: RunContext) -> Iterator[HostSession | None]:
    """The hosts of a training; None where its copies are beside the learner.

    Args:
        context: The run.
    """
    simulator = context.spec.simulator
    if simulator is None or simulator.copies_on == "learner":
        yield None
        return
    hosts = HostSession(context, number_of_hosts(context.spec))
    try:
        hosts.start()
        yield hosts
    finally:
        hosts.close()


class HostSession:
    """The hosts of one training.

    Args:
        context: The run.
        number: Number of hosts to start; 0: others start them.
    """

    def __init__(self, context: RunContext, number: int) -> None:
        spec = context.spec
        assert spec.simulator is not None and spec.train is not None
        kind = spec.backend.partition("/")[0]
        hosting = Hosting(
            number=number,
            experiment=spec.name,
            run=context.run.run,
            store_url=context.mailbox.store.url,
            scratch=context.scratch,
            settings=_settings(context, kind),
            attempt=context.attempt,
        )
        self._context, self._number, self._copies = context, number, spec.train.n_envs
        self._provider: HostProvider = load("hosts", kind if number else JOINED)(hosting)
        interface, port, self._reached = self._provider.address()
        identity = self._provider.identity() or Identity.new()
        self._listener = HostListener(identity, spec.simulator.id, (interface, port))
        self._losses = self._in_a_row = 0
        self._last_step: int | None = None

    @property
    def went_back(self) -> bool:
        """True once this attempt has gone back to a checkpoint."""
        return self._losses > 0

    def start(self) -> None:
        """Start the hosts, and wait until they have joined.

        Raises:
            WorkerLost: They did not.
            Stopped: A stop was requested meanwhile.
        """
        self._provider.start(self._listener.invitation(self._reached))
        self._wait(MORE_S)
        names = ", ".join(host.name for host in self.present())
        self._context.log.info("%d copies on the hosts %s", self._copies, names)

    def present(self) -> list[JoinedHost]:
        """The hosts that are there now."""
        return self._listener.joined()

    def go_back(self, lost: HostLost) -> None:
        """After the loss of a host: replace it, and delete what its training wrote too much.

        Args:
            lost: The loss.

        Raises:
            HostLost: Hosts are lost again and again.
            WorkerLost: Too few hosts are left, and no other ones come.
        """
        context, run = self._context, self._context.run.run
        there = checkpoints.found(context.mailbox, run)
        step = there[0][0] if there else None
        self._in_a_row = self._in_a_row + 1 if step == self._last_step else 1
        self._last_step = step
        self._losses += 1
        if self._in_a_row > LOSSES:
            raise lost
        context.log.warning("%s; going back to step %d", lost, step or 0)
        offsets = {}
        if there:
            meta = checkpoints.read_meta(context.mailbox, run, there[0][1], there[0][0])
            offsets = meta.stream_offsets
        streams.cut(context.mailbox, run, context.attempt, offsets)
        event_files.forget(context.mailbox, run, context.attempt)
        self._wait(REPLACED_S)

    def summary(self) -> JsonObject:
        """For the result of the training."""
        return {"number": self._number, "lost": self._losses}

    def close(self) -> None:
        """End all hosts."""
        self._listener.close()
        self._provider.close()

    def _wait(self, patience_s: float) -> None:
        """Wait for all hosts; if no more come for some time, continue without them."""
        began = changed = time.monotonic()
        ever = self._listener.ever
        while True:
            self._context.stop.check()
            hosts = self.present()
            if len(hosts) >= self._number and self._enough(hosts):
                return
            now = time.monotonic()
            if self._listener.ever != ever:
                ever, changed = self._listener.ever, now
            waited = now - began
            if now - changed >= patience_s and self._enough(hosts):
                self._context.log.warning(
                    "training with %d of %d hosts of copies", len(hosts), self._number
                )
                return
            if waited >= COMING_S:
                refused = "; ".join(dict.fromkeys(self._listener.refused)) or "no other one came"
                limits = sum(host.most or 0 for host in hosts)
                offer = f" (they offer {limits} copies)" if limits else ""
                raise WorkerLost(
                    f"{len(hosts)} hosts{offer} for {self._copies} copies joined within "
                    f"{COMING_S / 60:.0f} minutes: {refused}",
                    hint="`drillyard logs` shows their output; the machines must reach the "
                    "learner's port through every firewall between them",
                )
            self._provider.tend(self._listener.ever)
            self._listener.wait(_LOOK_S)

    def _enough(self, hosts: list[JoinedHost]) -> bool:
        limits = [host.most for host in hosts]
        return bool(limits) and (
            None in limits or sum(limit or 0 for limit in limits) >= self._copies
        )


def _settings(context: RunContext, kind: str) -> JsonObject:
    """The settings of the lease of this process; a rented machine does not have their origins."""
    lease = os.environ.get(MARK)
    if lease is not None:
        intent = context.mailbox.read(f"leases/{lease}/intent.json", Intent)
        if intent is not None and intent.backend.partition("/")[0] == kind:
            return intent.order.settings
    return settings_of(context.spec, kind)
