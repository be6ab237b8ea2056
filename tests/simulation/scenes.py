"""Combinations of faults that hit one part of the product, and that chance alone draws too rarely.

Each function changes a plan. Times are counted from when the first worker can have begun.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.simulation.plan import Fault, Plan

SETUP_S = 8.0
"""From the command to the request for machines, and from a machine's boot to its first claim."""


def _working(plan: Plan, dice: random.Random, duration_s: tuple[float, ...]) -> float:
    """A moment in the first training; how long it lasts is drawn again."""
    plan.duration_s = dice.choice(duration_s)
    return round(SETUP_S + plan.boot_s + dice.uniform(0.0, 0.8) * plan.duration_s, 2)


def silent_worker(plan: Plan, dice: random.Random) -> None:
    """A worker is not heard of for a while, and goes on."""
    at, for_s = _working(plan, dice, (20.0, 60.0)), dice.uniform(45.0, 200.0)
    kind = dice.choice(["pause", "freeze", "outage"])
    who = {"pause": "worker", "outage": "machine"}.get(kind, "")
    service = "store" if kind == "outage" else ""
    plan.faults.append(Fault(kind, at, who=who, for_s=round(for_s, 1), service=service))


def short_outage(plan: Plan, dice: random.Random) -> None:
    """The store is away in the middle of the work, for less long than the work waits for it."""
    at, who = _working(plan, dice, (20.0, 60.0)), dice.choice(["", "machine"])
    plan.faults.append(Fault("outage", at, who=who, for_s=45.0, service="store"))


def nobody_knows(plan: Plan, dice: random.Random) -> None:
    """The workers are silent, and the provider does not answer the driver."""
    at, for_s = _working(plan, dice, (20.0, 60.0)), round(dice.uniform(60.0, 150.0), 1)
    plan.faults += [
        Fault("outage", at, who="machine", for_s=for_s, service="store"),
        Fault("outage", at, who="laptop", for_s=for_s, service="cloud"),
    ]


def silent_ghost(plan: Plan, dice: random.Random) -> None:
    """A machine that is called gone is cut off, works on, and comes back with a result."""
    _working(plan, dice, (90.0, 120.0))
    at = round(SETUP_S + plan.boot_s + dice.uniform(8.0, 24.0), 2)
    plan.faults += [
        Fault("ghost", at, for_s=300.0),
        Fault("outage", at, who="machine", for_s=dice.choice([25.0, 30.0]), service="store"),
    ]


def cut_off_at_the_end(plan: Plan, dice: random.Random) -> None:
    """The store is away for the machines when a run ends, for longer than the run can wait."""
    at = _working(plan, dice, (8.0, 20.0))
    for_s = round(plan.duration_s + dice.uniform(70.0, 130.0), 1)
    plan.faults.append(Fault("outage", at, who="machine", for_s=for_s, service="store"))


def claimed_by_a_ghost(plan: Plan, dice: random.Random) -> None:
    """A machine is called gone before its worker takes a ticket, and is cut soon after."""
    late_s, nth = round(dice.uniform(1.0, 30.0), 1), dice.choice([0, 1, 1, 3])
    lives_s = round(late_s + dice.uniform(1.0, 10.0), 1)
    plan.faults += [
        Fault("ghost-before", 0.0, who="worker", where="workers/", nth=nth, for_s=lives_s),
        Fault("sleep-before", 0.0, who="worker", where="claims/", for_s=late_s),
    ]


def late_hand_in(plan: Plan, dice: random.Random) -> None:
    """The same, and its process is suspended between its last look and the accepted record."""
    silent_ghost(plan, dice)
    plan.seeds, plan.study, plan.workers, plan.boot_s = 1, 0, 1, 2.0
    plan.backend = "sim"
    # It wakes after the next attempt has handed in, and before its machine is cut.
    for_s = round(dice.uniform(0.8, 1.2) * plan.duration_s, 1)
    plan.faults.append(
        Fault("sleep-before", 0.0, who="ticket", where="train.accepted.json", for_s=for_s)
    )


def machine_taken(plan: Plan, dice: random.Random) -> None:
    """A machine goes in the middle of its work, without notice."""
    at = _working(plan, dice, (8.0, 20.0, 60.0))
    plan.faults += [
        Fault("preempt", round(at + 30.0 * n, 2), nth=1) for n in range(dice.choice([1, 2]))
    ]


def broken_memory(plan: Plan, dice: random.Random) -> None:
    """Trainings crash one after the other."""
    at = _working(plan, dice, (8.0, 20.0))
    plan.faults.append(Fault("crash_loop", at, for_s=dice.choice([30.0, 120.0])))


def cancelled_without_driver(plan: Plan, dice: random.Random) -> None:
    """An order to stop, while the driver is dead or sleeps."""
    plan.seeds, plan.workers, plan.study = 3, 1, 0
    at = _working(plan, dice, (20.0, 60.0))
    gone = dice.choice([Fault("close_lid", at, for_s=400.0), Fault("kill", at, who="driver")])
    plan.faults += [gone, Fault("cancel", at + 1.0)]


def ended_while_renting(plan: Plan, dice: random.Random) -> None:
    """The end is wanted just when new machines exist that no listing shows."""
    plan.listing_lag_s, plan.boot_s = 10.0, dice.choice([10.0, 30.0])
    plan.latency_s = dice.choice([0.01, 0.05])
    rented_s = 75 * plan.latency_s  # about as many requests come before
    plan.faults.append(Fault("cancel", round(rented_s + dice.uniform(0.2, 4.0), 2)))


def two_clocks(plan: Plan, dice: random.Random) -> None:
    """The command on a second machine, whose clock is wrong, while the first one works."""
    at = _working(plan, dice, (20.0, 60.0))
    wrong = [("office", 60.0), ("office", 3600.0), ("office", -3600.0), ("laptop", -3600.0)]
    plan.skews = dict([dice.choice(wrong)])
    plan.faults.append(Fault("second_driver", at))


def cloned(plan: Plan, dice: random.Random) -> None:
    """The command in a container with the host's name, while the first one works."""
    plan.faults.append(Fault("clone", _working(plan, dice, (8.0, 20.0))))


def one_bad_answer(plan: Plan, dice: random.Random) -> None:
    """The provider refuses or loses one request of the driver, and works."""
    kind, nth = dice.choice(["refuse", "lose-answer"]), dice.choice([0, 0, 1, 2, 3, 5, 8, 13])
    plan.faults.append(Fault(kind, 0.0, who="driver", nth=nth, service="cloud"))


def lost_answer_of_a_claim(plan: Plan, dice: random.Random) -> None:
    """A worker does not hear whether it has a ticket, or whether its ending was taken."""
    where, who = dice.choice([("claims/", "worker"), (".ended.json", "ticket")])
    kind, nth = dice.choice(["lose-answer", "lose-answer", "refuse"]), dice.choice([0, 1, 2, 4])
    plan.faults.append(Fault(kind, 0.0, who=who, where=where, nth=nth, service="store"))


def long_sleep(plan: Plan, dice: random.Random) -> None:
    """A laptop is closed for longer than anything takes, or for as long as the work does."""
    if dice.random() < 0.5:
        plan.seeds, plan.workers, plan.study = 3, 1, 0
        at, for_s = _working(plan, dice, (60.0,)), dice.uniform(200.0, 300.0)
    else:
        at, for_s = _working(plan, dice, (2.0, 8.0, 20.0)), dice.uniform(250.0, 900.0)
    plan.faults.append(Fault("close_lid", at, for_s=round(for_s, 1)))


def too_little_time(plan: Plan, dice: random.Random) -> None:
    """The limit comes before the end."""
    plan.max_hours, plan.seeds, plan.duration_s = 0.05, 3, 60.0
    plan.workers = dice.choice([1, 2])


def too_little_money(plan: Plan, dice: random.Random) -> None:
    """``max_cost`` is used up after some minutes; a machine is lost on the way."""
    plan.seeds, plan.workers, plan.study, plan.duration_s = 3, 1, 0, 240.0
    plan.max_cost = round(dice.uniform(0.015, 0.025), 3)
    plan.faults.append(Fault("preempt", round(dice.uniform(40.0, 150.0), 2), nth=1))


def more_wanted(plan: Plan, dice: random.Random) -> None:
    """A seed more and a larger budget, while it works or after a limit ended it."""
    plan.study = 0
    if dice.random() < 0.5:
        too_little_time(plan, dice)
    for kind in ("add_seed", "raise_budget"):
        plan.faults.append(Fault(kind, round(dice.uniform(20.0, 400.0), 2)))


def two_outages(plan: Plan, dice: random.Random) -> None:
    """What the driver asks is away twice."""
    at = _working(plan, dice, (20.0, 60.0))
    for begins in (at, at + dice.uniform(50.0, 120.0)):
        for_s, service = round(dice.uniform(5.0, 45.0), 1), dice.choice(["", "store", "cloud"])
        plan.faults.append(
            Fault("outage", round(begins, 2), who="laptop", for_s=for_s, service=service)
        )


def damaged_result(plan: Plan, dice: random.Random) -> None:
    """A file of a result is damaged after the end."""
    plan.faults.append(Fault("damage", 30.0, nth=dice.choice([0, 1, 2]), for_s=900.0))


def asleep_and_driven_elsewhere(plan: Plan, dice: random.Random) -> None:
    """The command on another machine while the first one sleeps."""
    at = _working(plan, dice, (8.0, 20.0, 60.0))
    slept = Fault("close_lid", round(dice.uniform(1.0, at), 2), for_s=120.0)
    plan.faults += [slept, Fault("second_driver", slept.at + dice.choice([35.0, 60.0, 110.0]))]


def held_up_while_renting(plan: Plan, dice: random.Random) -> None:
    """The same, with the first one held up in the middle of renting or of ending a lease."""
    where = dice.choice(["intent.json", "intent.json", "rented.json", "gone.json", "provision"])
    kind = dice.choice(["sleep-before", "sleep-after"])
    service = "cloud" if where == "provision" else "store"
    if where == "provision":  # the simulated provider's name of it; the real ones' requests
        where = {"gcp": "createInstances", "azure": "computes"}.get(plan.backend, where)
    held = Fault(kind, 0.0, who="driver", where=where, for_s=150.0, service=service)
    plan.faults += [held, Fault("second_driver", dice.choice([40.0, 70.0, 110.0]))]


def full_places(plan: Plan, dice: random.Random) -> None:
    """The cheaper of two places has no room: at once, or for machines that are replaced."""
    plan.places, plan.backend, plan.stages = True, "sim", False
    plan.elsewhere = dice.random() < 0.4
    plan.max_cost = dice.choice([20.0, 20.0, 2.0])
    at, gone = _working(plan, dice, (20.0, 60.0)), dice.choice(["sim", "sim", "dear"])
    begins = dice.choice([0.0, 0.0, at - 5.0])
    plan.faults += [
        Fault("full", begins, who=gone, for_s=dice.choice([30.0, 400.0, 900.0])),
        Fault("preempt", at, nth=1),
    ]
    if dice.random() < 0.3:
        plan.faults.append(Fault("full", begins, who="dear", for_s=dice.choice([20.0, 100.0])))


def moved(plan: Plan, dice: random.Random) -> None:
    """Another place in the file, while machines of the first one work or after a limit."""
    plan.backend, plan.stages, plan.study = "sim", False, 0
    plan.max_hours = dice.choice([2.0, 0.05])
    at = _working(plan, dice, (20.0, 60.0, 240.0))
    killed = dice.choice([[], [Fault("kill", at, who="driver")]])
    plan.faults += [*killed, Fault("move", at + dice.choice([5.0, 100.0, 400.0]))]


def left_behind(plan: Plan, dice: random.Random) -> None:
    """Machines start no program, the driver dies, and nobody looks for an hour."""
    plan.max_hours = 0.05
    stuck = Fault("stuck", 0.0, for_s=dice.choice([100.0, 600.0]))
    if plan.backend == "gcp":
        stuck = Fault("provider", 0.0, where="silent", left=3, for_s=600.0)
    faults = [
        *([] if plan.backend == "azure" else [stuck]),
        Fault("kill", round(dice.uniform(5.0, 150.0), 2), who="driver"),
        Fault("absent", 0.0, for_s=3600.0),
    ]
    if dice.random() < 0.5:
        protected = Fault(
            "protect", dice.uniform(30.0, 1000.0), for_s=dice.choice([100.0, 2000.0])
        )
        faults.append(protected)
    if plan.backend != "azure" and dice.random() < 0.5:
        faults.append(Fault("provider", 600.0, where="undeletable", for_s=1500.0))
    if dice.random() < 0.6:
        service, who = dice.choice(["cloud", "store", "store"]), dice.choice(["", "office"])
        at = dice.choice([600.0, 890.0, 1195.0])
        faults.append(Fault("outage", at, who=who, for_s=600.0, service=service))
    plan.faults += faults


def work_without_driver(plan: Plan, dice: random.Random) -> None:
    """The driver dies, machines work on, one of them is lost, and a reaper looks."""
    plan.seeds, plan.workers, plan.study, plan.duration_s = 3, 2, 0, dice.choice([100.0, 240.0])
    at = round(SETUP_S + plan.boot_s + dice.uniform(5.0, 60.0), 2)
    plan.faults += [
        Fault("kill", at, who="driver"),
        Fault("absent", 0.0, for_s=dice.choice([600.0, 1500.0])),
        Fault(dice.choice(["preempt", "ghost"]), at + dice.uniform(1.0, 60.0), nth=1, for_s=5.0),
    ]


def undeletable(plan: Plan, dice: random.Random) -> None:
    """Nothing ends that is to end, for a while."""
    name = "frozen" if plan.backend == "azure" else "undeletable"
    if plan.backend == "azure" or dice.random() < 0.5:
        plan.faults.append(Fault("cancel", _working(plan, dice, (20.0, 60.0))))
    for_s = dice.choice([60.0, 400.0, 1200.0])
    plan.faults.append(Fault("provider", 0.0, where=name, for_s=for_s))


def failed_trial(plan: Plan, dice: random.Random) -> None:
    """The runs of one trial crash each time."""
    plan.study, plan.backend = dice.choice([2, 3]), "sim"
    plan.max_hours = dice.choice([2.0, 2.0, 0.05])
    plan.faults.append(
        Fault("break_trial", 1.0, where=f"t000{dice.choice([1, 1, 2])}", for_s=900.0)
    )


SCENES: tuple[Callable[[Plan, random.Random], None], ...] = (
    silent_worker,
    short_outage,
    short_outage,
    nobody_knows,
    silent_ghost,
    claimed_by_a_ghost,
    cut_off_at_the_end,
    late_hand_in,
    machine_taken,
    broken_memory,
    cancelled_without_driver,
    ended_while_renting,
    two_clocks,
    cloned,
    one_bad_answer,
    lost_answer_of_a_claim,
    long_sleep,
    too_little_time,
    too_little_money,
    more_wanted,
    more_wanted,
    two_outages,
    two_outages,
    damaged_result,
    asleep_and_driven_elsewhere,
    held_up_while_renting,
    full_places,
    full_places,
    left_behind,
    left_behind,
    left_behind,
    left_behind,
    moved,
    work_without_driver,
    work_without_driver,
    undeletable,
    failed_trial,
    failed_trial,
)
