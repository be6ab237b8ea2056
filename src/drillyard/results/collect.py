"""Reads an experiment's folder into ``ExperimentResults``.

Works at any time: before the first step, while runs train, after a failure. What cannot be read
(a damaged file, a part that an older version did not write) becomes a warning, never an error:
the rest of the results is still worth showing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from drillyard.documents.json_types import JsonObject, as_list, as_number, as_numbers, as_object
from drillyard.errors import CorruptObject, NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import (
    PHASES,
    Accepted,
    Board,
    Ending,
    ExperimentRecord,
    Manifest,
    Phase,
    RunRecord,
)
from drillyard.mailbox.status import Status
from drillyard.mailbox.store import ObjectMissing
from drillyard.mailbox.summaries import TrainSummary, policy_scores, policy_used, problems
from drillyard.mailbox.ticket_states import TicketState, by_run, ticket_states, worst
from drillyard.metrics.streams import read_stream
from drillyard.results.cost_and_time import costs, phase_times, worked_s
from drillyard.results.model import (
    ExperimentResults,
    Point,
    Role,
    RunCurves,
    RunResult,
    trains,
)
from drillyard.results.policies import AGENT, Evaluated, metric_scores, role_of, scores
from drillyard.spec.simulator.return_range import contradicted, return_range

TRAINING_METRIC = "rollout/ep_rew_mean"
EVALUATION_METRIC = "eval/mean_reward"
_OF_RECORD = (
    *("name", "identity", "created_at", "spec", "provenance", "versions"),
    *("git_commit", "git_dirty", "code", "command"),
)
"""What the results have of the experiment's record."""


def collect(mailbox: Mailbox, *, curves: bool = True) -> ExperimentResults:
    """Everything there is to show about an experiment.

    Args:
        mailbox: The experiment's folder.
        curves: Also read the metric streams; without them a table of 1,000 runs is quick.

    Raises:
        NotFound: No such experiment.
        StoreUnavailable: The store cannot be read.
    """
    record = mailbox.experiment_record()
    warnings: list[str] = []
    tickets = by_run(ticket_states(mailbox))
    records, gone = _in_order(mailbox, record)
    accepted = {r.run: _accepted(mailbox, r.run, warnings) for r in (*records, *gone)}
    results = [(run, result) for run, phases in accepted.items() for result in phases.values()]
    warnings += [f"{run}: {problem}" for run, result in results for problem in problems(result)]

    def run(r: RunRecord) -> RunResult:
        return _run(mailbox, record, r, tickets.get(r.run, []), accepted[r.run], warnings)

    runs, removed = tuple(map(run, records)), tuple(map(run, gone))
    trials = _trials(mailbox, record)
    evaluated = [
        Evaluated(r.trial, r.seed, policies, _simulator(record, r), *trials.get(r.trial, ("", "")))
        for r in records
        if (policies := policy_scores(accepted[r.run].get(Phase.EVALUATE)))
    ]
    ranges = _ranges(record, records, evaluated, warnings)
    drivers = mailbox.drivers()
    ends = [result.ended_at for _, result in results]
    ends += [d.ended_at for d in drivers if d.ended_at is not None]
    page = mailbox.key("report/index.html")
    status = overall([Status(r.status) for r in runs])
    return ExperimentResults(
        **{name: getattr(record, name) for name in _OF_RECORD},
        status=status.value,
        store=mailbox.store.url,
        ended_at=max(ends, default=None) if status.ended else None,
        worked_s=worked_s(drivers, accepted),
        runs=runs,
        policies=scores(evaluated, ranges),
        curves=tuple(run_curves(mailbox, records, warnings)) if curves else (),
        phases=tuple(phase_times(mailbox, accepted, warnings)),
        costs=tuple(costs(mailbox, warnings)),
        metrics=metric_scores(runs, {trial: role for trial, (_, role) in trials.items()}),
        warnings=tuple(warnings),
        report=page if mailbox.store.stat(page) else None,
        removed=removed,
        ranges=ranges,
    )


def _trials(mailbox: Mailbox, record: ExperimentRecord) -> dict[int, tuple[str, Role]]:
    """Trial -> what it is called, where the user listed it, and what it is to its study."""
    chooser = as_object(record.spec.get("study")).get("chooser")
    if not isinstance(chooser, str):
        return {}
    return {
        trial.number: (trial.label if chooser == "list" else "", role_of(chooser, trial.of))
        for trial in mailbox.trials()[0]
    }


def overall(statuses: list[Status]) -> Status:
    """The state of an experiment from those of its runs.

    Something that still works comes first, then what failed: an experiment with one failed run
    of ten is FAILED once the other nine have ended.
    """
    if not statuses:
        return Status.PENDING
    for status in (
        Status.RUNNING,
        Status.PREEMPTED,
        Status.READY,
        Status.PENDING,
        Status.FAILED,
        Status.TIMED_OUT,
        Status.CANCELLED,
        Status.UNKNOWN,
    ):
        if status in statuses:
            return status
    return Status.SUCCEEDED if Status.SUCCEEDED in statuses else statuses[0]


def accepted_file(mailbox: Mailbox, run: str, phase: Phase, name: str) -> bytes | None:
    """A file of an accepted result, its hash checked; None when there is no such result or file.

    Raises:
        CorruptObject: It is there, and not what was written.
    """
    accepted = mailbox.accepted(run, phase)
    if accepted is None:
        return None
    manifest: Manifest = mailbox.manifest(accepted)
    try:
        return mailbox.read_file(manifest, name)
    except NotFound:
        return None


def played_episodes(mailbox: Mailbox, run: str) -> list[JsonObject]:
    """The episodes of a run's final evaluation; none before it.

    Raises:
        CorruptObject: The file is not what was written.
    """
    file = accepted_file(mailbox, run, Phase.EVALUATE, "evaluation/episodes.json")
    return [as_object(episode) for episode in as_list(json.loads(file or b"[]"))]


def _in_order(
    mailbox: Mailbox, record: ExperimentRecord
) -> tuple[list[RunRecord], list[RunRecord]]:
    """The runs by trial and seed as the file lists them, and those whose seed was removed."""
    seeds = [seed for seed in as_list(record.spec.get("seeds")) if isinstance(seed, int)]
    order = {seed: i for i, seed in enumerate(seeds)}
    runs = sorted(mailbox.runs(), key=lambda r: (r.trial, order.get(r.seed, len(order)), r.run))
    # A study has the seeds of each trial in its own records.
    if not order or record.spec.get("study"):
        return runs, []
    return [r for r in runs if r.seed in order], [r for r in runs if r.seed not in order]


def _accepted(mailbox: Mailbox, run: str, warnings: list[str]) -> dict[Phase, Accepted]:
    accepted: dict[Phase, Accepted] = {}
    for phase in PHASES:
        try:
            record = mailbox.accepted(run, phase)
        except CorruptObject as error:
            warnings.append(f"{run}: the result of {phase.value} cannot be read: {error}")
            continue
        if record is not None:
            accepted[phase] = record
    return accepted


def _run(
    mailbox: Mailbox,
    experiment: ExperimentRecord,
    record: RunRecord,
    states: list[TicketState],
    accepted: dict[Phase, Accepted],
    warnings: list[str],
) -> RunResult:
    status = worst(states)
    if status is Status.UNKNOWN and Phase.STORE in accepted:
        status = Status.SUCCEEDED
    board, age = _board(mailbox, record.run, status, warnings)
    run = _accepted_run(experiment, record, states, accepted)
    run = replace(run, status=status.value, phase=_phase(states, board, status))
    if board is not None:
        run = _with_board(run, board, learns=trains(experiment.spec))
    if board is not None and status is Status.RUNNING:
        left = board.eta_s if board.phase is Phase.TRAIN else None
        working = replace(run, eta_s=left, worker=board.worker, message=board.message)
        run = replace(working, heartbeat_age_s=age)
    ending = _bad_ending(states)
    return run if ending is None else replace(run, message=ending.message, hint=ending.hint)


def _accepted_run(
    experiment: ExperimentRecord,
    record: RunRecord,
    states: list[TicketState],
    accepted: dict[Phase, Accepted],
) -> RunResult:
    """A run as its record, its tickets and its accepted results describe it."""
    summary, evaluated = TrainSummary.of(accepted.get(Phase.TRAIN)), accepted.get(Phase.EVALUATE)
    agent = policy_scores(evaluated).get(AGENT, {})
    return RunResult(
        run=record.run,
        trial=record.trial,
        seed=record.seed,
        status=worst(states).value,
        step=summary.steps or 0,
        total=_total(experiment.spec),
        episodes=summary.episodes,
        steps_per_s=summary.steps_per_s,
        wall_s=summary.wall_s,
        resumes=_resumes(states) if summary.resumes is None else summary.resumes,
        attempts=max((s.attempt or 0 for s in states), default=0),
        episodes_cut=summary.episodes_cut,
        simulator_restarts=summary.simulator_restarts or 0,
        mean_return=as_number(agent.get("mean_return")),
        policy_used=policy_used(evaluated),
        best=summary.best,
        exactness=summary.exactness,
        parameters=summary.parameters or record.parameters,
        threads=record.threads,
        device=str((summary.parameters or {}).get("device", record.device)),
        metrics=as_numbers(evaluated.summary.get("metrics")) if evaluated else {},
        simulator=_simulator(experiment, record),
    )


def _with_board(run: RunResult, board: Board, *, learns: bool) -> RunResult:
    """A run with what its board adds to the accepted results.

    Args:
        run: The run.
        board: Its board.
        learns: Where nothing learns, the board counts the parts of the work, and only while it
            is done.
    """
    training = board.phase is Phase.TRAIN
    if training:
        run = replace(run, step=run.step or board.step)
    if training or learns:
        speed = board.steps_per_s if run.steps_per_s is None else run.steps_per_s
        run = replace(run, total=run.total or board.total or None, steps_per_s=speed)
    episodes = board.episodes if run.episodes is None else run.episodes
    return replace(run, episodes=episodes, episode_return=board.episode_return)


def _bad_ending(states: list[TicketState]) -> Ending | None:
    """How a phase ended that did not succeed."""
    ended = (s for s in states if s.status.ended and s.status is not Status.SUCCEEDED)
    return next((s.ending for s in ended if s.ending is not None), None)


def _section(experiment: ExperimentRecord, run: RunRecord) -> dict[str, Any]:
    section = run.parts.get("simulator") or experiment.spec.get("simulator")
    return section if isinstance(section, dict) else {}


def _simulator(experiment: ExperimentRecord, run: RunRecord) -> str:
    return str(_section(experiment, run).get("id", ""))


def _ranges(
    experiment: ExperimentRecord,
    records: list[RunRecord],
    evaluated: list[Evaluated],
    warnings: list[str],
) -> dict[str, tuple[float, float]]:
    """Simulator -> its possible returns; without those that observed returns contradict."""
    ranges: dict[str, tuple[float, float]] = {}
    refused: dict[str, str] = {}
    for record in records:
        name = _simulator(experiment, record)
        section = _section(experiment, record)
        if (known := return_range(section)) is not None:
            ranges[name] = known
        for of_run in (e for e in evaluated if (e.trial, e.seed) == (record.trial, record.seed)):
            keys = ("min_return", "max_return", "mean_return")
            values = [as_number(p.get(k)) for p in of_run.policies.values() for k in keys]
            problem = contradicted(section, [v for v in values if v is not None])
            if problem is not None:
                refused.setdefault(name, f"{record.run}: {problem}")
    warnings += refused.values()
    return {name: known for name, known in ranges.items() if name not in refused}


def _board(
    mailbox: Mailbox, run: str, status: Status, warnings: list[str]
) -> tuple[Board | None, float | None]:
    try:
        board = mailbox.board(run)
    except CorruptObject as error:
        warnings.append(str(error))
        return None, None
    return board, mailbox.age(f"board/{run}.json") if status is Status.RUNNING else None


def _total(spec: dict[str, Any]) -> int | None:
    steps = (spec.get("train") or {}).get("steps")
    return steps if isinstance(steps, int) else None


def _phase(states: list[TicketState], board: Board | None, status: Status) -> str | None:
    if board is not None and status is Status.RUNNING:
        return board.phase.value
    by_phase = {s.ticket.phase: s for s in states}
    for phase in PHASES:
        state = by_phase.get(phase)
        if state is not None and state.status is not Status.SUCCEEDED:
            return phase.value
    return PHASES[-1].value if states else None


def _resumes(states: list[TicketState]) -> int:
    train = next((s for s in states if s.ticket.phase is Phase.TRAIN), None)
    return max(0, (train.attempt or 1) - 1) if train is not None else 0


def run_curves(
    mailbox: Mailbox, records: Iterable[RunRecord | RunResult], warnings: list[str]
) -> Iterator[RunCurves]:
    """The learning curves of runs; one that cannot be read becomes a warning.

    Args:
        mailbox: The experiment.
        records: The runs.
        warnings: Gets a sentence for each curve that cannot be read.
    """
    for record in records:
        try:
            training = _points(mailbox, record.run, "train", TRAINING_METRIC)
            evaluation = _points(mailbox, record.run, "evaluation", EVALUATION_METRIC)
        except (CorruptObject, ObjectMissing, ValueError, KeyError) as error:
            warnings.append(f"{record.run}: its learning curve cannot be read: {error}")
            continue
        if training or evaluation:
            yield RunCurves(record.run, record.seed, training, evaluation)


def _points(mailbox: Mailbox, run: str, stream: str, metric: str) -> tuple[Point, ...]:
    points = (
        (int(line["step"]), line["metrics"].get(metric))
        for line in read_stream(mailbox, run, stream)
    )
    return tuple((step, float(v)) for step, v in points if isinstance(v, int | float))
