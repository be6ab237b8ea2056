"""The study of one schedule: a chooser, and what belongs to it, drawn from dice; and its end."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drillyard.mailbox.records import MoreSeeds, StudyState, TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.study import MODELS, POPULATION
from drillyard.studies.factory import make_chooser
from tests.simulation.plan import Fault, Plan
from tests.simulation.scenes import SETUP_S

if TYPE_CHECKING:
    from tests.simulation.world import World

TUNABLES: dict[str, dict[str, Any]] = {
    "x": {"type": "float", "range": [0.0, 1.0], "default": 0.5},
    "rate": {"type": "float", "range": [1e-4, 1.0], "default": 0.01, "log": True},
    "n": {"type": "int", "range": [1, 9], "default": 2},
    "kind": {"type": "categorical", "values": ["a", "b", "c"], "default": "b"},
    "part": {"type": "float", "range": [0.0, 1.0], "default": 0.25, "bins": 5},
    "off": {"type": "float", "range": [0.1, 1.0], "default": 0.5, "special": [-1]},
}
ONLY_LISTED = ("list", "one-shot", POPULATION)
"""Choosers whose files say no number of trials here."""
LEARNS = 12
"""Trials after which a model chooses."""


def draw_study(plan: Plan, dice: random.Random) -> None:
    """Draw the chooser of a plan with a study, and what else its file says."""
    choosers = ["random", "grid", "manual", "list", "one-shot", POPULATION, *MODELS]
    choosers.remove("gp")  # it imports torch
    chooser = plan.chooser = dice.choice(choosers)
    names = ["x", *dice.sample([*TUNABLES][1:], dice.choice([0, 1, 3]))]
    objective = {"metric": "evaluate/score", "direction": dice.choice(["min", "max"])}
    study: dict[str, Any] = {"objectives": [objective]}
    mock: dict[str, Any] = {"noise": dice.choice([0.0, 0.3])}
    plan.given = {"study": study, "mock": mock, "tunables": names}
    if chooser in MODELS and dice.random() < 0.6:
        plan.study = LEARNS
        plan.seeds, plan.duration_s = 1, 2.0
        at = round(SETUP_S + plan.boot_s + dice.uniform(10.0, 120.0), 1)
        # Another process has no memory of the model, or that of the one before.
        slept = Fault("close_lid", at, for_s=150.0)
        plan.faults += dice.choice(
            [[], [Fault("kill", at, who="driver")], [slept, Fault("second_driver", at + 70.0)]]
        )
        plan.given["storage"] = dice.random() < 0.3
    elif chooser == "manual":
        study["cycles"] = [{"x": 0.25}, {"x": 0.75}]
    elif chooser == "grid" and dice.random() < 0.5:
        study["grid"] = {name: TUNABLES[name].get("values", 2) for name in names[:2]}
    elif chooser in ("list", "one-shot"):
        plan.study = 1 if chooser == "one-shot" else plan.study
        if chooser == "list":
            each = [{"label": f"e{n}", "values": {"x": n / 8}} for n in range(plan.study)]
            study["experiments"] = [{**each[0], "seeds": [7, 8]}, *each[1:]]
            if dice.random() < 0.4:
                study["only"] = dice.choice([[1], ["e1"], ["e1", 1]])
    if chooser == POPULATION:
        members, generations = dice.choice([(2, 2), (3, 2), (2, 3)])
        plan.study = members * generations
        study["population"] = {"members": members, "generations": generations}
    else:
        _judged(plan, dice, study, mock)
    if dice.random() < 0.3:
        study["budget"] = dice.choice(
            [
                {"hours": 0.02},
                {"cost": 0.01},
                {"plateau": {"trials": 1}},
                {"steps": 100, "cost": 1},
            ]
        )
    failing = any(fault.kind == "break_trial" for fault in plan.faults)
    if dice.random() < (0.6 if failing else 0.2):
        study["max_failures"] = 1
    if dice.random() < 0.2 and chooser not in ("list", "manual", "grid"):
        study["constraints"] = ["x < 0.9"]


def _judged(plan: Plan, dice: random.Random, study: dict[str, Any], mock: dict[str, Any]) -> None:
    """What compares trials: a pruner, a second objective, more seeds, a second run."""
    kind = dice.choice(["", "", "pruner", "pruner", "objectives", "curve"])
    if kind in ("pruner", "curve"):
        mock["points"] = 4
    if kind == "pruner":
        study["pruner"] = dice.choice(
            [
                {"type": "median", "startup_trials": 1},
                {"type": "halving", "min_steps": 1, "reduction": 2},
                {"type": "wilcoxon", "p": 0.5},
            ]
        )
    elif kind == "objectives" and plan.chooser != "cma-es":
        mock["metrics"] = ["score", "other"]
        study["objectives"].append({"metric": "evaluate/other", "direction": "max"})
    elif kind == "curve":
        reducer = dice.choice(["min", "mean-of-last", "auc"])
        over = dice.choice(["mean", "median", "iqm"])
        study["objectives"][0].update(metric="score", reducer=reducer, over=over)
    if dice.random() < 0.25 and plan.study < LEARNS:
        plan.given["seeds"], plan.seeds = "auto", 3
        study["auto"] = {"start": 3, "most": 4}
    if dice.random() < 0.6:
        study["confirm"] = dice.choice([0, 1, 2])


def at_the_end(world: World) -> Iterator[str]:
    """What is wrong with a study that its command calls done.

    A trial of a chooser that does not learn follows from its place among the trials, whatever
    happened. Each outcome counts all seeds of its trial once, and the winner had its second run.
    """
    from tests.simulation.programs import NAME, experiment

    data, spec = world.objects.data, experiment(world).spec
    prefix = f"{NAME}/trials/t"
    keys = [key for key in world.objects.under(prefix) if key.count(".") == 1]
    records = [TrialRecord.from_bytes(data[key][0]) for key in keys]
    search = [record for record in records if record.search]
    state = StudyState.from_bytes(data[f"{NAME}/study.json"][0])
    study = spec.study
    assert study is not None
    if study.planned is not None and len(search) > study.planned:
        yield f"{len(search)} trials were chosen, of {study.planned}"
    away = world.counts["away"] or any(p.refused for p in world.processes if p.kind == "driver")
    if state.phase != "over" and not away:
        yield f"the study is done, and its state is {state.phase}"
    taken: list[Any] = []
    for index, record in enumerate(search, start=1):
        if study.chooser in ("random", "grid", "manual", "one-shot"):
            choice = make_chooser(spec, None).ask(index, taken)  # type: ignore[arg-type]
            if choice is None or choice.assignment != record.assignment:
                yield f"trial {record.number} is {record.assignment}, and not {choice}"
        taken.append(record.assignment)
    failed = 0
    for record, key in zip(records, keys, strict=True):
        there = data.get(key.replace(".json", ".outcome.json"))
        if there is None:
            yield f"trial {record.number} has no outcome"
            continue
        outcome = TrialOutcome.from_bytes(there[0])
        failed += outcome.status not in (Status.SUCCEEDED, Status.PRUNED)
        more = data.get(key.replace(".json", ".more.json"))
        seeds = [*record.seeds, *(MoreSeeds.from_bytes(more[0]).seeds if more else ())]
        for name, values in outcome.by_seed.items() if outcome.status is Status.SUCCEEDED else ():
            if sorted(values, key=int) != [str(seed) for seed in sorted(seeds)]:
                yield f"trial {record.number} has seeds {seeds}, and counts {sorted(values)}"
            mean = math.fsum(values.values()) / len(values)
            if study.objectives[0].over == "mean" and abs(mean - outcome.values[name]) > 1e-9:
                yield f"trial {record.number} has {name} {outcome.values[name]}, and not {mean}"
    confirms = study.confirmations(len(spec.seeds)) and not state.stopped and not failed
    if confirms and state.best and not any(record.of == state.best for record in records):
        yield f"trial {state.best} is best, and was not run again"
