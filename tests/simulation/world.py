"""The world of one schedule: virtual time, simulated processes, and what interrupts them.

A *fiber* is a thread of a simulated process: a greenlet. Fibers run until they wait. An *effect*
is one request to a service: it takes time, happens at once at the end of it, and a fault may hit
it before or after it happened. A process that dies is never resumed: as after ``kill -9``, none of
its cleaning up runs.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import greenlet

if TYPE_CHECKING:
    from tests.simulation.plan import Fault, Plan

T = TypeVar("T")
EPOCH = 1_900_000_000.0
"""Virtual epoch seconds at which each schedule begins."""


class Died(greenlet.GreenletExit):
    """Raised in a fiber whose process is dead or whose world has ended."""


class Stuck(AssertionError):
    """The schedule made too many steps."""


@dataclass
class Host:
    """A machine: its clock, its boot, its processes, its disk.

    Attributes:
        name: What ``platform.node()`` answers.
        boot: What ``boot_id()`` answers.
        skew_s: How far its wall clock is ahead.
        processes: Living processes by pid.
        cut_at: When it was deleted; its programs may run on for a while.
        asleep_until: Virtual time at which a closed lid opens again.
        outlives_s: How long its programs run on after the provider has called it gone.
    """

    name: str
    boot: str
    skew_s: float = 0.0
    processes: dict[int, Process] = field(default_factory=dict)
    cut_at: float | None = None
    outlives_s: float = 0.0
    hit: bool = False
    """Whether a fault took it away, or put a second worker on it."""
    asleep_until: float = 0.0
    held_at: float = -1e9
    """When something last held it up."""
    slept_s: float = 0.0
    """How long its lid was closed in all: CLOCK_MONOTONIC of Linux does not count it."""

    def sleep(self, now: float, seconds: float) -> None:
        """Close the lid; it opens again after this time."""
        until = max(self.asleep_until, now + seconds)
        self.slept_s += until - max(now, self.asleep_until)
        self.asleep_until = self.held_at = until


class Process:
    """A simulated process.

    Attributes:
        kind: ``driver``, ``worker``, ``ticket``, ``reaper`` or ``person``.
        mark: The lease that it belongs to, as the environment of a real process says.
        result: What its main function returned.
    """

    def __init__(self, world: World, host: Host, kind: str, mark: str = "") -> None:
        self.world, self.host, self.kind, self.mark = world, host, kind, mark
        self.pid = next(world.pids)
        self.started = world.time
        self.alive = True
        self.result: object = None
        self.error: BaseException | None = None
        self.paused_until = 0.0
        self.held_at = -1e9
        self.parent: Process | None = None
        self.attempt: tuple[str, int] | None = None
        """Ticket and number, of a ticket's process."""
        self.on_term: Callable[[], None] | None = None
        self.on_death: list[Callable[[], None]] = []
        self.effects = 0
        self.ended_at: float | None = None
        self.hit = False
        """Whether a fault ended it."""
        self.refused = 0
        """Requests of it that failed."""
        self.held_s = 0.0
        """For how long it was held up: suspended, or without an answer, besides its host."""
        host.processes[self.pid] = self
        world.processes.append(self)

    @property
    def name(self) -> str:
        """For the trace."""
        return f"{self.kind}{self.pid}"

    def pause(self, seconds: float) -> None:
        """As after SIGSTOP, and SIGCONT later."""
        self.held_s += seconds
        self.paused_until = self.held_at = max(self.paused_until, self.world.time + seconds)

    def end(self, how: str) -> None:
        """It no longer exists."""
        self.alive, self.ended_at = False, self.world.time
        self.host.processes.pop(self.pid, None)
        self.world.note(self.name, how)
        for tell in self.on_death:
            tell()

    def die(self) -> None:
        """As after SIGKILL."""
        if not self.alive:
            return
        self.end("dies")
        current = self.world.current
        if current is not None and current.process is self:
            self.world.hub.switch()  # never resumed
            raise Died


class Fiber(greenlet.greenlet):
    """A thread of a simulated process."""

    def __init__(self, process: Process, body: Callable[[], object], main: bool = False) -> None:
        super().__init__(self._run, process.world.hub)
        self.process, self.body, self.main = process, body, main
        self.looked_at = 0.0
        """When its last request was answered."""
        self.turn = 0
        """Counts its waits, so that an old entry of the agenda does not wake it."""
        self.over = False
        self.joiners: list[Fiber] = []

    def _run(self) -> None:
        process, world = self.process, self.process.world
        try:
            result = self.body()
            if self.main:
                process.result = result
        except greenlet.GreenletExit:
            return
        except SystemExit as left:
            process.result = left.code
        except BaseException as error:
            if world.closed:
                return
            process.error = error
            if not self.main:
                world.broken(process, error)
        self.over = True
        for other in self.joiners:
            world.wake(other)
        if self.main and process.alive:
            process.end(f"ends {process.result!r} {process.error or ''}")


class World:
    """One schedule at work.

    Args:
        plan: What happens, besides the product's own doing.
    """

    def __init__(self, plan: Plan, verbose: bool = False) -> None:
        self.plan = plan
        self.random = random.Random(f"world/{plan.seed}")
        self.tokens = random.Random(f"tokens/{plan.seed}")
        self.time = 0.0
        self.hub = greenlet.getcurrent()
        self.current: Fiber | None = None
        self.pids = itertools.count(100)
        self.processes: list[Process] = []
        self.hosts: dict[str, Host] = {}
        self.steps = 0
        self.closed = False
        self.trace: list[str] = []
        self.verbose = verbose
        self.counts: Counter[str] = Counter()
        self.effect_log: Counter[tuple[str, str]] = Counter()
        self._agenda: list[tuple[float, int, Fiber | None, int, Callable[[], None] | None]] = []
        self._sequence = itertools.count()
        self._fibers: list[Fiber] = []
        self.pending: list[Fault] = [f for f in plan.faults if f.at_effect]
        self.after_change: Callable[[str], None] = lambda key: None
        self.before_cloud_change: Callable[[Process, str], None] = lambda process, what: None
        self.trouble: list[str] = []

    # -- hosts and processes ------------------------------------------------------------------

    def host(self, name: str) -> Host:
        """The machine of a name; new unless there is one."""
        if name not in self.hosts:
            boot = f"boot-{len(self.hosts) + 1}"
            self.hosts[name] = Host(name, boot, self.plan.skew(name))
        return self.hosts[name]

    def spawn(
        self, host: Host, kind: str, body: Callable[[Process], object], mark: str = ""
    ) -> Process:
        """Start a process."""
        process = Process(self, host, kind, mark)
        self.note(process.name, f"starts on {host.name}")
        self.thread(process, lambda: body(process), main=True)
        return process

    def thread(self, process: Process, body: Callable[[], object], main: bool = False) -> Fiber:
        """Start a thread of a process."""
        fiber = Fiber(process, body, main)
        self._fibers.append(fiber)
        self._push(self.time, fiber)
        return fiber

    def leases_of(self, experiment: str) -> set[str]:
        """The leases that its ledger has."""
        prefix = f"{experiment}/leases/"
        return {key.split("/")[2] for key in self.objects.under(prefix)}

    def living(self, kind: str) -> list[Process]:
        """Living processes of a kind, oldest first."""
        return [p for p in self.processes if p.alive and p.kind == kind]

    def broken(self, process: Process, error: BaseException) -> None:
        """A thread of the product raised, which it never may."""
        import traceback

        lines = "".join(traceback.format_exception(error))
        self.trouble.append(f"a thread of {process.name} raised {error!r}\n{lines}")

    # -- time ---------------------------------------------------------------------------------

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._agenda, (when, next(self._sequence), None, 0, call))

    def sleep(self, seconds: float) -> None:
        """Let time pass for the present fiber."""
        fiber = self.current
        assert fiber is not None, "only a simulated process waits"
        if self.closed or not fiber.process.alive:
            raise Died
        fiber.turn += 1
        self._push(self.time + max(0.0, seconds), fiber)
        self.hub.switch()
        if self.closed or not fiber.process.alive:
            raise Died

    def wake(self, fiber: Fiber) -> None:
        """Resume a waiting fiber now."""
        fiber.turn += 1
        self._push(self.time, fiber)

    def _push(self, when: float, fiber: Fiber) -> None:
        heapq.heappush(self._agenda, (when, next(self._sequence), fiber, fiber.turn, None))

    def run(self, until: Callable[[], bool], latest: float, most_steps: int = 400_000) -> None:
        """Go on until a condition holds, or a time has come."""
        while self._agenda and not self.trouble:
            when, _, fiber, turn, call = heapq.heappop(self._agenda)
            if when > latest:
                heapq.heappush(self._agenda, (when, next(self._sequence), fiber, turn, call))
                self.time = latest
                return
            if call is not None:
                self.time = max(self.time, when)
                call()
                if until():
                    return
                continue
            assert fiber is not None
            process = fiber.process
            if fiber.turn != turn or fiber.dead or not process.alive:
                continue
            held = max(process.paused_until, process.host.asleep_until)
            if held > when:
                self._push(held + 0.001, fiber)
                continue
            self.time = max(self.time, when)
            self.steps += 1
            if self.steps > most_steps:
                raise Stuck(f"{most_steps} steps at {self.time:.0f} s")
            self.current = fiber
            fiber.switch()
            self.current = None
            if fiber.main and fiber.dead and until():
                return

    def close(self) -> None:
        """End all fibers."""
        self.closed = True
        for fiber in self._fibers:
            if fiber and not fiber.dead:
                try:
                    self.current = fiber
                    fiber.throw(Died)
                except BaseException:
                    pass
                self.current = None
        self._fibers.clear()

    # -- effects ------------------------------------------------------------------------------

    def effect(
        self,
        service: str,
        what: str,
        happen: Callable[[], T],
        *,
        latency_s: float,
        changes: bool,
        fail: Callable[[str], Exception],
    ) -> T:
        """Do one request to a service.

        Args:
            service: ``store``, or a provider's name.
            what: Verb and object, for faults and for the trace.
            happen: What it does there, in one moment.
            latency_s: How long it takes.
            changes: Whether it changes anything there.
            fail: Makes the error that a client raises when the request fails.
        """
        fiber = self.current
        assert fiber is not None, f"{what} outside of any process"
        process = fiber.process
        self.sleep(latency_s)
        process.effects += 1
        kind = fault = None
        for fault in self.pending:
            if fault.hits(self, process, service, what, changes):
                kind = fault.kind
                break
        if kind is not None and fault is not None:
            fault.left -= 1
            if fault.left <= 0:
                self.pending.remove(fault)
            self.counts[kind] += 1
            self.note(process.name, f"{kind} at {what}")
            process.hit |= kind.startswith("die-")
            if kind == "die-before":
                process.die()
            elif kind == "ghost-before":
                process.host.hit = True
                for vm in [v for v in self.cloud.vms if process.host in v.hosts]:
                    self.cloud.gone(vm, fault.for_s)
            elif kind == "sleep-before":
                process.pause(fault.for_s)
                self.sleep(0.0)
            elif kind == "refuse":
                process.held_at = self.time
                process.refused += 1
                raise fail("503")
        elif self.plan.away(service, process.host.name, self.time):
            self.sleep(self.plan.client_patience_s)
            if self.plan.away(service, process.host.name, self.time):
                self.counts["away"] += 1
                process.held_at = self.time
                process.held_s += self.plan.client_patience_s
                raise fail("away")
        if changes and service == "cloud":
            self.before_cloud_change(process, what)
        result = happen()
        fiber.looked_at = self.time
        if self.verbose and (changes or service == "cloud"):
            self.note(process.name, what)
        if kind == "die-after":
            process.die()
        elif kind == "lose-answer":
            process.held_at = self.time
            process.refused += 1
            raise fail("no answer")
        elif kind == "sleep-after" and fault is not None:
            process.pause(fault.for_s)
            self.sleep(0.0)
        return result

    def cut(self, host: Host) -> None:
        """The power of a machine is off, or will be after a while."""

        def off() -> None:
            for process in list(host.processes.values()):
                process.die()

        host.cut_at = self.time
        if host.outlives_s:
            self.at(self.time + host.outlives_s, off)
        else:
            off()

    def note(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.time:9.2f} {who:>12} {what}")
