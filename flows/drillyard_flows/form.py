"""The form behind *Run* in Prefect's UI: flat, typed, every field with a title and help.

No unions and no nested blocks: Prefect's form silently changes values of union members, and a
block that is passed as an object loses its secrets. So "not given" is an empty text, or zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from drillyard_flows.request import Request, pairs


def _field(default: Any, title: str, help_: str) -> Any:
    # Prefect replaces a plain title by the parameter's name.
    return Field(default, description=help_, json_schema_extra={"title": title})


Count = Annotated[int, Field(ge=0, le=1000)]
Steps = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


def _file(default: str, what: str) -> Any:
    return _field(
        default,
        "Experiment",
        f"Path of {what} file, as the machine sees it that runs this; or a name of "
        "`drillyard list presets`.",
    )


FILE = _file("cstr/ppo", "an experiment")
STUDY_FILE = _file("cstr/ppo-search", "a study")
SEEDS = _field(0, "Seeds", "How many: 3 means the seeds 1, 2 and 3. 0: as the file says.")
STEPS = _field(0, "Training steps", "Environment steps a run. 0: as the file says.")
BACKEND = _field(
    "",
    "Backend",
    "Where it runs: local, dask, or with the name of a block, gcp/prod. Empty: as the file says.",
)
MAX_HOURS = _field(0.0, "Budget in hours", "0: as the file says.")
MAX_COST = _field(0.0, "Budget in money", "All machines together. 0: as the file says.")
NAME = _field("", "Name", "Of the experiment, instead of the file's. Another name is another one.")
STORE = _field("", "Store", "Where results are kept. Empty: as the machine's settings say.")
SETS = _field([], "Other values", "path=value each, as of `--set`: learner.args.gamma=0.99")
GLOBALS = _field([], "Globals files", "Values over those of the file; later wins.")
PARAMETERS = _field([], "Parameters", "name=value each, of parameters that the file declares.")
TUNABLES = _field([], "Tunables", "name=value each.")


_PLACES = {
    "steps": "train.steps",
    "max_hours": "budget.max_hours",
    "max_cost": "budget.max_cost",
}
"""Field of the form -> value of the experiment."""


def asked(given: Mapping[str, Any]) -> Request:
    """What a form, a schedule or a command asked for.

    Args:
        given: The flow run's parameters; those that are not there are not given.

    Raises:
        ConfigError: A parameter that is not ``name=value``.
    """
    sets = list(given.get("sets") or [])
    if given.get("seeds"):
        sets.append(f"seeds={list(range(1, int(given['seeds']) + 1))}")
    for name, path in _PLACES.items():
        if given.get(name):
            sets.append(f"{path}={given[name]}")
    return Request(
        file=str(given.get("file") or ""),
        store=given.get("store") or None,
        name=given.get("name") or None,
        sets=sets,
        globals_=given.get("globals_files") or [],
        backend=given.get("backend") or None,
        values=pairs(given.get("parameters") or []),
        tunables=given.get("tunables") or [],
    )
