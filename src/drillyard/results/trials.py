"""The trials of a study: one row a trial, one row a seed, quick for ten thousand of them.

Only the small records under ``trials/`` are read for a table; worker, metrics and cost of the runs
cost two more objects a run, and are read on request. No ticket is looked at.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drillyard.documents.json_types import JsonObject, as_object
from drillyard.errors import CorruptObject
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import TrialCache, run_id, trial_id
from drillyard.mailbox.records import ExperimentRecord, StudyState
from drillyard.mailbox.status import Status
from drillyard.mailbox.store import ObjectMissing
from drillyard.mailbox.ticket_states import TicketState
from drillyard.results.model import Interval
from drillyard.results.policies import over_trial, role_of
from drillyard.spec.simulator.return_range import contradicted, return_range
from drillyard.spec.study import ObjectiveSpec

if TYPE_CHECKING:
    from drillyard.statistics import Verdict
    from drillyard.studies.views import TrialView

RETURN = "evaluate/return"
COMPARED = 20
"""So many trials of a list are compared with each other, the best ones."""


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial: what was chosen, by whom, and what came of it."""

    number: int
    label: str
    chooser: str
    status: str
    assignment: dict[str, Any]
    values: dict[str, float]
    """Objective -> value over the seeds."""
    by_seed: dict[str, dict[str, float]]
    """Objective -> seed -> value."""
    seeds: tuple[int, ...]
    steps: int
    started_at: float | None
    ended_at: float | None
    message: str = ""
    of: int | None = None
    """The trial that this one confirms on fresh seeds."""
    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``t0001``."""
        return trial_id(self.number)

    @property
    def title(self) -> str:
        """What people call it: its label, or its id."""
        return self.label or self.id


@dataclass(frozen=True, slots=True)
class StudyResults:
    """Everything about the trials of a study."""

    name: str
    store: str
    spec: dict[str, Any]
    chooser: str
    objectives: tuple[ObjectiveSpec, ...]
    state: StudyState
    trials: tuple[TrialRow, ...]
    """In the order in which they were chosen; confirmations too."""
    views: tuple[TrialView, ...] = ()
    """The same as the study's own readers see them."""

    @property
    def first(self) -> ObjectiveSpec:
        """The objective that ranks."""
        return self.objectives[0]

    @property
    def searched(self) -> list[TrialRow]:
        """Without confirmations."""
        return [t for t in self.trials if t.of is None]

    def ranked(self) -> list[TrialRow]:
        """Those that succeeded, best first by the first objective; earlier ones first."""
        name, sign = self.first.name, self.first.sign
        good = [t for t in self.searched if t.status == Status.SUCCEEDED and name in t.values]
        return sorted(good, key=lambda t: (-sign * t.values[name], t.number))

    @property
    def fresh(self) -> str:
        """On what the winner was run again: a population's is a policy that plays once more."""
        return "fresh episodes" if self.chooser == "pbt" else "fresh seeds"

    @property
    def chosen_by_score(self) -> bool:
        """True for a search of several trials: the best score is that of a lucky one, too."""
        return role_of(self.chooser, None) == "searched" and len(self.ranked()) > 1

    def verdicts(self) -> dict[tuple[str, str], Verdict]:
        """(trial, trial) -> which is better by the first objective; {} where that is not known.

        In the order of ``ranked``; on 5 % of pages at most equal ones are told apart.
        """
        from drillyard.statistics import verdicts

        name, sign = self.first.name, self.first.sign
        return verdicts(
            {
                t.id: [[sign * v for v in t.by_seed.get(name, {}).values()]]
                for t in self.ranked()[:COMPARED]
            }
        )

    def interval(self, t: TrialRow) -> Interval | None:
        """95 % interval of the first objective over the seeds of a trial.

        None where the seeds say too little, where the objective is not a mean over them, and for a
        trial of a search, which was ranked by this number.
        """
        if self.first.over != "mean":
            return None
        world = self.simulator(t)
        among = sum(self.simulator(other) == world for other in self.ranked())
        values = list(t.by_seed.get(self.first.name, {}).values())
        result = over_trial(values, role_of(self.chooser, t.of), among)
        if result is None or self.first.name != RETURN:
            return result
        section = self.part(t, "simulator")
        return result if contradicted(section, values) else result.cut(return_range(section))

    def simulator(self, t: TrialRow) -> str:
        """The simulator of a trial: its own, or the file's."""
        return str(self.part(t, "simulator").get("id", ""))

    def part(self, t: TrialRow, name: str) -> JsonObject:
        """A part of the file as a trial has it: its own, or that of all."""
        return as_object(t.parts.get(name) or self.spec.get(name))

    @property
    def simulators(self) -> list[str]:
        """All of them; where there are several, values of different ones have no common scale."""
        return list(dict.fromkeys(map(self.simulator, self.trials)))

    @property
    def best(self) -> TrialRow | None:
        """The winner so far."""
        return next(iter(self.ranked()), None)

    @property
    def confirmed(self) -> TrialRow | None:
        """The winner again, on fresh seeds, once that has ended."""
        best = self.best
        confirming = [t for t in self.trials if best and t.of == best.number and t.values]
        return confirming[-1] if confirming else None

    def top(self, n: int | None = None) -> list[TrialRow]:
        """The best ``n``; all: the ranked ones, then the others in their order."""
        ranked = self.ranked()
        if n is not None:
            return ranked[:n]
        known = {t.number for t in ranked}
        return ranked + [t for t in self.trials if t.number not in known]

    def to_json(self, trials: Sequence[TrialRow] | None = None) -> dict[str, Any]:
        """As JSON values.

        Args:
            trials: Only these; default all, best first.
        """
        return {
            "schema_version": 1,
            "name": self.name,
            "store": self.store,
            "chooser": self.chooser,
            "objectives": [o.model_dump(mode="json") for o in self.objectives],
            "state": self.state.model_dump(mode="json"),
            "trials": [
                {"trial": t.id, **dataclasses.asdict(t)}
                for t in (self.top() if trials is None else trials)
            ],
        }


def is_study(record: ExperimentRecord) -> bool:
    """True where an experiment has a ``study:``."""
    return bool(record.spec.get("study"))


def collect_trials(
    mailbox: Mailbox,
    record: ExperimentRecord | None = None,
    *,
    cache: TrialCache | None = None,
    states: Mapping[str, TicketState] | None = None,
) -> StudyResults:
    """The trials of a study, at any time of its life.

    Args:
        mailbox: The experiment.
        record: Its record, where the caller has it.
        cache: See ``Mailbox.trials``.
        states: The tickets, where the caller has read them.

    Raises:
        NotFound: No such experiment.
        CorruptObject: A record cannot be read.
    """
    record = record or mailbox.experiment_record()
    study = as_object(record.spec.get("study"))
    from drillyard.studies import views

    chosen = views.trials(mailbox, cache, states)
    return StudyResults(
        name=record.name,
        store=mailbox.store.url,
        spec=record.spec,
        chooser=str(study.get("chooser", "")),
        objectives=_objectives(record.spec),
        state=mailbox.study_state() or StudyState(),
        trials=tuple(map(_row, chosen)),
        views=tuple(chosen),
    )


def _objectives(spec: dict[str, Any]) -> tuple[ObjectiveSpec, ...]:
    given = (spec.get("study") or {}).get("objectives") or [{"metric": RETURN}]
    return tuple(ObjectiveSpec.model_validate(entry) for entry in given)


def _row(view: TrialView) -> TrialRow:
    t, o = view.record, view.outcome
    return TrialRow(
        number=t.number,
        label=t.label,
        chooser=t.chooser,
        assignment=t.assignment,
        of=t.of,
        parts=t.parts,
        seeds=tuple(view.seeds),
        status=view.status.value,
        values=view.values,
        by_seed=view.by_seed,
        steps=o.steps if o else 0,
        started_at=o.started_at if o else None,
        ended_at=o.ended_at if o else None,
        message=o.message if o else "",
    )


# -- one row a seed -------------------------------------------------------------------------------

FIXED_COLUMNS = (
    "trial",
    "label",
    "chooser",
    "confirms",
    "seed",
    "status",
    "started_at",
    "ended_at",
    "worker",
    "steps",
    "cost",
    "currency",
)


def run_rows(
    mailbox: Mailbox, study: StudyResults, trials: Iterable[TrialRow]
) -> Iterator[dict[str, Any]]:
    """One mapping a seed: the columns of the results table.

    Besides ``FIXED_COLUMNS``: ``parameters.<name>``, ``metrics.<name>`` and, for each objective,
    ``objective.<name>`` (the value of this seed).

    Args:
        mailbox: The experiment.
        study: Its trials.
        trials: Those that are wanted, in the order of the rows.
    """
    rates = _Rates(mailbox)
    read = _Runs(mailbox)
    for t in trials:
        for seed in t.seeds:
            detail = read(run_id(t.number, seed), ended=t.ended_at is not None)
            started = detail.get("started_at", t.started_at)
            ended = detail.get("ended_at", t.ended_at)
            cost, currency = rates.cost(detail.get("worker"), started, ended)
            yield {
                "trial": t.id,
                "label": t.label,
                "chooser": t.chooser,
                "confirms": trial_id(t.of) if t.of is not None else None,
                "seed": seed,
                "status": detail.get("status", t.status),
                "started_at": started,
                "ended_at": ended,
                "worker": detail.get("worker"),
                "steps": detail.get("steps"),
                "cost": cost,
                "currency": currency,
                **{f"parameters.{k}": v for k, v in t.assignment.items()},
                **{
                    f"objective.{o.name}": t.by_seed.get(o.name, {}).get(str(seed))
                    for o in study.objectives
                },
                **{f"metrics.{k}": v for k, v in detail.get("metrics", {}).items()},
            }


class _Runs:
    """What the accepted results and claims of a run tell; read as plain JSON, which is quick."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._last: dict[str, int] | None = None

    def __call__(self, run: str, *, ended: bool) -> dict[str, Any]:
        train = self._json(f"runs/{run}/train.accepted.json")
        evaluate = self._json(f"runs/{run}/evaluate.accepted.json")
        values: dict[str, Any] = {}
        if train is not None:
            values["started_at"] = train["started_at"]
            values["ended_at"] = (evaluate or train)["ended_at"]
            values["steps"] = (train.get("summary") or {}).get("steps")
            values["worker"] = self._worker(f"{run}.train", int(train["attempt"]))
        elif ended:
            values["worker"] = self._worker(f"{run}.train", self._last_attempt(f"{run}.train"))
        if evaluate is not None:
            from drillyard.studies.objectives import evaluated

            values["status"] = evaluate["status"]
            values["metrics"] = evaluated(evaluate.get("summary") or {})
        return values

    def _worker(self, ticket: str, attempt: int) -> str | None:
        claim = self._json(f"claims/{ticket}.{attempt}.json") if attempt else None
        return str(claim["worker"]) if claim else None

    def _last_attempt(self, ticket: str) -> int:
        if self._last is None:
            self._last = {}
            for name, attempt, _ in self._mailbox.claims():
                self._last[name] = max(attempt, self._last.get(name, 0))
        return self._last.get(ticket, 0)

    def _json(self, path: str) -> dict[str, Any] | None:
        try:
            content = json.loads(self._mailbox.store.get(self._mailbox.key(path)))
        except ObjectMissing:
            return None
        except ValueError as error:
            raise CorruptObject(f"{self._mailbox.key(path)} cannot be read: {error}") from error
        return content if isinstance(content, dict) else None


class _Rates:
    """What a second of a worker costs: the price of its lease over the lease's workers."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._leases = {
            e.intent.order.lease_id: (
                e.intent.cost.per_hour / 3600 / max(1, e.intent.order.workers),
                e.intent.cost.currency,
            )
            for e in Ledger(mailbox).entries()
        }
        self._of: dict[str, str | None] = {}

    def cost(
        self, worker: str | None, started: float | None, ended: float | None
    ) -> tuple[float | None, str | None]:
        """(cost, currency) of a run; None if its worker or its times are unknown."""
        if worker is None or started is None or ended is None:
            return None, None
        if worker not in self._of:
            from drillyard.mailbox.records import WorkerRecord

            record = self._mailbox.read(f"workers/{worker}.json", WorkerRecord)
            self._of[worker] = record.lease if record else None
        lease = self._of[worker]
        if lease is None and len(self._leases) == 1:
            lease = next(iter(self._leases))
        if lease not in self._leases:
            return None, None
        rate, currency = self._leases[lease]
        return rate * (ended - started), currency


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every column of some rows, in order: the fixed ones, then parameters, then numbers."""
    return list(dict.fromkeys((*FIXED_COLUMNS, *(name for row in rows for name in row))))
