"""The ``bench:`` section: algorithms times simulators, as the listed experiments of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json, JsonObject, as_list
from drillyard.errors import ConfigError, nearest
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


@dataclass(frozen=True)
class Pairs:
    """What the listed experiments of a benchmark were written as.

    Args:
        experiments: Numbers of the algorithm and the simulator of each one.
        filled: Parts of the file, ``learner`` and ``simulator``, that only the benchmark gives.
        names: Whether an algorithm, or a simulator, is a name alone: by section and number.
    """

    experiments: Sequence[tuple[int, int]] = ()
    filled: tuple[str, ...] = ()
    names: Mapping[tuple[str, int], bool] = field(default_factory=dict)

    def field(self, number: int, inner: str) -> str:
        """Returns the field of the benchmark for a field of one of its experiments.

        Args:
            number: Number of the experiment.
            inner: Field of the experiment, ``learner.args.gamma``.
        """
        part, _, rest = inner.partition(".")
        if part not in ("learner", "simulator") or not self.experiments:
            return inner
        algorithm, simulator = self.experiments[number]
        section, at = ("algorithms", algorithm) if part == "learner" else ("simulators", simulator)
        whole = f"bench.{section}[{at}]"
        return whole if not rest or self.names[section, at] else f"{whole}.{rest}"


def expand(merged: Merged, problems: list[ConfigError]) -> Pairs | None:
    """Turns ``bench:`` into a ``study:`` of the chooser ``list``, one experiment for each pair.

    An algorithm is a name or a ``learner:`` part; a simulator is a name or a ``simulator:`` part.
    The first of each become the file's learner and simulator if it has none.

    Args:
        merged: The file; changed. What is right is expanded, so that the rest is checked, too.
        problems: Gets what is wrong with the section, or another list of experiments.

    Returns:
        The pairs; None without a benchmark.
    """
    given = merged.tree.pop("bench", None)
    if given is None:
        return None
    missing = problems
    if not isinstance(given, dict):
        problems.append(_wrong((), given, "`algorithms:` and `simulators:`"))
        given, missing = dict.fromkeys(KEYS), []
    for key in given:
        if key not in KEYS:
            error = _wrong((key,), given[key], ", ".join(KEYS))
            problems.append(error.but(hint=nearest(str(key), list(KEYS)) or error.hint))
    learners = _parts(given, "algorithms", "algorithm", missing)
    simulators = _parts(given, "simulators", "id", missing)
    filled = tuple(part for part in ("learner", "simulator") if part not in merged.tree)
    # Without a valid one, a stand-in lets the rest of the file be checked.
    merged.tree.setdefault("learner", dict(next(iter(learners.values()), {"algorithm": "ppo"})))
    merged.tree.setdefault("simulator", dict(next(iter(simulators.values()), {"id": "cstr"})))
    pairs = [(a, s) for s in simulators for a in learners]
    labels = _labels(learners)
    _study(merged, given, problems)["experiments"] = [
        {
            "label": f"{labels[a]} on {simulators[s]['id']}",
            "learner": dict(learners[a]),
            "simulator": dict(simulators[s]),
        }
        for a, s in pairs
    ] or [{}]
    _note_places(merged, pairs)
    names = {
        (key, number): isinstance(item, str)
        for key in KEYS
        for number, item in enumerate(as_list(given.get(key)))
    }
    return Pairs(pairs, filled, names)


def _study(merged: Merged, given: Json, problems: list[ConfigError]) -> dict[str, Any]:
    """The study that gets the experiments; another one if the file's cannot."""
    study = merged.tree.setdefault("study", {})
    if not isinstance(study, dict) or study.get("experiments"):
        problems.append(_wrong((), given, "either `bench:` or `study.experiments:`"))
        return {}
    if study.setdefault("chooser", "list") != "list":
        allowed = "`bench:` beside no chooser, or `list`"
        problems.append(_wrong((), study["chooser"], allowed))
        return {}
    return study


def _labels(learners: Mapping[int, dict[str, Any]]) -> dict[int, str]:
    """Number -> name of an algorithm, with the number if several have the name."""
    names = {number: str(learner["algorithm"]) for number, learner in learners.items()}
    twice = Counter(names.values())
    return {n: f"{name} ({n + 1})" if twice[name] > 1 else name for n, name in names.items()}


def _note_places(merged: Merged, pairs: Sequence[tuple[int, int]]) -> None:
    """Gives the experiments the places of what they were written as."""
    place = merged.place(("bench",))
    if place is not None:
        merged.places[("study", "experiments")] = place
    written = [(path, where) for path, where in merged.places.items() if path[0] == "bench"]
    for number, (algorithm, simulator) in enumerate(pairs):
        for part, start in (
            ("learner", ("bench", "algorithms", algorithm)),
            ("simulator", ("bench", "simulators", simulator)),
        ):
            for path, where in written:
                if path[:3] == start:
                    at: KeyPath = ("study", "experiments", number, part, *path[3:])
                    merged.places[at] = where


def _parts(
    given: dict[str, Any], key: str, name: str, problems: list[ConfigError]
) -> dict[int, dict[str, Any]]:
    items = given.get(key)
    if not isinstance(items, list) or not items:
        error = _wrong((key,), items, "a list with at least one name")
        problems.append(error.but(message="is missing") if key not in given else error)
        return {}
    parts: dict[int, JsonObject] = {}
    for number, item in enumerate(items):
        part = {name: item} if isinstance(item, str) else item
        if not isinstance(part, dict) or not isinstance(part.get(name), str):
            allowed = f"a name, or a mapping with `{name}:`"
            problems.append(_wrong((key, number), item, allowed))
        elif part in parts.values():
            problems.append(_wrong((key, number), item, "each one once"))
        else:
            parts[number] = part
    return parts


def _wrong(path: tuple[str | int, ...], value: Json, allowed: str) -> ConfigError:
    named = "bench" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return ConfigError(
        "is not a valid benchmark",
        field=named,
        value=value,
        allowed=allowed,
        hint=f"write `{EXAMPLE}`",
    )
