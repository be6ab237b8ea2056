"""Runs one schedule: the command, the faults, and the time after the last of them."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.simulation import costs, programs
from tests.simulation.events import Events
from tests.simulation.invariants import Invariants
from tests.simulation.plan import Plan
from tests.simulation.provider import SimCloud
from tests.simulation.staged import StageInvariants
from tests.simulation.store import Objects
from tests.simulation.world import Process, Stuck, World

BOUND_S = 4 * 3600.0
"""Within this time after the last fault everything is decided, and nothing is left."""
REPEAT_S = 60.0
"""How often the person looks, and repeats the command if nobody drives."""
REAP_S = 300.0
DECIDED = ("complete", "succeeded", "failed RunFailed", "failed TimedOut", "failed WorkerLost")
"""Results of a command after which a person does not repeat it."""


def cloud_of(world: World) -> Any:
    """The provider of a plan."""
    if world.plan.backend == "gcp":
        from tests.simulation.google import GoogleCloud

        return GoogleCloud(world)
    if world.plan.backend == "azure":
        from tests.simulation.azure import AzureCloud

        return AzureCloud(world)
    return SimCloud(world)


@dataclass
class Wish:
    """What the person wants now."""

    seeds: int
    max_hours: float = 2.0
    max_cost: float = 20.0
    backend: str = "sim"
    trials: int = 0
    """More than the plan says."""


@dataclass
class Result:
    """How a schedule ended.

    Attributes:
        plan: Its plan.
        trouble: What did not hold; empty if all held.
        steps: How many steps it took.
        time: Virtual seconds.
        counts: How often each fault hit.
        trace: What happened.
    """

    plan: Plan
    trouble: list[str]
    steps: int
    time: float
    counts: Counter[str]
    trace: list[str] = field(repr=False)

    @property
    def failed(self) -> bool:
        """Whether something did not hold."""
        return bool(self.trouble)


class Schedule:
    """One schedule.

    Args:
        plan: What happens. It is used up: run a copy.
        verbose: Also note each change.
    """

    def __init__(self, plan: Plan, verbose: bool = False) -> None:
        self.world = world = World(plan, verbose)
        base = "/dev/shm" if Path("/dev/shm").is_dir() else None
        world.folder = Path(tempfile.mkdtemp(prefix="drillyard-simulation-", dir=base))
        world.objects = Objects()
        world.cloud = cloud_of(world)
        world.wish = Wish(plan.seeds, plan.max_hours, plan.max_cost, plan.backend)
        world.damaged = set()
        world.protected = {}
        self._invariants = StageInvariants(world) if plan.stages else Invariants(world)
        world.after_change = self._invariants.after_change
        world.before_cloud_change = self._invariants.cloud_change
        self._commands: list[Process] = []
        self._quiet = plan.quiet_at

    def run(self) -> Result:
        """Run it to its end."""
        world = self.world
        try:
            programs.run_command(world, "laptop")
            Events(world).schedule()
            world.at(REPEAT_S, self._look)
            world.at(REAP_S, self._reap)
            world.run(self._over, self._quiet + BOUND_S)
            if not world.trouble:
                if not self._over():
                    world.trouble.append(self._undecided())
                else:
                    self._invariants.at_end()
                    world.trouble += costs.too_much(world, self._quiet)
        except Stuck as error:
            world.trouble.append(str(error))
        finally:
            world.close()
            shutil.rmtree(world.folder, ignore_errors=True)
        return Result(
            world.plan, world.trouble, world.steps, world.time, world.counts, world.trace
        )

    # -- the person and the clockwork ---------------------------------------------------------

    def _look(self) -> None:
        world = self.world
        if self._over():
            return
        world.at(world.time + REPEAT_S, self._look)
        absent = world.plan.during("absent", world.time)
        if not absent and not world.living("driver") and not self._decided():
            programs.run_command(world, "laptop")

    def _reap(self) -> None:
        world = self.world
        if self._over():
            return
        world.at(world.time + REAP_S, self._reap)
        if not world.living("reaper"):
            programs.reap_command(world)

    def _decided(self) -> bool:
        """Whether the newest command ended with everything decided; a killed one did not."""
        ended = [p for p in self.world.processes if p.kind == "driver" and not p.alive]
        return bool(ended) and str(ended[-1].result).startswith(DECIDED)

    def _over(self) -> bool:
        world = self.world
        if world.time < self._quiet or any(p.alive for p in world.processes):
            return False
        return (
            self._decided()
            and all(v.gone_at is not None for v in world.cloud.vms)
            and self._closed()
        )

    def _closed(self) -> bool:
        data = self.world.objects.data
        intents = [k for k in data if k.endswith("/intent.json")]
        return all(k.replace("intent.json", "gone.json") in data for k in intents)

    def _undecided(self) -> str:
        world = self.world
        living = [f"{p.name} on {p.host.name}" for p in world.processes if p.alive]
        last = [f"{p.name}: {p.result}" for p in world.processes if p.kind == "driver"][-3:]
        return (
            f"not decided {BOUND_S:.0f} s after the last fault: living {living}, "
            f"left {world.cloud.left()}, ledger closed {self._closed()}, last commands {last}"
        )
