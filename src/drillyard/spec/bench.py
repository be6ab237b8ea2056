"""The ``bench:`` section: algorithms times simulators, as the listed experiments of a study."""

from __future__ import annotations

from typing import Any

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import nearest
from drillyard.spec.precedence import Merged

KEYS = ("algorithms", "simulators")
EXAMPLE = "bench: {algorithms: [ppo, a2c], simulators: [CartPole-v1]}"
SCHEMA: JsonObject = {
    "description": "Algorithms times simulators, as the listed experiments of a study "
    "(`drillyard bench FILE`).",
    "type": "object",
    "additionalProperties": False,
    "required": list(KEYS),
    "properties": {
        "algorithms": {
            "description": "Names, or `learner:` parts.",
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/LearnerSpec"}]},
        },
        "simulators": {
            "description": "Names, or `simulator:` parts.",
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/SimulatorSpec"}]},
        },
    },
}
"""JSON Schema of the section, which is expanded before the model checks the file."""


def expand(merged: Merged) -> None:
    """Turns ``bench:`` into a ``study:`` of the chooser ``list``, one experiment for each pair.

    An algorithm is a name or a ``learner:`` part; a simulator is a name or a ``simulator:`` part.
    The first of each become the file's learner and simulator if it has none.

    Args:
        merged: The file; changed.

    Raises:
        ConfigError, ConfigErrors: The section is malformed, or the file has another list of
            experiments.
    """
    if merged.tree.get("bench") is None:
        merged.tree.pop("bench", None)
        return
    given = merged.tree.pop("bench")
    if not isinstance(given, dict):
        raise _wrong(merged, (), given, "`algorithms:` and `simulators:`")
    problems: list[ConfigError] = []
    for key in given:
        if key not in KEYS:
            error = _wrong(merged, (key,), given[key], ", ".join(KEYS))
            problems.append(error.but(hint=nearest(str(key), list(KEYS)) or error.hint))
    learners = _parts(merged, given, "algorithms", "algorithm", problems)
    simulators = _parts(merged, given, "simulators", "id", problems)
    study = merged.tree.setdefault("study", {})
    if not isinstance(study, dict) or study.get("experiments"):
        problems.append(_wrong(merged, (), given, "either `bench:` or `study.experiments:`"))
    elif study.setdefault("chooser", "list") != "list":
        allowed = "`bench:` beside no chooser, or `list`"
        problems.append(_wrong(merged, (), study["chooser"], allowed))
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigErrors(problems)
    merged.tree.setdefault("learner", dict(learners[0]))
    merged.tree.setdefault("simulator", dict(simulators[0]))
    study["experiments"] = [
        {
            "label": f"{learner['algorithm']} on {simulator['id']}",
            "learner": dict(learner),
            "simulator": dict(simulator),
        }
        for simulator in simulators
        for learner in learners
    ]
    place = merged.place(("bench",))
    if place is not None:
        merged.places[("study", "experiments")] = place


def _parts(
    merged: Merged, given: dict[str, Any], key: str, name: str, problems: list[ConfigError]
) -> list[dict[str, Any]]:
    items = given.get(key)
    if not isinstance(items, list) or not items:
        error = _wrong(merged, (key,), items, "a list with at least one name")
        problems.append(error.but(message="is missing") if key not in given else error)
        return []
    found: list[JsonObject] = []
    for number, item in enumerate(items):
        part = {name: item} if isinstance(item, str) else item
        if not isinstance(part, dict) or not isinstance(part.get(name), str):
            allowed = f"a name, or a mapping with `{name}:`"
            problems.append(_wrong(merged, (key, number), item, allowed))
        elif part in found:
            problems.append(_wrong(merged, (key, number), item, "each one once"))
        else:
            found.append(part)
    return found


def _wrong(merged: Merged, path: tuple[str | int, ...], value: Json, allowed: str) -> ConfigError:
    place = merged.place(("bench", *path))
    field = "bench" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return ConfigError(
        "is not a valid benchmark",
        file=place.file if place else None,
        line=place.line if place else None,
        field=field,
        value=value,
        allowed=allowed,
        hint=f"write `{EXAMPLE}`",
    )
