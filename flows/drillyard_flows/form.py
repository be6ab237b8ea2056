"""The form behind *Run* in Prefect's UI: flat, typed, and every field has a title and help.

It has no unions and no nested blocks: Prefect's form silently changes values of union members,
and a block that is passed as an object loses its secrets. So "not given" is an empty text or zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from drillyard_flows.request import Request, pairs

T = TypeVar("T")
_NONE: list[str] = []


def _field(default: T, title: str, help_: str) -> T:
    # Prefect would replace a plain title with the parameter's name.
    return Field(default, description=help_, json_schema_extra={"title": title})


Count = Annotated[int, Field(ge=0, le=1000)]
Steps = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


def _file(default: str, what: str) -> str:
    return _field(
        default,
        "Experiment",
        f"Path of {what} file on the machine that runs the flow; or a name from "
        "`drillyard list presets`.",
    )


FILE = _file("cstr/ppo", "an experiment")
STUDY_FILE = _file("cstr/ppo-search", "a study")
SEEDS = _field(0, "Seeds", "Number of seeds: 3 means the seeds 1, 2 and 3. 0: use the file's.")
STEPS = _field(0, "Training steps", "Environment steps for each run. 0: use the file's.")
BACKEND = _field(
    "",
    "Backend",
    "local, dask, …; or with the name of a block: gcp/prod. Empty: use the file's.",
)
MAX_HOURS = _field(0.0, "Budget in hours", "0: use the file's.")
MAX_COST = _field(0.0, "Budget in money", "For all machines together. 0: use the file's.")
NAME = _field(
    "",
    "Name",
    "Name of the experiment. A new name is a new experiment. {date} and {time} are those for "
    "which the flow run was planned. Empty: the file's; in a schedule, with date and time.",
)
STORE = _field("", "Store", "Store that keeps the results. Empty: from the machine's settings.")
SETS = _field(_NONE, "Other values", "path=value each, as in `--set`: learner.args.gamma=0.99")
GLOBALS = _field(
    _NONE,
    "Globals files",
    "Files whose values replace those of the experiment file. The last one wins.",
)
PARAMETERS = _field(_NONE, "Parameters", "name=value each, for parameters that the file declares.")
TUNABLES = _field(_NONE, "Tunables", "name=value each.")
MORE = _field(
    _NONE,
    "Add to the experiment",
    "seeds=1, steps=50000, trials=10, hours=2 or cost=5 each: added if the experiment is "
    "already finished. Empty: nothing is added.",
)


_PLACES = {
    "steps": "train.steps",
    "max_hours": "budget.max_hours",
    "max_cost": "budget.max_cost",
}
"""Field of the form -> value of the experiment."""


DATE, TIME = "{date}", "{time}"
SCHEDULED = "auto-scheduled"
"""Prefect's tag of a flow run that a schedule began."""


def dated(name: str, planned: datetime | None) -> str:
    """Returns a name in which the day and the time replace ``{date}`` and ``{time}``.

    Args:
        name: The name as it was typed.
        planned: When the flow run should start. It stays the same when the run is repeated, so
            that it continues its own experiment. None: now.
    """
    at = (planned or datetime.now(UTC)).astimezone(UTC)
    return name.replace(DATE, f"{at:%Y-%m-%d}").replace(TIME, f"{at:%H%M}")


def name_of(
    parameters: Mapping[str, Any], planned: datetime | None = None, tags: Collection[str] = ()
) -> str:
    """Returns the name that replaces the file's; empty for none.

    A flow run that a schedule began has a name of its own, unless its parameters have one: under
    the file's name, the second one would find everything done. The schedule itself cannot bring
    the name, because Prefect 3 forgets a schedule's parameters when it is switched on or off.

    Args:
        parameters: The flow run's parameters.
        planned: See ``dated``.
        tags: The flow run's tags.
    """
    name = str(parameters.get("name") or "")
    if not name and SCHEDULED in tags:
        name = f"{called(parameters)}-{DATE}-{TIME}"
    return dated(name, planned)


def called(parameters: Mapping[str, Any]) -> str:
    """Returns a name for the file or the preset of a flow run.

    Args:
        parameters: The flow run's parameters.
    """
    file = str(parameters.get("file") or "experiment")
    preset = not Path(file).suffix  # cstr/ppo makes the experiment cstr-ppo
    return file.replace("/", "-") if preset else Path(file).stem


def request_of(
    parameters: Mapping[str, Any], planned: datetime | None = None, tags: Collection[str] = ()
) -> Request:
    """Returns the request of a form, a schedule or a command.

    Args:
        parameters: The flow run's parameters; a missing one is not given.
        planned: When the flow run should start, see ``dated``.
        tags: The flow run's tags, see ``name_of``.

    Raises:
        ConfigError: A parameter that is not ``name=value``.
    """
    sets = list(parameters.get("sets") or [])
    if parameters.get("seeds"):
        sets.append(f"seeds={list(range(1, int(parameters['seeds']) + 1))}")
    for name, path in _PLACES.items():
        if parameters.get(name):
            sets.append(f"{path}={parameters[name]}")
    return Request(
        file=str(parameters.get("file") or ""),
        store=parameters.get("store") or None,
        name=name_of(parameters, planned, tags) or None,
        sets=sets,
        globals_=parameters.get("globals_files") or [],
        backend=parameters.get("backend") or None,
        values=pairs(parameters.get("parameters") or []),
        tunables=parameters.get("tunables") or [],
    )
