"""What happens at a time: faults of machines, and what a person does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.simulation import programs
from tests.simulation.plan import Fault
from tests.simulation.world import EPOCH

if TYPE_CHECKING:
    from tests.simulation.world import Host, Process, World

_RESULT = re.compile(r"[^/]+/runs/[^/]+/attempts/[^/]+/results\.json\Z")
LASTING = ("outage", "full", "stuck", "absent")
"""What lasts for a while, and is looked up."""
GHOST_S = 45.0
"""How long the programs of a machine that is called gone run on, if the plan does not say."""


class Events:
    """Lets the timed faults of a plan happen.

    Args:
        world: Where.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def schedule(self) -> None:
        """Put them on the agenda."""
        for fault in self._world.plan.faults:
            if not fault.at_effect and fault.kind not in LASTING:
                self._world.at(fault.at, lambda fault=fault: self._happen(fault))

    def _happen(self, fault: Fault) -> None:
        self._world.counts[fault.kind] += 1
        self._world.note("event", str(fault))
        getattr(self, fault.kind)(fault)

    def _target(self, fault: Fault) -> Process | None:
        found = self._world.living(fault.who or "driver")
        return found[fault.nth % len(found)] if found else None

    @staticmethod
    def _hit(vm: Any) -> None:
        for host in vm.hosts:
            host.hit = True

    # -- processes and machines ---------------------------------------------------------------

    def kill(self, fault: Fault) -> None:
        """kill -9."""
        process = self._target(fault)
        if process is not None:
            process.hit = True
            process.die()

    def pause(self, fault: Fault) -> None:
        """SIGSTOP, and SIGCONT later."""
        process = self._target(fault)
        if process is not None:
            process.pause(fault.for_s)

    def close_lid(self, fault: Fault) -> None:
        """The driver's laptop sleeps."""
        self._laptop.sleep(self._world.time, fault.for_s)

    def freeze(self, fault: Fault) -> None:
        """A rented machine stands still for a while, with all that runs on it."""
        working = self._world.living("ticket")
        if working:
            working[fault.nth % len(working)].host.sleep(self._world.time, fault.for_s)

    def jump(self, fault: Fault) -> None:
        """The clock of a machine jumps."""
        host = self._world.hosts.get(fault.who)
        if host is not None:
            host.skew_s += fault.nth

    def preempt(self, fault: Fault) -> None:
        """The provider takes a machine: with notice, or without."""
        vms = [v for v in self._world.cloud.vms if v.gone_at is None and v.booted]
        if vms and fault.nth:
            self._hit(vms[-1])
            self._world.cloud.gone(vms[-1])
        elif vms:
            self._hit(vms[0])
            self._world.cloud.end(vms[0], 25.0)

    def crash_loop(self, fault: Fault) -> None:
        """Tickets crash one after the other, as on a machine with broken memory."""
        for process in self._world.living("ticket"):
            process.hit = True
            process.die()
        if self._world.time < fault.at + fault.for_s:
            self._world.at(self._world.time + 2.0, lambda: self.crash_loop(fault))

    def break_stage(self, fault: Fault) -> None:
        """What a stage works on crashes each time."""
        for process in self._world.living("ticket"):
            if process.mark in self._world.leases_of(f"toy.{fault.who}"):
                process.hit = True
                process.die()
        if self._world.time < fault.at + fault.for_s:
            self._world.at(self._world.time + 2.0, lambda: self.break_stage(fault))

    def clone(self, fault: Fault) -> None:
        """The command in a container that has the host's name, and pids of its own."""
        from tests.simulation.world import Host

        hosts = self._world.hosts
        if "clone" not in hosts:
            hosts["clone"] = Host("laptop", "boot-clone")
        programs.run_command(self._world, "clone")

    def ghost(self, fault: Fault) -> None:
        """The provider calls a machine gone whose programs run on for a while."""
        vms = [v for v in self._world.cloud.vms if v.gone_at is None and v.booted]
        if vms:
            self._hit(vms[0])
            self._world.cloud.gone(vms[0], fault.for_s or GHOST_S)

    def twin_worker(self, fault: Fault) -> None:
        """A second worker on one machine, as a supervisor that restarts it too early makes it."""
        vms = [v for v in self._world.cloud.vms if v.gone_at is None and v.booted]
        if vms:
            vm = vms[fault.nth % len(vms)]
            self._hit(vm)  # the second one ends the machine once it is idle
            self._world.cloud.run_program(vm)

    def provider(self, fault: Fault) -> None:
        """Something at the provider is wrong for a while; see ``trouble`` of each cloud."""
        trouble = self._world.cloud.trouble
        trouble(fault, True)
        self._world.at(fault.at + fault.for_s, lambda: trouble(fault, False))

    def break_trial(self, fault: Fault) -> None:
        """The runs of one trial crash each time."""
        for process in self._world.living("ticket"):
            if process.attempt is not None and process.attempt[0].startswith(fault.where):
                process.hit = True
                process.die()
        if self._world.time < fault.at + fault.for_s:
            self._world.at(self._world.time + 1.0, lambda: self.break_trial(fault))

    # -- a person -----------------------------------------------------------------------------

    def cancel(self, fault: Fault) -> None:
        """``drillyard cancel``."""
        programs.cancel_command(self._world, "office")

    def repeat(self, fault: Fault) -> None:
        """The command again, on the same machine."""
        programs.run_command(self._world, "laptop")

    def protect(self, fault: Fault) -> None:
        """``drillyard protect`` for the newest lease."""
        programs.protect_command(self._world, "office", fault.for_s)

    def second_driver(self, fault: Fault) -> None:
        """The command on another machine."""
        programs.run_command(self._world, "office")

    def add_seed(self, fault: Fault) -> None:
        """One more seed or trial in the file, and the command again."""
        if self._world.plan.study:
            self._world.wish.trials += 1
        else:
            self._world.wish.seeds += 1
        programs.run_command(self._world, "laptop")

    def damage(self, fault: Fault) -> None:
        """A file of a result is damaged once all is done, and the command comes again."""
        world = self._world
        commands = [p for p in world.processes if p.kind == "driver"]
        done = str(commands[-1].result).startswith("succeeded") and not commands[-1].alive
        files = [key for key in world.objects.data if _RESULT.match(key)]
        if done and files:
            key = files[fault.nth % len(files)]
            world.objects.put(key, b"damaged", EPOCH + world.time)
            world.damaged.add(key.split("/")[2])
            programs.run_command(world, "laptop")
        elif world.time < fault.at + fault.for_s:
            world.at(world.time + 20.0, lambda: self.damage(fault))

    def raise_budget(self, fault: Fault) -> None:
        """A larger budget in the file, and the command again."""
        self._world.wish.max_cost *= 2
        self._world.wish.max_hours *= 2
        programs.run_command(self._world, "laptop")

    def move(self, fault: Fault) -> None:
        """Another place in the file, and the command again."""
        self._world.wish.backend = "dear" if self._world.wish.backend == "sim" else "sim"
        programs.run_command(self._world, "laptop")

    @property
    def _laptop(self) -> Host:
        return self._world.host("laptop")
