"""Names of runs for people: a template of the experiment file, filled in when a run is posted.

Keys in the mailbox stay ``t0001-s42``: what programs look for does not depend on taste.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drillyard.documents.json_types import JsonObject
from drillyard.errors import BadValue
from drillyard.system.safe_names import file_name

if TYPE_CHECKING:
    from drillyard.spec.experiment import ExperimentSpec

LIMIT = 100
FIELDS: dict[str, str] = {
    "name": "the experiment",
    "workload": "rl, script, mock, composite, …",
    "algorithm": "the learner's",
    "simulator": "its id",
    "budget": "200000-steps, 50-episodes",
    "seed": "of the run, also 0",
    "trial": "from 1",
    "run": "t0001-s42",
    "backend": "its kind",
    "date": "2026-01-31, UTC",
    "time": "235959, UTC",
}
"""What a template may hold -> what it stands for."""
_FIELD = re.compile(r"\{([^{}]*)\}")


def fields_of(template: str) -> list[str]:
    """The fields of a template, in order.

    Raises:
        BadValue: A brace that belongs to no field, or an unknown field; names the nearest.
    """
    from drillyard.errors import nearest

    fields = _FIELD.findall(template)
    for field in fields:
        if field not in FIELDS:
            raise BadValue(
                f"there is no field {{{field}}}",
                allowed=", ".join(f"{{{f}}}" for f in FIELDS),
                hint=nearest(field, list(FIELDS)),
            )
    if set("{}") & set(_FIELD.sub("", template)):
        raise BadValue(
            "has a brace that belongs to no field",
            allowed="{field} without spaces, closed",
            hint="write {seed}, without spaces",
        )
    return list(fields)


def run_name(
    spec: ExperimentSpec, *, run: str, seed: int, trial: int = 1, at: float = 0.0
) -> str | None:
    """The name of a run; None where the experiment has no template.

    Args:
        spec: The experiment, as the run sees it.
        run: Its id.
        seed: Its seed; 0 is a seed like any other.
        trial: Its trial.
        at: When it was first posted, seconds since the epoch.

    Returns:
        At most 100 characters of A-Z a-z 0-9 . _ = -: a legal file, folder and object name
        everywhere. A name that had to be changed carries eight digits of a hash.
    """
    if spec.run_name is None:
        return None
    when = datetime.fromtimestamp(at, UTC)
    values: JsonObject = {
        "name": spec.name,
        "workload": spec.workload,
        "run": run,
        "seed": seed,
        "trial": trial,
        "algorithm": _last(spec.learner.algorithm if spec.learner else spec.workload),
        "simulator": _last(spec.simulator.id if spec.simulator else "none"),
        "budget": _budget(spec),
        "backend": "-".join(dict.fromkeys(text.partition("/")[0] for text in spec.places)),
        "date": f"{when:%Y-%m-%d}",
        "time": f"{when:%H%M%S}",
    }
    # Parts are made legal first, so that an id such as ALE/Pong-v5 costs no hash.
    plain = {name: re.sub(r"[^A-Za-z0-9._=-]+", "-", str(v)) for name, v in values.items()}
    return file_name(_FIELD.sub(lambda m: plain[m[1]], spec.run_name), LIMIT)


def _last(name: str) -> str:
    """``my_sims:Tank`` is called Tank."""
    return name.rpartition(":")[2]


def _budget(spec: ExperimentSpec) -> str:
    train = spec.train
    if train is None:
        return "none"
    return f"{train.steps}-steps" if train.steps is not None else f"{train.episodes}-episodes"
