"""Writes studies into a store as a driver and its workers would, without running anything."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import (
    Phase,
    RunRecord,
    StudyState,
    TrialOutcome,
    TrialRecord,
)
from drillyard.mailbox.status import Cause, Status
from drillyard.spec import ExperimentSpec
from tests.helpers.records import accepted, claim_of, experiment_record

T0 = 1_772_370_000.0
METRIC, RETURN = "evaluate/score", "evaluate/return"
FIVE = (1, 2, 3, 4, 5)
TUNABLES = {
    "shape": {
        "params": {
            "level": {"type": "float", "range": [0.0, 1.0], "default": 0.5},
            "batch": {"type": "int", "range": [16, 256], "log": True, "default": 64},
            "kind": {
                "type": "categorical",
                "values": ["small", "medium", "large"],
                "default": "medium",
            },
        }
    }
}


def write_search(
    root: Path,
    trials: int,
    *,
    seeds: tuple[int, ...] = (1, 2, 3),
    runs: bool = True,
    two: bool = False,
    name: str = "search",
) -> Mailbox:
    """A search that is over: trial 3 failed, trial 4 was pruned, the winner ran again.

    Args:
        root: The store's folder.
        trials: How many.
        seeds: Of each trial.
        runs: Also what the workers left of each run.
        two: With a second objective, ``evaluate/cost``.
        name: Of the experiment.
    """
    rng = random.Random(0)
    mailbox = Mailbox(FileStore(str(root)), name)
    objectives = [{"metric": METRIC, "direction": "max"}]
    if two:
        objectives.append({"metric": "evaluate/cost", "direction": "min"})
    study = {"chooser": "nsga2" if two else "tpe", "trials": trials, "confirm": 2}
    _experiment(
        mailbox,
        workload="mock",
        mock={"metrics": ["score"]},
        seeds=list(seeds),
        parameters={"tunables": TUNABLES, "tunable_params": ["shape"]},
        study={**study, "objectives": objectives},
    )
    best: tuple[float, int] = (-math.inf, 0)
    for n in range(1, trials + 1):
        chosen = {
            "level": rng.random(),
            "batch": rng.choice([16, 32, 64, 128]),
            "kind": rng.choice(["small", "medium", "large"]),
        }
        status = {3: Status.FAILED, 4: Status.PRUNED}.get(n, Status.SUCCEEDED)
        score = _trial(mailbox, n, seeds, rng, chosen, status, runs=runs, two=two)
        if status is Status.SUCCEEDED:
            best = max(best, (score, n))
    fresh = (max(seeds) + 1, max(seeds) + 2)
    level = {"level": 0.9, "batch": 64, "kind": "large"}
    _trial(mailbox, trials + 1, fresh, rng, level, of=best[1], runs=runs, two=two)
    mailbox.write_study_state(
        StudyState(
            phase="over",
            chosen=trials,
            succeeded=trials - 2,
            failed=1,
            pruned=1,
            best=best[1],
            confirmed=trials + 1,
            budgets={"trials": {"used": trials, "limit": trials}},
            front=[best[1]] if two else [],
        )
    )
    return mailbox


def _experiment(mailbox: Mailbox, **sections: Any) -> None:
    spec = ExperimentSpec.model_validate({"schema": 1, "name": mailbox.experiment, **sections})
    told = {"spec": spec.model_dump(mode="json", by_alias=True), "identity": "3f" * 32}
    command = ["drillyard", "run", "search.yaml"]
    record = experiment_record(spec.name, created_at=T0, command=command, **told)
    mailbox.create("experiment.json", record)


def _trial(
    mailbox: Mailbox,
    number: int,
    seeds: tuple[int, ...],
    rng: random.Random,
    chosen: dict[str, Any] | None = None,
    status: Status = Status.SUCCEEDED,
    *,
    of: int | None = None,
    runs: bool = False,
    two: bool = False,
    parts: dict[str, Any] | None = None,
    label: str = "",
    level: float | None = None,
    metric: str = METRIC,
    spread: float = 3.0,
) -> float:
    began, chosen = T0 + 10 * number, chosen or {}
    mailbox.choose(
        TrialRecord(
            number=number,
            chooser="confirm" if of else "list" if label else "tpe",
            of=of,
            assignment=chosen,
            seeds=list(seeds),
            chosen_at=began,
            label=label,
            parts=parts or {},
        )
    )
    mean = level if level is not None else 100 * (1 - (chosen["level"] - 0.7) ** 2)
    by = {str(s): mean + rng.gauss(0, spread) for s in seeds}
    score = sum(by.values()) / len(by)
    good = status is Status.SUCCEEDED
    values, single = {metric: score}, {metric: by}
    if two:
        price = {s: 10 * chosen["level"] + rng.random() for s in by}
        values["evaluate/cost"] = sum(price.values()) / len(price)
        single["evaluate/cost"] = price
    known = status in (Status.SUCCEEDED, Status.PRUNED)
    mailbox.end_trial(
        TrialOutcome(
            number=number,
            status=status,
            values=values if known else {},
            by_seed=single if known else {},
            started_at=began,
            ended_at=began + 9,
            message="" if good else "the score was NaN" if not known else "worse than half",
            cause=Cause.USER_ERROR if not known else None,
        )
    )
    if runs:
        for seed in seeds:
            _run(mailbox, number, seed, began, metrics=by[str(seed)] if good else None)
    return score


def _run(mailbox: Mailbox, number: int, seed: int, began: float, metrics: float | None) -> None:
    run = run_id(number, seed)
    record = RunRecord(run=run, experiment=mailbox.experiment, trial=number, seed=seed)
    mailbox.create(f"runs/{run}/run.json", record)
    summaries = {Phase.TRAIN: {"steps": 500}, Phase.EVALUATE: {"metrics": {"score": metrics}}}
    for phase, summary in summaries.items():
        ticket = f"{run}.{phase.value}"
        claim = claim_of(ticket, worker=f"w{seed % 2}", claimed_at=began)
        mailbox.create(f"claims/{ticket}.1.json", claim)
        if metrics is None:
            return
        told = {"manifest_sha256": "0" * 64, "started_at": began + 1, "ended_at": began + 8}
        result = accepted(run, phase, summary=summary, **told)
        mailbox.create(f"runs/{run}/{phase.value}.accepted.json", result)


def write_bench(root: Path, levels: dict[str, tuple[float, float]]) -> Mailbox:
    """A benchmark that is over: algorithm -> its level on CartPole-v1 and on Pendulum-v1."""
    mailbox = Mailbox(FileStore(str(root)), "bench")
    simulators = ("CartPole-v1", "Pendulum-v1")
    parts = [
        {"label": f"{a} on {s}", "learner": {"algorithm": a}, "simulator": {"id": s}}
        for s in simulators
        for a in levels
    ]
    _experiment(
        mailbox,
        simulator={"id": simulators[0]},
        learner={"algorithm": next(iter(levels))},
        train={"steps": 1000},
        seeds=list(FIVE),
        study={"chooser": "list", "experiments": parts},
    )
    rng = random.Random(0)
    for n, part in enumerate(parts, start=1):
        algorithm = str(part["label"]).split()[0]
        level = levels[algorithm][simulators.index(part["simulator"]["id"])]  # type: ignore[index]
        own = {k: v for k, v in part.items() if k != "label"}
        about = {"label": str(part["label"]), "parts": own, "metric": RETURN}
        _trial(mailbox, n, FIVE, rng, level=level, spread=level / 50, **about)
    mailbox.write_study_state(StudyState(phase="over", chosen=len(parts)))
    return mailbox


def write_list(
    root: Path,
    levels: dict[str, float],
    *,
    seeds: tuple[int, ...] = FIVE,
    over: str = "mean",
    draw: int = 0,
) -> Mailbox:
    """A list of experiments on one simulator that is over: label -> its level, spread 1."""
    mailbox = Mailbox(FileStore(str(root)), "list")
    study = {"chooser": "list", "experiments": [{"label": name} for name in levels]}
    _experiment(
        mailbox,
        simulator={"id": "CartPole-v1"},
        learner={"algorithm": "ppo"},
        train={"steps": 1000},
        seeds=list(seeds),
        study={**study, "objectives": [{"metric": RETURN, "over": over}]},
    )
    rng = random.Random(draw)
    for n, (label, level) in enumerate(levels.items(), start=1):
        _trial(mailbox, n, seeds, rng, label=label, level=level, metric=RETURN, spread=1.0)
    mailbox.write_study_state(StudyState(phase="over", chosen=len(levels)))
    return mailbox
