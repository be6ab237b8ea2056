"""What must hold while a composite is done in stages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drillyard.leases.ledger import Gone
from drillyard.mailbox.records import PHASES
from drillyard.mailbox.stage_records import StagesState
from tests.simulation.invariants import Invariants
from tests.simulation.losses import ACTS
from tests.simulation.programs import NAME, STAGES

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

SOON_S = 60.0
"""Within this time a stage that waits for nothing begins after another one."""
_KEY = re.compile(rf"{NAME}\.(?P<stage>\w+)/(?P<path>.+)\Z")


class StageInvariants(Invariants):
    """Watches the stages of one world; what each does by itself is judged in other schedules.

    These hold, besides those of results, ledgers and machines:

    - A stage rents machines only when every stage that it names has all its results.
    - A stage that names none begins beside the others, unless something holds its driver up.
    - What a stage gets from another one is written before that, and stays the same.
    - A stage that fails ends only those that name it: they never rent anything.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._began: dict[str, float] = {}
        """Stage -> when it first rented."""

    def after_change(self, key: str) -> None:
        """Look at what just changed."""
        if key.startswith("cloud/"):
            self._rented(key.partition("/")[2])
            return
        there = self._world.objects.data.get(key)
        self._result_stays(key, there[0] if there else None)
        match = _KEY.match(key)
        if match is None or there is None:
            return
        if key.endswith("/gone.json"):
            self._gone(key, Gone.from_bytes(there[0]))
        elif key.endswith("/intent.json"):
            self._in_order(match["stage"])
        elif (
            match["path"].startswith("inputs/")
            and self._records.setdefault(key, there[0]) != there[0]
        ):
            self._broken(f"{key} was handed on twice, and not the same")

    def cloud_change(self, process: Process, what: str) -> None:
        """Which driver may do it is judged where there is one experiment."""

    def _in_order(self, stage: str) -> None:
        keys, runs = self._world.objects.data.keys(), self._runs()
        self._began.setdefault(stage, self._world.time)
        for above in STAGES[stage]:
            results = {
                f"{NAME}.{above}/runs/{run}/{phase}.accepted.json"
                for run in runs
                for phase in PHASES
            }
            if not keys >= results:
                self._broken(f"stage {stage} rents machines, and {above} has not all its results")
        inputs = {f"{NAME}.{stage}/inputs/{run}.json" for run in runs}
        if STAGES[stage] and not keys >= inputs:
            self._broken(f"stage {stage} rents machines, and its inputs are not written")

    def _runs(self) -> list[str]:
        return [f"t0001-s{seed}" for seed in range(1, self._world.plan.seeds + 1)]

    def at_end(self) -> None:
        """Everything is decided, nothing is left, and only what depends on a failure has none."""
        super().at_end()
        drivers = [p for p in self._world.processes if p.kind == "driver"]
        acts = any(fault.kind in ACTS for fault in self._world.plan.faults)
        if not acts and not any(
            p.hit or p.refused or max(p.held_at, p.host.held_at) > 0 for p in drivers
        ):
            free = [self._began[name] for name, above in STAGES.items() if not above]
            if max(free) - min(free) > SOON_S:
                self._broken(f"stages that wait for nothing begin at {free}")
        if any(f.kind == "break_stage" for f in self._world.plan.faults):
            data, _ = self._world.objects.data[f"{NAME}/stages.json"]
            ends = {s.name: s.status for s in StagesState.from_bytes(data).stages}
            if ends != {"first": "failed", "last": "skipped", "other": "succeeded"}:
                self._broken(f"one stage failed, and all of them ended as {ends}")
            if "last" in self._began:
                self._broken("a stage that waits for a failed one rented machines")
