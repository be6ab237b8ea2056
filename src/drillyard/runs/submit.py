"""From a loaded file to records in the mailbox: experiment, code, runs, tickets.

Only the driver that holds the experiment's lock writes. ``plan`` only reads, so that a refusal
comes before anything is created.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.documents.json_types import Json, JsonObject, as_object
from drillyard.errors import NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id, ticket_id
from drillyard.mailbox.records import (
    PHASES,
    STREAMS,
    ExperimentRecord,
    Lineage,
    Phase,
    RunRecord,
    TicketRecord,
)
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.registry import load
from drillyard.runs import code_archive as bundles
from drillyard.runs import identity
from drillyard.runs.parallelism import workers
from drillyard.runs.travelling import packed
from drillyard.runs.workload import LimitsAttempts, Workload
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import bound, run_parameters, with_parts
from drillyard.spec.run_names import run_name
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.platform_info import git_state, versions

if TYPE_CHECKING:
    from drillyard.spec.load import Loaded

_ORDER = {Phase.STORE: 0, Phase.EVALUATE: 1_000_000, Phase.TRAIN: 2_000_000}
"""Tickets that finish a run come before tickets that start one, so that results are safe early."""

CORRECTED: dict[str, JsonObject] = {"building": {"clock": "exact"}}
"""Arguments of built-in simulators that correct a mistake, and so change numbers."""


@dataclass(frozen=True)
class Plan:
    """What a submission would write, and how it differs from the experiment in the store.

    Attributes:
        record: The new ``experiment.json``.
        bundle: The user's code, or None if the experiment uses none.
        before: The present ``experiment.json``, or None for a new experiment.
        changes: Values that differ, with their consequences (see ``identity``).
    """

    record: ExperimentRecord
    bundle: bundles.Bundle | None
    before: ExperimentRecord | None
    changes: list[identity.Change]

    @property
    def repeat(self) -> Phase | None:
        """The first phase whose accepted results no longer fit."""
        return identity.first_to_repeat(self.changes)


@dataclass(frozen=True)
class Trial:
    """A trial to post.

    Attributes:
        number: From 1.
        seeds: One run each.
        assignment: Its tunables; the others have the experiment's values.
        parts: Parts of the experiment that it replaces.
        lineage: Its place in a population; None outside one.
        phases: Those that have a ticket.
    """

    number: int
    seeds: tuple[int, ...]
    assignment: Mapping[str, Json] = field(default_factory=dict)
    parts: Mapping[str, Json] = field(default_factory=dict)
    lineage: Lineage | None = None
    phases: tuple[Phase, ...] = tuple(PHASES)


def plain(spec: ExperimentSpec) -> list[Trial]:
    """The trials of an experiment without a study: one."""
    return [Trial(1, tuple(spec.seeds))]


def pack(loaded: Loaded, mailbox: Mailbox) -> bundles.Bundle | None:
    """The user's code; None if the experiment uses none.

    Raises:
        UserError: The folder is too large, or holds links.
    """
    if not identity.needs_code(loaded.spec):
        return None
    # Files on the command line (the experiment, globals) are resolved into the spec already.
    at_home = {Path(a) for a in loaded.command if a and not a.startswith("-")}
    if "://" not in mailbox.store.url:
        at_home.add(Path(mailbox.store.url))
    return packed(loaded, at_home)


def begun(mailbox: Mailbox) -> bool:
    """True once a worker has claimed a ticket. Before that, nothing depends on the settings."""
    return any(True for _ in mailbox.claims())


def unfreeze(mailbox: Mailbox) -> None:
    """Delete trials, runs and unclaimed tickets, so that they are posted with new settings."""
    for info in [
        *mailbox.store.list(mailbox.key("queue/")),
        *mailbox.store.list(mailbox.key("trials/")),
        *mailbox.store.list(mailbox.key("runs/")),
    ]:
        whole = info.key.startswith((mailbox.key("queue/"), mailbox.key("trials/")))
        if whole or info.key.endswith("/run.json"):
            mailbox.store.delete(info.key)


def plan(
    loaded: Loaded,
    mailbox: Mailbox,
    bundle: bundles.Bundle | None,
    *,
    allow_change: bool = False,
    clock: Clock = SYSTEM,
) -> Plan:
    """Compare a file with the experiment of its name. Reads only.

    Args:
        loaded: The file.
        mailbox: The experiment.
        bundle: From ``pack``.
        allow_change: Accept a change of what training depends on.
        clock: For the times in the record.

    Raises:
        IdentityChanged: Another experiment under the same name; with the difference.
    """
    parts = identity.parts(loaded.spec, bundle.sha256 if bundle else None)
    try:
        before = mailbox.experiment_record()
    except NotFound:
        before = None
    changes = identity.difference(before.identity_parts, parts) if before else []
    if begun(mailbox):
        identity.refuse(
            loaded.spec.name,
            changes,
            allow_change=allow_change,
            where=loaded.provenance.get,
            code=lambda: bundles.changed(mailbox, before.code if before else None, bundle),
        )
    commit, dirty = git_state(loaded.folder)
    now = clock.now()
    change: JsonObject = {"at": now, "changes": [f"{c.part}.{c}" for c in changes]}
    spec = loaded.spec.model_dump(mode="json", by_alias=True)
    _pin(spec, before.spec if before else None)
    record = ExperimentRecord(
        name=loaded.spec.name,
        spec=spec,
        provenance=dict(loaded.provenance),
        identity=identity.identity(parts),
        identity_parts={**parts},
        code=bundle.sha256 if bundle else None,
        versions=versions(),
        git_commit=commit,
        git_dirty=dirty,
        command=list(loaded.command),
        file=str(loaded.file),
        text=loaded.text,
        streams=before.streams if before else STREAMS,
        history=[*(before.history if before else ()), *([change] if changes else ())],
        created_at=before.created_at if before else now,
    )
    return Plan(record, bundle, before, changes)


def _pin(spec: JsonObject, before: JsonObject | None) -> None:
    """Give a new experiment the corrected simulator; an earlier one keeps what it began with.

    Args:
        spec: The resolved experiment, which is changed.
        before: The same of the earlier command; None for a new experiment.
    """
    simulator = as_object(spec.get("simulator"))
    earlier = as_object((before or {}).get("simulator"))
    same = earlier.get("id") == simulator.get("id")
    for name, value in CORRECTED.get(str(simulator.get("id")), {}).items():
        args = as_object(simulator.get("args"))
        kept = as_object(earlier.get("args")).get(name) if same else value
        if name not in args and kept is not None:
            spec["simulator"] = simulator = {**simulator, "args": {**args, name: kept}}


def write(plan_: Plan, mailbox: Mailbox) -> None:
    """Write the code bundle, and then ``experiment.json``, which names it."""
    if plan_.bundle is not None:
        bundles.upload(mailbox, plan_.bundle)
    if plan_.record != plan_.before:
        mailbox.write("experiment.json", plan_.record)


def runs(trials: Iterable[Trial]) -> Iterator[tuple[str, int, Trial]]:
    """(run id, seed, trial) of every run of some trials, in their order."""
    for trial in trials:
        for seed in trial.seeds:
            yield run_id(trial.number, seed), seed, trial


def tickets(trials: Iterable[Trial]) -> Iterator[tuple[str, str, Phase]]:
    """(ticket id, run id, phase) of every ticket of some trials."""
    for run, _, trial in runs(trials):
        for phase in trial.phases:
            yield ticket_id(run, phase), run, phase


def post(
    spec: ExperimentSpec,
    mailbox: Mailbox,
    trials: Sequence[Trial],
    must_drive: Callable[[], None],
    clock: Clock = SYSTEM,
) -> None:
    """Post every trial; existing tickets stay as they are.

    Tickets that belong to no trial are deleted, unless a worker has them, or they have ended: a
    worker would do them. Their claims and checkpoints stay.

    Raises:
        Superseded: Another driver took over.
    """
    there = set(mailbox.ticket_ids())
    others = there - {ticket for ticket, _, _ in tickets(trials)}
    claimed = {ticket for ticket, _, _ in mailbox.claims()} if others else set()
    states = ticket_states(mailbox) if others & claimed else {}
    for ticket in sorted(others):
        # CANCELLED: open again once the order to stop is deleted.
        status = states[ticket].status if ticket in states else Status.PENDING
        stays = status is Status.RUNNING or (status.ended and status is not Status.CANCELLED)
        if ticket in claimed and stays:
            continue
        must_drive()  # the next driver's file may name this seed again
        mailbox.store.delete(mailbox.key(f"queue/{ticket}.json"))
    post_trials(spec, mailbox, trials, must_drive, there=there, clock=clock)


def post_trials(
    spec: ExperimentSpec,
    mailbox: Mailbox,
    trials: Sequence[Trial],
    must_drive: Callable[[], None],
    *,
    there: Container[str] = (),
    first: int = 0,
    clock: Clock = SYSTEM,
) -> None:
    """Freeze ``run.json`` of each run of some trials and post its tickets; safe to repeat.

    What it creates is the same for every driver of one file, so one check for each run is enough.

    Args:
        spec: The experiment.
        mailbox: Where.
        trials: What to post.
        must_drive: Raises once another driver took over; called before each run.
        there: Tickets that are known to be posted.
        first: How many runs are before these in the queue.
        clock: For the stamps.

    Raises:
        Superseded: Another driver took over.
    """
    workload, streams = open_workload(spec), _streams(mailbox)
    for position, (run, seed, trial) in enumerate(runs(trials), first):
        must_drive()
        if ticket_id(run, Phase.TRAIN) not in there:
            new = run_record(spec, workload, run, seed, position, clock, trial)
            new = new.model_copy(update={"streams": streams})
            mailbox.create(f"runs/{run}/run.json", new)
        before: list[str] = []
        for phase in PHASES:
            ticket = ticket_id(run, phase)
            if phase in trial.phases and ticket not in there:
                order = _ORDER[phase] + position
                record = TicketRecord(
                    ticket=ticket,
                    run=run,
                    phase=phase,
                    after=list(before),
                    order=order,
                    attempts=workload.attempts if isinstance(workload, LimitsAttempts) else None,
                    posted_at=clock.now(),
                )
                mailbox.post(record)
            before.append(ticket)


def _streams(mailbox: Mailbox) -> int:
    """Version of the random numbers that the experiment started with."""
    try:
        return mailbox.experiment_record().streams
    except NotFound:
        return STREAMS


def open_workload(spec: ExperimentSpec) -> Workload:
    """The workload of an experiment.

    Raises:
        PluginError: No such workload.
    """
    workload: Workload = load("workloads", spec.workload)()
    return workload


def on_path(folder: Path) -> None:
    """Make the user's folder importable in this process (for ``freeze`` of a plug-in)."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def run_record(
    spec: ExperimentSpec,
    workload: Workload,
    run: str,
    seed: int,
    position: int = 0,
    clock: Clock = SYSTEM,
    trial: Trial | None = None,
) -> RunRecord:
    """``run.json`` of a run: its parameters, constants and tunables combined.

    Args:
        spec: The experiment.
        workload: Its workload, for the choices to freeze.
        run: The run's id.
        seed: Its seed.
        position: Its position among the experiment's runs, from 0: workers take turns as runners.
        clock: For the date in its name.
        trial: The trial of the run; default: the trial of an experiment without a study.
    """
    trial = trial or plain(spec)[0]
    runner = position % workers(spec) + 1
    spec = with_parts(spec, trial.parts)
    record = RunRecord(
        run=run,
        experiment=spec.name,
        trial=trial.number,
        seed=seed,
        threads=spec.resources.threads,
        parameters=run_parameters(
            spec,
            run=run,
            seed=seed,
            trial=trial.number,
            runner=runner,
            assignment=trial.assignment,
        ),
        device=spec.resources.device,
        parts=dict(trial.parts),
        lineage=trial.lineage,
    )
    parameters = bound(spec, record)
    name = run_name(parameters, run=run, seed=seed, trial=record.trial, at=clock.now())
    return record.model_copy(update={"name": name, "choices": workload.freeze(parameters, seed)})
