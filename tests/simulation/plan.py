"""What happens in one schedule: drawn from a seed, printed, and cut down when it fails."""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

EFFECTS = (
    *("die-before", "die-after", "lose-answer", "refuse", "sleep-before", "sleep-after"),
    "ghost-before",
)
"""Faults that hit one request."""
EVENTS = (
    *("kill", "kill", "pause", "close_lid", "outage", "preempt", "preempt", "twin_worker", "jump"),
    *(
        "ghost",
        "crash_loop",
        "clone",
        "second_driver",
        "cancel",
        "add_seed",
        "raise_budget",
        "repeat",
        "freeze",
        "damage",
    ),
)
OF_ONE_EXPERIMENT = ("add_seed", "raise_budget", "damage", "move")
"""What a person does with an experiment that is not a composite."""
DESKS = ("laptop", "office", "clone")
"""Hosts of commands; every other host was rented, and an outage calls it ``machine``."""
PLACES = {
    "driver": (
        *("", "driver/", "experiment.json", "run.json", "queue/", "cancel.json"),
        *("intent.json", "rented.json", "gone.json", "trials/", "study.json", "timings/"),
    ),
    "worker": ("", "claims/", ".ended.json", "workers/"),
    "ticket": ("", "manifest.json", "accepted.json", ".ended.json", "board/", "attempts/"),
    "reaper": ("", "gone.json"),
}
"""Kind of process -> parts of the keys that it writes; an empty one stands for every change."""


@dataclass
class Fault:
    """One thing that goes wrong, or that a person does.

    Attributes:
        kind: One of ``EFFECTS``, or the name of a method of ``events.Events``.
        at: Virtual seconds: when it happens, or from when on it waits for its request.
        who: Kind of process; empty: any.
        where: Part of the request's text.
        nth: It skips that many requests that fit.
        left: It hits that many requests in a row.
        for_s: How long it lasts.
        service: For outages and requests: ``store``, ``cloud``, or empty for both.
    """

    kind: str
    at: float
    who: str = ""
    where: str = ""
    nth: int = 0
    left: int = 1
    for_s: float = 0.0
    service: str = ""

    @property
    def at_effect(self) -> bool:
        """Whether it hits a request."""
        return self.kind in EFFECTS

    def hits(self, world: World, process: Process, service: str, what: str, changes: bool) -> bool:
        """Whether it hits this request. Each request that fits counts."""
        if world.time < self.at or (self.who and process.kind != self.who):
            return False
        if self.service and service != self.service:
            return False
        # A provider's answers are lost to questions too; those of the store are too many.
        if not (changes or service == "cloud") or self.where not in what:
            return False
        if self.nth > 0:
            self.nth -= 1
            return False
        return True

    def __str__(self) -> str:
        default = Fault(self.kind, 0.0)
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in dataclasses.fields(self)
            if f.name != "kind" and getattr(self, f.name) != getattr(default, f.name)
        ]
        return f"{self.kind}({', '.join(shown)})"


@dataclass
class Plan:
    """A schedule.

    Attributes:
        seed: Of everything in it that is drawn later: latencies, tokens.
        backend: Where machines are rented.
        seeds: Runs of the experiment; trials of a study have two.
        workers: ``resources.workers``.
        duration_s: How long a training lasts.
        pace_s: Pace of the store.
        latency_s: Usual time of a request.
        study: Whether it is a study, of this many trials; 0: it is not.
        chooser: Who chooses its trials.
        given: Sections of the study's file: ``study``, ``mock``, ``tunables``, ``seeds``.
        slots: Runs at once on a machine of ``sim``.
        hosts: Whether its trainings invite hosts of copies, which free slots run.
        places: Whether it may rent in a second place too.
        stages: Whether it is a composite: ``first``, ``last`` after it, and ``other`` beside both.
        settings: Settings of the backend.
        physics: How the provider behaves, besides what the plan says elsewhere.
        elsewhere: Whether the experiment also names a place that this machine cannot open.
        listing_lag_s: By how much the provider's listing is late.
        slow_answers: Share of the store's answers that take seconds.
        faults: What goes wrong.
        skews: Host -> how far its clock is ahead, in seconds.
    """

    seed: int
    backend: str = "sim"
    seeds: int = 2
    workers: int = 2
    duration_s: float = 8.0
    pace_s: float = 1.0
    latency_s: float = 0.03
    study: int = 0
    chooser: str = "random"
    given: dict[str, Any] = field(default_factory=dict)
    slots: int = 1
    hosts: bool = False
    places: bool = False
    stages: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    physics: dict[str, Any] = field(default_factory=dict)
    elsewhere: bool = False
    listing_lag_s: float = 4.0
    client_patience_s: float = 6.0
    boot_s: float = 5.0
    max_hours: float = 2.0
    max_cost: float = 20.0
    slow_answers: float = 0.01
    faults: list[Fault] = field(default_factory=list)
    skews: dict[str, float] = field(default_factory=dict)

    def skew(self, host: str) -> float:
        """How far a host's clock is ahead."""
        return self.skews.get(host, 0.0)

    def away(self, service: str, host: str, now: float) -> bool:
        """Whether a service does not answer a host."""
        return any(
            f.kind == "outage"
            and f.at <= now < f.at + f.for_s
            and f.service in ("", service)
            and (f.who in ("", host) or (f.who == "machine" and host not in DESKS))
            for f in self.faults
        )

    def during(self, kind: str, now: float, who: str = "") -> bool:
        """Whether a fault of a kind lasts, of somebody or of everybody."""
        return any(
            f.kind == kind and f.at <= now < f.at + f.for_s and who in ("", f.who)
            for f in self.faults
        )

    def troubles(self, *names: str) -> int:
        """How many machines or requests a provider's own troubles of these names may hit."""
        return sum(f.left for f in self.faults if f.kind == "provider" and f.where in names)

    def machines(self, workers: int) -> int:
        """Machines that some workers need."""
        if self.backend == "azure":
            nodes = int(self.settings.get("instance_count", 1))
            each = nodes * int(self.settings.get("runs_per_machine", 1))
            return math.ceil(workers / each) * nodes
        return math.ceil(workers / int(self.settings.get("workers_per_machine", self.slots)))

    @property
    def quiet_at(self) -> float:
        """When the last fault is over that has a time."""
        return max((f.at + f.for_s for f in self.faults), default=0.0)

    def copy(self, **changes: object) -> Plan:
        """A copy with fresh faults: those of a plan are used up by its schedule."""
        faults = [dataclasses.replace(f) for f in self.faults]
        made: Plan = dataclasses.replace(self, **{"faults": faults, **changes})  # type: ignore[arg-type]
        return made

    def __str__(self) -> str:
        default = Plan(0)
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in dataclasses.fields(self)
            if f.name != "faults" and getattr(self, f.name) != getattr(default, f.name)
        ]
        lines = [f"Plan({', '.join(shown)})", *(f"  {fault}" for fault in self.faults)]
        return "\n".join(lines)


def draw(seed: int, backend: str | None = None) -> Plan:
    """The plan of a seed."""
    from tests.simulation.clouds import draw_cloud
    from tests.simulation.scenes import SCENES
    from tests.simulation.studies import draw_study

    dice = random.Random(f"plan/{seed}")
    plan = Plan(
        seed,
        backend=backend or "sim",
        seeds=dice.choice([1, 2, 2, 3]),
        workers=dice.choice([1, 2, 2]),
        duration_s=dice.choice([2.0, 8.0, 20.0, 60.0]),
        pace_s=dice.choice([0.5, 1.0, 2.0]),
        latency_s=dice.choice([0.01, 0.05, 0.2]),
        study=dice.choice([0, 0, 0, 2, 3]),
        listing_lag_s=dice.choice([0.0, 4.0, 10.0]),
        boot_s=dice.choice([2.0, 10.0, 30.0]),
        max_hours=dice.choice([2.0, 2.0, 2.0, 2.0, 0.05]),
    )
    scene = dice.choice(SCENES) if dice.random() < 0.6 else None
    if scene is not None:
        scene(plan, dice)
    span = 30.0 + plan.boot_s + plan.duration_s * plan.seeds * 2
    for _ in range(dice.choice([1, 2, 3, 4, 6]) if scene is None else dice.choice([0, 0, 1, 2])):
        plan.faults.append(_fault(dice, span))
    if not plan.skews and dice.random() < (0.4 if scene is None else 0.1):
        skewed = dice.choice(["laptop", "office", "vm1", "vm2"])
        plan.skews = {skewed: dice.choice([-3600.0, -40.0, 40.0, 3600.0])}
    if plan.backend == "sim" and scene is None and dice.random() < 0.5:
        plan.slots, plan.hosts = 2, dice.random() < 0.5
        plan.workers, plan.seeds = dice.choice([2, 3, 4]), dice.choice([2, 3, 4])
    draw_cloud(plan, dice)
    if plan.study:
        draw_study(plan, dice)
    if dice.random() < 0.1:
        plan.stages, plan.study, plan.given = True, 0, {}
        if dice.random() < 0.3:
            plan.faults = [Fault("break_stage", 1.0, who="first", for_s=1800.0)]
            plan.settings, plan.physics = {}, {}
            plan.max_hours, plan.max_cost = 2.0, 20.0
        plan.faults = [f for f in plan.faults if f.kind not in OF_ONE_EXPERIMENT]
    plan.faults.sort(key=lambda f: f.at)
    return plan


def _fault(dice: random.Random, span: float) -> Fault:
    at = round(dice.uniform(0.0, span), 2)
    lasts = round(dice.choice([2.0, 20.0, 45.0, 200.0]) * dice.uniform(0.5, 1.5), 1)
    if dice.random() < 0.55:
        kind = dice.choice(EFFECTS)
        who = dice.choice(["driver", "driver", "driver", "worker", "worker", "ticket", "reaper"])
        service = dice.choice(["store", "store", "cloud"]) if who != "ticket" else "store"
        return Fault(
            kind,
            at=at if dice.random() < 0.4 else 0.0,
            who=who,
            where=dice.choice(PLACES[who]) if service == "store" else "",
            nth=dice.choice([0, 0, 0, 1, 2, 5]) if service == "store" else dice.choice([0, 3, 9]),
            left=dice.choice([1, 1, 1, 4, 12]) if kind in ("lose-answer", "refuse") else 1,
            for_s=lasts if kind.startswith(("sleep", "ghost")) else 0.0,
            service=service,
        )
    kind = dice.choice(EVENTS)
    fault = Fault(kind, at=at)
    if kind in ("kill", "pause"):
        fault.who = dice.choice(["driver", "worker", "ticket"])
    if kind in ("pause", "close_lid", "outage", "crash_loop", "freeze", "ghost"):
        fault.for_s = lasts
    if kind == "damage":
        fault.for_s = 600.0
    if kind == "outage":
        fault.service = dice.choice(["store", "store", "cloud", ""])
        fault.who = dice.choice(["", "", "laptop", "vm1"])
    if kind in ("preempt", "twin_worker"):
        fault.nth = dice.choice([0, 1])
    if kind == "jump":
        fault.who = dice.choice(["laptop", "vm1", "vm2"])
        fault.nth = dice.choice([-3600, -60, 60, 3600])
    return fault
