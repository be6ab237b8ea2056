"""What a fault may cost: attempts that are lost, and machines that are rented again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drillyard.mailbox.records import Accepted, Claim, Ending
from drillyard.mailbox.status import Cause
from tests.simulation.world import EPOCH

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

WAITED_S = 60.0
"""How long the work waits for a store, as it is meant (``drillyard.mailbox.patience``)."""
APART_S = 6.0
"""How long it waits between two tries at most: shorter gaps between outages may be missed."""
ACTS = {"cancel", "repeat", "add_seed", "raise_budget", "second_driver", "clone", "damage", "move"}
"""What a person does: the next command may rent again."""
_RUN = re.compile(r"[^/]+/runs/[^/]+/run\.json\Z")
_TICKET = re.compile(r"[^/]+/queue/.+\.json\Z")


class Losses:
    """Judges what is lost in one world.

    Args:
        world: Where.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._claimed: dict[tuple[str, int], tuple[Process, float]] = {}
        """Ticket and attempt -> the worker that took it, and when."""
        self._closed: dict[tuple[str, int], tuple[Ending, float]] = {}

    def claimed(self, claim: Claim, worker: Process) -> str | None:
        """A worker took an attempt; what is wrong, or None: what is accepted is not done again."""
        run, phase = claim.ticket.rsplit(".", 1)
        done = f"toy/runs/{run}/{phase}.accepted.json" in self._world.objects.data
        if done and run not in self._world.damaged:
            return f"{claim.ticket} was claimed again after its result was accepted"
        self._claimed.setdefault((claim.ticket, claim.attempt), (worker, self._world.time))
        return None

    def ended(self, ending: Ending) -> str | None:
        """An attempt ends as infrastructure only if something hit it; what is wrong, or None."""
        attempt = ending.ticket, ending.attempt
        self._closed.setdefault(attempt, (ending, self._world.time))
        if ending.cause is not Cause.INFRASTRUCTURE or attempt not in self._claimed:
            return None
        worker, at = self._claimed[attempt]
        its = [worker, *(p for p in self._world.processes if p.attempt == attempt)]
        if any(p.hit or p.host.hit or p.refused > 1 for p in its):
            return None
        # While it stood still, the lease's limit may have ended its machine.
        if any(max(p.host.held_at, p.paused_until) > at for p in its):
            return None
        if self._away_s(worker.host.name, at) > WAITED_S or self._given_back(worker):
            return None
        # The lease's limit ended its machine, which could not say so.
        cut_at, host = worker.host.cut_at, worker.host.name
        if cut_at is not None and self._world.plan.away("store", host, cut_at):
            return None
        return f"attempt {ending.attempt} of {ending.ticket} was lost to nothing: {ending.message}"

    def accepted(self, accepted: Accepted, looked_at: float) -> str | None:
        """No attempt hands in that had been closed when it looked last; what is wrong, or None.

        Args:
            accepted: What is accepted.
            looked_at: When the request was answered that its writer made before. The product reads
                the ending just before, so that only an ending that comes later is not seen.
        """
        attempt = f"{accepted.run}.{accepted.phase.value}", accepted.attempt
        ending, at = self._closed.get(attempt, (None, 0.0))
        if ending is None or ending.cause is None or at >= looked_at:
            return None
        return f"attempt {attempt[1]} of {attempt[0]} handed in after it was closed"

    def rented(self) -> str | None:
        """No more machines than workers, and one for each that was hit; what is wrong, or None."""
        world, plan = self._world, self._world.plan
        width = plan.machines(plan.workers) * (3 if plan.stages else 1)
        if plan.backend == "azure":  # a node for each job, and a job for each run
            width = sum(bool(_RUN.match(key)) for key in world.objects.data)
            width *= int(plan.settings.get("instance_count", 1))
        # A command that ended gave its machines back: what is left to do needs others.
        commands = [p for p in world.processes if p.kind == "driver"]
        # A lease whose place has no room for what it lost is replaced by one in another place.
        again = sum(f.kind in (*ACTS, "full", "provider") for f in plan.faults)
        again += sum(not str(p.result).startswith("succeeded") for p in commands if p.result)
        spent = {p.host.boot for p in world.processes if p.kind == "worker" and self._spent(p)}
        spent |= {h.boot for v in world.cloud.vms for h in v.hosts if h.hit}
        rented = len(world.cloud.vms)
        lost = plan.troubles("words", "silent", "stuck", "unready")
        if rented <= width * (1 + again) + len(spent) + lost:
            return None
        return f"{rented} machines were rented, for {width} workers and {len(spent)} that were hit"

    def _spent(self, worker: Process) -> bool:
        """Whether another machine may be rented in place of the one of a worker."""
        world = self._world
        if worker.hit or worker.host.hit:
            return True
        if self._away_s(worker.host.name, worker.started) > WAITED_S:
            return True
        # It ended because it had nothing to do. A study posted more work after its last look, or a
        # machine did the work that its provider had called gone, and that may be lost at any time.
        at = world.time if worker.ended_at is None else worker.ended_at
        return any(
            _TICKET.match(key) and stamp > EPOCH + at - APART_S
            for key, (_, stamp) in world.objects.data.items()
        ) or any(
            p.kind == "ticket"
            and p.host.cut_at is not None
            and p.host.cut_at < min(at, p.ended_at or at)
            and worker.started < (p.ended_at or at)
            for p in world.processes
        )

    def _away_s(self, host: str, since: float) -> float:
        """The longest outage of the store for a host since a time; one may soon follow another."""
        plan, now = self._world.plan, self._world.time
        spans = sorted(
            (f.at, min(now, f.at + f.for_s))
            for f in plan.faults
            if f.kind == "outage" and f.at <= now and f.at + f.for_s > since
            if plan.away("store", host, max(f.at, 0.0)) and f.service in ("", "store")
        )
        longest = 0.0
        begin = end = float("-inf")
        for first, last in spans:
            begin, end = (begin, max(end, last)) if first <= end + APART_S else (first, last)
            longest = max(longest, end - begin)
        return longest

    def _given_back(self, worker: Process) -> bool:
        """Whether the lease of a worker is over or being ended."""
        records = (f"toy/leases/{worker.mark}/{name}.json" for name in ("gone", "ending"))
        return any(key in self._world.objects.data for key in records)
