"""What an experiment comes to before it runs, each value with the place it came from.

Values, parameters down to the last child, settings of the backend, runs: the data behind
``drillyard explain``. Nothing is created.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drillyard.errors import ConfigError, DrillyardError, PluginError

if TYPE_CHECKING:
    from drillyard.spec.load import Loaded

_PARAMETER = re.compile(
    r"(?P<scope>(?:children\[\d+\]\.)*)parameters\."
    r"(?:const_args\.(?P<constant>\w+)|tunable_values\.(?P<given>\w+)"
    r"|tunables\.(?P<group>[^.]+)\.params\.(?P<tunable>\w+)\b)"
)
_LAST = re.compile(r"children\[\d+\]\.\Z")
_FROM_RUN = {
    "trial_id": "the trial",
    "trial_runner_id": "the trial",
    "run_id": "each run",
    "seed": "each run's seed",
}


def values(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """(dotted path, value, where it came from) of everything, in the file's order."""
    from drillyard.documents.scalars import dotted
    from drillyard.spec.load import visible
    from drillyard.spec.precedence import leaves

    dumped = visible(loaded.spec)
    rows = []
    for path in leaves(dumped):
        value: Any = dumped
        for part in path:
            value = value[part]
        rows.append((dotted(path), value, loaded.provenance.get(dotted(path), "default")))
    return rows + _copies(loaded)


def _copies(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """What ``train.copies: auto`` comes to: it is not in the file where it is not given."""
    from drillyard.simulators.make import by_rule
    from drillyard.spec.learning import VECTORISED_FROM

    train, simulator = loaded.spec.train, loaded.spec.simulator
    if train is None or simulator is None or train.copies != "auto":
        return []
    try:
        way = by_rule(train.n_envs >= VECTORISED_FROM, simulator)
    except DrillyardError:
        return []  # `check` says what is wrong with the simulator
    return [("train.copies", f"auto: the numbers of {way}", f"{train.n_envs} copies")]


def runs(loaded: Loaded) -> list[dict[str, Any]]:
    """What would run where: one mapping a run, with its name and its parameters."""
    from drillyard.mailbox.mailbox import run_id
    from drillyard.runs.parallelism import workers
    from drillyard.spec.binding import bind, run_parameters
    from drillyard.spec.run_names import run_name

    spec = loaded.spec
    found = []
    for number, seed in enumerate(spec.seeds):
        run = run_id(1, seed)
        parameters = run_parameters(spec, run=run, seed=seed, runner=number % workers(spec) + 1)
        name = None
        if spec.run_name:
            own = bind(spec, {**parameters, "run_id": run, "seed": seed})
            name = run_name(own, run=run, seed=seed, at=_now())
        found.append(
            {
                "run": run,
                "name": name,
                "seed": seed,
                "phases": ["train", "evaluate", "store"],
                "backend": spec.backend,
                "parameters": parameters,
            }
        )
    return found


def _now() -> float:
    from drillyard.system.clock import SYSTEM

    return SYSTEM.now()


def tree(loaded: Loaded, given: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment and its children, each with the parameters that it is given.

    Args:
        loaded: The experiment.
        given: Parameters of one run (``runs``).

    Returns:
        ``{"name", "workload", "parameters": {name: {"value", "from"}}, "children": [...]}``.
    """
    spec = loaded.spec
    origins = _Origins.of(loaded.provenance)
    shown = {
        name: {"value": value, "from": origins.find(name, "")} for name, value in given.items()
    }
    return {
        "name": spec.name,
        "workload": spec.workload,
        "parameters": shown,
        "children": _children(spec, "", given, shown, origins),
    }


def _children(
    parent: Any,
    scope: str,
    given: Mapping[str, Any],
    above: Mapping[str, Any],
    origins: _Origins,
) -> list[dict[str, Any]]:
    from drillyard.spec.binding import child_parameters

    found = []
    for number, child in enumerate(parent.children):
        here = f"{scope}children[{number}]."
        own = child_parameters(given, child)
        shown = {}
        for name, value in own.items():
            origin = origins.find(name, here)
            inherited = name in above and name not in _FROM_RUN and name != "experiment_id"
            if inherited and above[name]["from"] == origin:
                origin += f", from {parent.name}"
            shown[name] = {"value": value, "from": origin}
        found.append(
            {
                "name": child.name,
                "workload": child.workload,
                "parameters": shown,
                "children": _children(child, here, own, shown, origins),
            }
        )
    return found


@dataclass
class _Origins:
    """Where parameters came from, by scope: ``""`` or the path of a child, ``children[0].``."""

    constants: dict[tuple[str, str], str] = field(default_factory=dict)
    assigned: dict[tuple[str, str], str] = field(default_factory=dict)
    defaults: dict[tuple[str, str], str] = field(default_factory=dict)
    experiment: str = "the experiment's name"

    @classmethod
    def of(cls, provenance: Mapping[str, str]) -> _Origins:
        """One pass over all values."""
        found = cls(experiment=provenance.get("name", cls.experiment))
        for path, origin in provenance.items():
            match = _PARAMETER.match(path)
            if match is None:
                continue
            scope = match["scope"]
            if match["constant"]:
                found.constants.setdefault((scope, match["constant"]), origin)
            elif match["given"]:
                found.assigned.setdefault((scope, match["given"]), origin)
            else:
                name = match["tunable"]
                text = f"{origin} through the default of {match['group']}.{name}"
                found.defaults.setdefault((scope, name), text)
        return found

    def find(self, name: str, scope: str) -> str:
        """The origin of a parameter; a tunable may be assigned or declared further out or in."""
        if name in _FROM_RUN:
            return _FROM_RUN[name]
        if (scope, name) in self.constants:
            return self.constants[(scope, name)]
        if name == "experiment_id":
            return self.experiment
        for table in (self.assigned, self.defaults):
            outer = scope
            while (outer, name) not in table and outer:
                outer = _LAST.sub("", outer)
            if (outer, name) in table:
                return table[(outer, name)]
        inner = (o for (s, n), o in self.defaults.items() if n == name and s.startswith(scope))
        return next(inner, "default")


def settings(loaded: Loaded) -> tuple[list[dict[str, Any]], str | None]:
    """Settings of the backend, each with where it came from; secrets are references.

    Returns:
        (one mapping a setting, what is wrong with them or None).
    """
    from drillyard.backend.settings.rows import rows

    kind = loaded.spec.backend.partition("/")[0]
    try:
        found, problems = rows(loaded.spec.backend, loaded.spec.backends.get(kind, {}))
    except (ConfigError, PluginError) as error:
        return [], str(error)
    for row in found:
        if row["from"] == "experiment":
            row["from"] = _first(loaded.provenance, f"backends.{kind}.{row['name']}")
    return found, "\n".join(str(loaded.locate(e)) for e in problems) or None


def _first(provenance: Mapping[str, str], path: str) -> str:
    """The origin of a value, or of the first thing inside it."""
    inside = (v for k, v in provenance.items() if k.startswith((f"{path}.", f"{path}[")))
    return provenance.get(path) or next(inside, "experiment")
