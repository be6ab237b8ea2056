"""What an experiment may cost in machines, time and requests; the figures stand in the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation.programs import STAGES
from tests.simulation.provider import PRICE

if TYPE_CHECKING:
    from tests.simulation.world import Host, Process, World

END_S, END_WORK = 1200.0, 2.0
"""The end comes within so many seconds after the last fault, and so often the work."""
IDLE_S, IDLE_TICKET_S = 180.0, 5.0
"""A machine that nothing hits does nothing for at most so long, and so long for each ticket."""
LATE_S = 300.0
"""So long each machine may live after ``max_cost`` is used up."""
REQUESTS = {
    "driver": (300, 50, 15),
    "worker": (100, 30, 8),
    "ticket": (120, 0, 4),
    "reaper": (200, 0, 10),
    "person": (100, 0, 10),
}
"""Kind of process -> requests at most: of each, for each ticket, and in each second.

Those in each second are of a store with a pace of a second; a driver has them for each stage.
"""
STILL = ("outage", "freeze", "pause", "close_lid")
"""Faults in which machines wait for what comes back."""


def too_much(world: World, quiet_at: float) -> Iterator[str]:
    """What cost more than it may.

    Args:
        world: It has ended.
        quiet_at: When the last fault was over.
    """
    tickets = [p for p in world.processes if p.kind == "ticket"]
    work_s = sum(_end(world, p) - p.started for p in tickets)
    if world.time > quiet_at + END_S + END_WORK * work_s:
        late_s = world.time - quiet_at
        yield f"the end came {late_s:.0f} s after the last fault, with {work_s:.0f} s of work"
    done = Counter(p.host.boot for p in tickets)
    # A machine that hosts copies for others waits for their training.
    machines = [] if world.plan.hosts else world.cloud.vms
    for host in [h for vm in machines for h in vm.hosts if not h.hit]:
        held_s = sum(p.held_s for p in world.processes if p.host is host)
        idle_s, most_s = _idle_s(world, host) - held_s, IDLE_S + IDLE_TICKET_S * done[host.boot]
        if idle_s > most_s:
            yield f"{host.name} did nothing for {idle_s:.0f} s, of {most_s:.0f} s that it may"
    for process in world.processes:
        of_it, each, per_s = REQUESTS.get(process.kind, (0, 0, 0))
        its = done[process.host.boot] if process.kind == "worker" else len(tickets)
        life_s = _end(world, process) - process.started
        per_s *= len(STAGES) if world.plan.stages and process.kind == "driver" else 1
        most = of_it + each * its + per_s * life_s / min(1.0, world.plan.pace_s)
        if process.effects > most:
            yield (
                f"{process.name} made {process.effects} requests in {life_s:.0f} s, with {its} "
                f"tickets"
            )
    if world.plan.backend == "sim" and not world.plan.places:
        lived = [(vm.gone_at or world.time) - vm.born_at for vm in world.cloud.vms]
        bound = world.wish.max_cost + len(lived) * PRICE * LATE_S / 3600.0
        spent = sum(lived) * PRICE / 3600.0
        if spent > bound and not world.counts["stuck"]:
            yield f"machines cost {spent:.3f}, with a max_cost of {world.wish.max_cost}"


def _idle_s(world: World, host: Host) -> float:
    """How long a machine worked on nothing, from its program's start to its end."""
    on_it = [p for p in world.processes if p.host is host]
    workers = [p for p in on_it if p.kind == "worker"]
    if not workers:
        return 0.0
    begin = min(p.started for p in workers)
    ends = min(host.cut_at or world.time, max(_end(world, p) for p in workers))
    spans = [(p.started, _end(world, p)) for p in on_it if p.kind in ("ticket", "host")]
    spans += [(f.at, f.at + f.for_s) for f in world.plan.faults if f.kind in STILL]
    free_s, until = 0.0, begin
    for first, last in sorted(spans):
        free_s += max(0.0, min(first, ends) - until)
        until = max(until, min(last, ends))
    return free_s + max(0.0, ends - until)


def _end(world: World, process: Process) -> float:
    return world.time if process.ended_at is None else process.ended_at
