"""The data behind ``drillyard explain``: every value of an experiment, and where it came from.

Covers values, parameters down to the last child, settings of the backend, and runs. Creates
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError, DrillyardError, PluginError
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.parameter_errors import GIVEN

if TYPE_CHECKING:
    from drillyard.spec.experiment import ChildSpec, ExperimentSpec
    from drillyard.spec.load import Loaded

LOOK_S = 20.0
"""Longest silence in seconds of a simulator that is made to see its spaces."""
_PARAMETER = re.compile(
    r"(?P<scope>(?:children\[\d+\]\.)*)parameters\."
    r"(?:const_args\.(?P<constant>\w+)|tunable_values\.(?P<given>\w+)"
    r"|tunables\.(?P<group>[^.]+)\.params\.(?P<tunable>\w+)\b)"
)
_LAST = re.compile(r"children\[\d+\]\.\Z")


class RunRow(TypedDict):
    """A run that would be started."""

    run: str
    name: str | None
    seed: int
    phases: list[str]
    backend: str
    parameters: Mapping[str, Json]


ParameterRow = TypedDict("ParameterRow", {"value": Json, "from": str})
"""A parameter's value, and where it came from."""


class Tree(TypedDict):
    """An experiment or a child, with its parameters and its own children."""

    name: str
    workload: str
    parameters: dict[str, ParameterRow]
    children: list[Tree]


def values(loaded: Loaded) -> list[tuple[str, Json, str]]:
    """Returns (dotted path, value, origin) of every value, in the file's order."""
    from drillyard.documents.scalars import dotted
    from drillyard.spec.precedence import item_at, leaves
    from drillyard.spec.provenance import visible

    dumped = visible(loaded.spec)
    rows = []
    for path in leaves(dumped):
        origin = loaded.provenance.get(dotted(path), "default")
        rows.append((dotted(path), item_at(dumped, path), origin))
    return rows + _left_out(loaded) + _copies(loaded) + _fitted(loaded)


def _left_out(loaded: Loaded) -> list[tuple[str, Json, str]]:
    """Returns settings that change the numbers, and that a record leaves out at their default."""
    spec = loaded.spec
    if spec.learner is None:
        return []
    asked = [
        ("learner.engine", spec.learner.engine, "sb3"),
        ("resources.precision", spec.resources.precision, "full"),
        ("resources.runs_per_process", spec.resources.runs_per_process or 1, 1),
    ]
    return [(path, value, "default") for path, value, default in asked if value == default]


def _copies(loaded: Loaded) -> list[tuple[str, Json, str]]:
    """Returns the choice behind ``train.copies: auto``, which a file does not have to give."""
    from drillyard.runs.parallelism import hosts
    from drillyard.simulators.make_copies import by_rule
    from drillyard.spec.learning import VECTORISED_FROM

    train, simulator = loaded.spec.train, loaded.spec.simulator
    if train is None or simulator is None:
        return []
    if simulator.copies_on != "learner":
        number = hosts(loaded.spec)
        where = f"{number} of {number + 1} workers" if number else "hosts that join"
        text = f"{train.n_envs} copies on {where}; the numbers of one-by-one"
        return [("simulator.copies_on", text, "resources.workers" if number else "default")]
    if train.copies != "auto":
        return []
    try:
        way = by_rule(train.n_envs >= VECTORISED_FROM, simulator)
    except DrillyardError:
        return []  # `check` says what is wrong with the simulator
    return [("train.copies", f"auto: the numbers of {way}", f"{train.n_envs} copies")]


def _fitted(loaded: Loaded) -> list[tuple[str, Json, str]]:
    """Returns what is added by itself so that the learner takes what the simulator shows."""
    from drillyard.simulators.flat_spaces import flattened
    from drillyard.simulators.make import make_env
    from drillyard.spec.algorithms.networks import auto_policy, takes_small_network
    from drillyard.system.import_path import working_in
    from drillyard.system.watchdog import Output, run_watched

    learner, simulator = loaded.spec.learner, loaded.spec.simulator
    if learner is None or simulator is None:
        return []

    def look() -> list[tuple[str, Json, str]]:
        env = make_env(simulator, flat=False)
        try:
            seen = flattened(env)
            rows: list[tuple[str, Json, str]] = []
            if seen is not env:
                both = (seen.observation_space, seen.action_space)
                spaces = f"FlattenSpaces: {', '.join(map(space_text, both))}"
                rows.append(("simulator.wrappers", spaces, "added: learners take flat spaces"))
            if learner.algorithm not in ARGUMENTS:
                return rows
            policy = learner.policy or auto_policy(seen.observation_space, learner.algorithm)
            if takes_small_network(policy, learner.args, seen.observation_space):
                network = "three convolutions of 3x3 (SmallCnn)"
                rows.append(
                    (
                        "learner.policy",
                        f"{policy} with {network}",
                        "images too small for NatureCNN",
                    )
                )
            return rows
        finally:
            env.close()

    try:
        with working_in(loaded.folder):
            return run_watched(look, LOOK_S, "importing the simulator", Output())
    except Exception:
        return []  # `check` says what is wrong with the simulator


def runs(loaded: Loaded) -> list[RunRow]:
    """Returns the runs that would be started, each with its name and its parameters."""
    from drillyard.mailbox.mailbox import run_id
    from drillyard.runs.parallelism import workers
    from drillyard.spec.binding import bind, run_parameters
    from drillyard.spec.run_names import run_name

    spec = loaded.spec
    rows: list[RunRow] = []
    for number, seed in enumerate(spec.seeds):
        run = run_id(1, seed)
        parameters = run_parameters(spec, run=run, seed=seed, runner=number % workers(spec) + 1)
        name = None
        if spec.run_name:
            bound = bind(spec, {**parameters, "run_id": run, "seed": seed})
            name = run_name(bound, run=run, seed=seed, at=_now())
        rows.append(
            {
                "run": run,
                "name": name,
                "seed": seed,
                "phases": ["train", "evaluate", "store"],
                "backend": spec.where,
                "parameters": parameters,
            }
        )
    return rows


def _now() -> float:
    from drillyard.system.clock import SYSTEM

    return SYSTEM.now()


def tree(loaded: Loaded, given: Mapping[str, Json]) -> Tree:
    """Returns the experiment and its children, each with its parameters.

    Args:
        loaded: The experiment.
        given: Parameters of one run (``runs``).
    """
    spec = loaded.spec
    origins = _Origins.of(loaded.provenance)
    rows: dict[str, ParameterRow] = {
        name: {"value": value, "from": origins.find(name, "")} for name, value in given.items()
    }
    return {
        "name": spec.name,
        "workload": spec.workload,
        "parameters": rows,
        "children": _children(spec, "", given, rows, origins),
    }


def _children(
    parent: ExperimentSpec | ChildSpec,
    scope: str,
    given: Mapping[str, Json],
    above: Mapping[str, ParameterRow],
    origins: _Origins,
) -> list[Tree]:
    from drillyard.spec.binding import child_parameters

    nodes: list[Tree] = []
    for number, child in enumerate(parent.children):
        here = f"{scope}children[{number}]."
        parameters = child_parameters(given, child)
        rows: dict[str, ParameterRow] = {}
        for name, value in parameters.items():
            origin = origins.find(name, here)
            inherited = name in above and name not in GIVEN and name != "experiment_id"
            if inherited and above[name]["from"] == origin:
                origin += f", from {parent.name}"
            rows[name] = {"value": value, "from": origin}
        nodes.append(
            {
                "name": child.name,
                "workload": child.workload,
                "parameters": rows,
                "children": _children(child, here, parameters, rows, origins),
            }
        )
    return nodes


@dataclass
class _Origins:
    """Origins by kind, scope (``""``, or the path of a child: ``children[0].``) and name."""

    known: dict[tuple[str, str, str], str]
    experiment: str

    @classmethod
    def of(cls, provenance: Mapping[str, str]) -> _Origins:
        """Collects the origins in one pass over all values."""
        known: dict[tuple[str, str, str], str] = {}
        for path, origin in provenance.items():
            if (match := _PARAMETER.match(path)) is None:
                continue
            kind, name = str(match.lastgroup), match[str(match.lastgroup)]
            if kind == "tunable":
                origin += f" through the default of {match['group']}.{name}"
            known.setdefault((kind, match["scope"], name), origin)
        return cls(known, provenance.get("name", "the experiment's name"))

    def find(self, name: str, scope: str) -> str:
        """Returns a parameter's origin. An outer or inner experiment may assign or declare it."""
        if name in GIVEN:
            return GIVEN[name]
        if ("constant", scope, name) in self.known:
            return self.known["constant", scope, name]
        if name == "experiment_id":
            return self.experiment
        for kind in ("given", "tunable"):
            outer = scope
            while (kind, outer, name) not in self.known and outer:
                outer = _LAST.sub("", outer)
            if (kind, outer, name) in self.known:
                return self.known[kind, outer, name]
        declared = (
            o
            for (k, s, n), o in self.known.items()
            if (k, n) == ("tunable", name) and s.startswith(scope)
        )
        return next(declared, "default")


def settings(loaded: Loaded) -> tuple[list[JsonObject], str | None]:
    """Returns the backend's settings with their origins; secrets are references.

    Returns:
        One object for each setting, and the problems with them or None.
    """
    from drillyard.backend.settings.experiment import given
    from drillyard.backend.settings.rows import rows

    kind = loaded.spec.backend.partition("/")[0]
    try:
        described, problems = rows(loaded.spec.backend, given(loaded.spec))
    except (ConfigError, PluginError) as error:
        return [], str(error)
    for row in described:
        if row["from"] == "experiment" and row["name"] not in loaded.spec.backends.get(kind, {}):
            row["from"] = "resources"
        elif row["from"] == "experiment":
            row["from"] = _first(loaded.provenance, f"backends.{kind}.{row['name']}")
    return described, "\n".join(str(loaded.locate(e)) for e in problems) or None


def _first(provenance: Mapping[str, str], path: str) -> str:
    """Returns the origin of a value, or of the first value inside it."""
    inside = (v for k, v in provenance.items() if k.startswith((f"{path}.", f"{path}[")))
    return provenance.get(path) or next(inside, "experiment")
