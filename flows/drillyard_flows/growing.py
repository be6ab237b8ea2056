"""What a schedule with ``--continue`` adds to an experiment at each of its flow runs.

A flow run first finishes what is open: only an experiment that is finished gets more. What a flow
run adds is written down before, so that one that is killed and repeated adds nothing twice, also
after all of it was finished. The record in the store, not the number of flow runs, says how much
there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from drillyard.documents.json_types import Json, as_integer, as_list, as_number, as_object
from drillyard.errors import ConfigError, NotFound, misused
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Record
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.spec import ExperimentSpec
from drillyard_flows.request import Request, loaded_of, pairs

PLACES = {
    "seeds": "seeds",
    "steps": "train.steps",
    "trials": "study.trials",
    "hours": "budget.max_hours",
    "cost": "budget.max_cost",
}
"""What can be added -> the value of the experiment that grows."""
_WHOLE = ("seeds", "steps", "trials")
FIELD = "--continue"


class Grown(Record):
    """``control/grown-<flow run>.json``: what a flow run makes of an experiment; put-if-absent."""

    values: dict[str, Json]
    """What grew -> its value afterwards."""


def amounts(texts: Sequence[str], spec: ExperimentSpec) -> dict[str, float]:
    """Parses what each flow run adds.

    Args:
        texts: ``seeds=1`` each.
        spec: The experiment, which must have what grows.

    Raises:
        ConfigError: Something else, or nothing that this experiment has.
    """
    allowed = ["trials", "hours", "cost"] if spec.study else ["seeds", "steps", "hours", "cost"]
    known = {name: place for name, place in PLACES.items() if name in allowed}
    changed = {}
    for name, text in pairs(texts).items():
        if name not in known:
            raise _refused(f"{name} cannot be added to this experiment", name, known)
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < 1e12 or (name in _WHOLE and value != int(value)):
            raise _refused(f"{text!r} is not a number above zero", f"{name}={text}", known)
        if name != "seeds" and as_number(_at(spec.model_dump(mode="json"), known[name])) is None:
            raise _refused(
                f"the file has no {known[name]} to which {name} could be added", name, known
            )
        changed[name] = value
    return changed


def _refused(message: str, value: str, known: Mapping[str, str]) -> ConfigError:
    allowed = ", ".join(f"{name}=N ({place})" for name, place in known.items())
    return misused(message, FIELD, value, allowed, f"{FIELD} {next(iter(known))}=1")


def grown(request: Request, more: Sequence[str], flow_run: str = "") -> Request:
    """Returns a request for as much as there is, and for more if all of that is finished.

    Args:
        request: The request, whose experiment may not exist yet: then it is run as it is.
        more: ``seeds=1`` each; empty: the request stays as it is.
        flow_run: Id of the flow run, which stays the same when it is repeated; empty: none.

    Raises:
        ConfigError: See ``amounts``.
        StoreUnavailable: The store cannot be read.
    """
    if not more:
        return request
    loaded = loaded_of(request)
    add = amounts(more, loaded.spec)
    mailbox = Mailbox(open_store(request.store_url(loaded)), loaded.spec.name)
    try:
        there = mailbox.experiment_record().spec
    except NotFound:
        return request
    path = f"control/grown-{flow_run}.json"
    before = mailbox.read(path, Grown) if flow_run else None
    finished = _finished(mailbox, loaded.spec)
    values: dict[str, Json] = {}
    for name, by in add.items():
        now = _at(there, PLACES[name])
        if before is not None:  # it may have been killed before this was done
            values[name] = _most(now, before.values.get(name))
        else:
            values[name] = _sum(now, by if finished else 0.0)
    if flow_run and before is None and finished:
        mailbox.create(path, Grown(values=values))
    sets = [f"{PLACES[name]}={_text(value)}" for name, value in values.items()]
    return replace(request, sets=[*request.sets, *sets])


def _finished(mailbox: Mailbox, spec: ExperimentSpec) -> bool:
    if spec.study is not None:
        state = mailbox.study_state()
        return state is not None and state.phase == "over"
    states = ticket_states(mailbox).values()
    done = (Status.SUCCEEDED, Status.PRUNED)
    return bool(states) and all(state.status in done for state in states)


def _at(spec: Mapping[str, Json], place: str) -> Json:
    head, _, rest = place.partition(".")
    value = spec.get(head)
    return _at(as_object(value), rest) if rest else value


def _sum(value: Json, by: float) -> Json:
    """The seeds that are there and the next ones that are not; or a larger number."""
    if isinstance(value, list):
        seeds = _seeds(value)
        after = max(seeds, default=0) + 1
        return [*seeds, *range(after, after + int(by))]
    return (as_number(value) or 0.0) + by


def _most(value: Json, asked: Json) -> Json:
    """The seeds of both, or the larger number: another flow run may have added more."""
    if isinstance(value, list):
        seeds = _seeds(value)
        return [*seeds, *(seed for seed in _seeds(asked) if seed not in seeds)]
    return max(as_number(value) or 0.0, as_number(asked) or 0.0)


def _seeds(value: Json) -> list[int]:
    return [seed for each in as_list(value) if (seed := as_integer(each)) is not None]


def _text(value: Json) -> str:
    if isinstance(value, float):
        return str(int(value)) if value == int(value) else repr(value)
    return str(value)
