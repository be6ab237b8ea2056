"""Named values of an experiment: declared in the file, set by command line, globals or tunables.

An experiment, and each child of a composite, receives only what it declares (``const_args``,
``required_args``, active tunables); globals may hold more, for other experiments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from drillyard.documents.document import Document
from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.yaml_safe import typed
from drillyard.errors import ConfigError, nearest
from drillyard.mailbox.mailbox import run_id
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.names import Late, Names
from drillyard.spec.parameter_errors import (
    GIVEN,
    Origin,
    clashes,
    missing_required,
    set_by_runs,
    undeclared_parameter,
)
from drillyard.spec.precedence import Merged, Place
from drillyard.spec.tunable_groups import active_groups, all_groups
from drillyard.spec.tunables import NAME, Tunable

OPTION_NAMES = {
    "set",
    "globals",
    "globals_",
    "store",
    "json",
    "on",
    "name",
    "help",
    "detach",
    "offline_ok",
    "allow_change",
    "strict",
    "tunable",
    "verbose",
    "quiet",
    "version",
    "install_completion",
    "show_completion",
    "force",
    "yes",
    "out",
    "env",
    "all",
}
"""Options of commands that take a file; a parameter of that name could not be given."""

NEVER = ("service", "stage_of")
"""Fields that a file never has at its top, so that a parameter may have these names."""


@dataclass(frozen=True)
class Outside:
    """Values from outside an experiment or a child.

    Args:
        globals: Name -> value of the globals; later files have won.
        line: ``--name value`` of the command line, as typed.
        assigned: Values of tunables: ``tunable_values``, ``--tunable``.
        parent: What a composite passes to its children.
    """

    globals: Mapping[str, Origin] = field(default_factory=dict)
    line: Mapping[str, Origin] = field(default_factory=dict)
    assigned: Mapping[str, Origin] = field(default_factory=dict)
    parent: Mapping[str, Origin] = field(default_factory=dict)


@dataclass
class Parameters:
    """The resolved parameters of a file or of a child."""

    names: Names
    constants: JsonObject = field(default_factory=dict)
    """Constants and required values as this experiment has them, unexpanded."""
    declared: set[str] = field(default_factory=set)
    tunables: dict[str, Origin] = field(default_factory=dict)
    """Active tunables: value as of now."""
    groups: list[str] = field(default_factory=list)
    """Names of the active groups."""
    problems: list[ConfigError] = field(default_factory=list)


def outside_of(globals_: Sequence[Document], values: Mapping[str, str], merged: Merged) -> Outside:
    """Collects the values of globals and command line, and the assigned tunables.

    Args:
        globals_: Globals in order; later wins.
        values: ``--name value`` of the command line.
        merged: The experiment's values, for its ``tunable_values``.
    """
    found: dict[str, Origin] = {}
    known = fields()
    for document in globals_:
        for key, value in document.mapping.items():
            if key not in known:
                found[key] = (value, Place(document.file, document.line((key,))))
    line = {
        text.replace("-", "_"): (typed(word), Place(f"--{text}")) for text, word in values.items()
    }
    return Outside(found, line, assigned(merged))


def assigned(merged: Merged) -> dict[str, Origin]:
    """``parameters.tunable_values`` with the places."""
    values = merged.get("parameters", "tunable_values")
    return {
        key: (value, merged.place(("parameters", "tunable_values", key)) or Place(""))
        for key, value in (values.items() if isinstance(values, dict) else ())
    }


def resolve_parameters(merged: Merged, outside: Outside, folder: Path) -> Parameters:
    """Gives every declared name its value.

    Args:
        merged: The experiment's values; ``include_tunables`` are merged into it here.
        outside: What comes from elsewhere.
        folder: Where included files are looked for.
    """
    problems: list[ConfigError] = []
    constants, required = _declared(merged, problems)
    groups = all_groups(merged, folder, problems)
    mapping = outside.globals.get("tunable_params_map", ({}, Place("")))[0]
    active = active_groups(merged, groups, mapping, problems)
    tunables = _tunables(active, groups, outside, merged, problems)
    declared = {*constants, *required}
    found: dict[str, Origin] = {
        key: (value, merged.place(("parameters", "const_args", key)) or Place(""))
        for key, value in constants.items()
    }
    for layer in (outside.parent, outside.globals, outside.line):
        found.update({k: v for k, v in layer.items() if k in declared})
    for layer in (outside.globals, outside.line):
        found.update({k: v for k, v in layer.items() if k == "experiment_id"})
    problems += clashes({**outside.parent, **outside.globals, **outside.line, **found}, tunables)
    problems += set_by_runs({**outside.globals, **outside.line, **found})
    found = {k: v for k, v in found.items() if k not in GIVEN and k not in tunables}
    always = {
        "experiment_id": (merged.get("name"), Place("the experiment's name")),
        **_given_by_run(merged),
    }
    missing = [k for k in required if k not in found and k not in tunables and k not in always]
    if missing:
        problems.append(missing_required(missing))
    late = {k: (Late(v, f"${{{k}}}"), place) for k, (v, place) in tunables.items()}
    # A child has its parent's experiment id; only runs set the other names.
    known = {
        **always,
        **outside.parent,
        **outside.globals,
        **outside.line,
        **late,
        **found,
        **{k: always[k] for k in GIVEN},
    }
    names = Names(known, inactive=_inactive(groups, active))
    return Parameters(
        names, {k: v for k, (v, _) in found.items()}, declared, tunables, active, problems
    )


def fields() -> set[str]:
    """Top-level keys of an experiment file."""
    return {
        f.alias or name for name, f in ExperimentSpec.model_fields.items() if name not in NEVER
    }


def expand(merged: Merged, parameters: Parameters) -> None:
    """Replaces every reference, and writes the constants as this experiment has them.

    Args:
        merged: The values; changed in place, except for ``children``.
        parameters: Parameters of these values; its ``names`` keep the values of runs.
    """
    names = parameters.names
    names.expand(merged, skip=("parameters", "name", "children"))
    _expand_name(merged, names)
    below = merged.tree.setdefault("parameters", {}) if parameters.constants else {}
    if not isinstance(below, dict) or not isinstance(below.get("const_args", {}), dict):
        return
    resolved: JsonObject = {}
    for key, value in parameters.constants.items():
        path = ("parameters", "const_args", key)
        merged.places[path] = names.values[key][1]
        resolved[key] = names.walk(value, path, merged, (key,))
    if resolved:
        below["const_args"] = resolved


def _expand_name(merged: Merged, names: Names) -> None:
    name = merged.tree.get("name")
    if not isinstance(name, str) or "$" not in name:
        return
    known = dict(names.values)
    if known.get("experiment_id", (None,))[0] is name:
        del known["experiment_id"]  # it is this name
    alone = Names(known)
    place = merged.place(("name",)) or Place("")
    written = str(name)
    value, origin = alone.resolve(written, ("name",), place, ())
    merged.tree["name"] = value
    if (text := alone.residue(written, ("name",), place)) is not None:
        alone.note_late(("name",), text, place)
    merged.places[("name",)] = origin or place
    names.problems += alone.problems
    names.used |= alone.used


def undeclared(values: Mapping[str, str], scopes: Iterable[Parameters]) -> list[ConfigError]:
    """Returns an error for each parameter that neither the experiment nor a child declares.

    Args:
        values: ``--name value`` as typed.
        scopes: The experiment's parameters and its children's.
    """
    everywhere = list(scopes)
    declared: set[str] = set().union(*(s.declared for s in everywhere))
    tunables = {name for s in everywhere for name in s.tunables}
    return [
        undeclared_parameter(text, word, declared)
        for text, word in values.items()
        if (key := text.replace("-", "_")) not in declared
        and key not in tunables
        and key not in (*GIVEN, "experiment_id")
    ]


def unknown_tunables(outside: Outside, scopes: Iterable[Parameters]) -> list[ConfigError]:
    """Returns an error for each assignment to a tunable that is not active."""
    known = sorted({name for s in scopes for name in s.tunables})
    return [
        ConfigError(
            f"{name!r} is not an active tunable",
            at=place,
            field=f"parameters.tunable_values.{name}",
            value=value,
            allowed=", ".join(known) or "no group of tunables is active",
            hint=nearest(name, known) if known else "name a group in parameters.tunable_params",
        )
        for name, (value, place) in outside.assigned.items()
        if name not in known
    ]


# -- steps ----------------------------------------------------------------------------------------


def _declared(merged: Merged, problems: list[ConfigError]) -> tuple[JsonObject, list[str]]:
    constants = merged.get("parameters", "const_args") or {}
    required = merged.get("parameters", "required_args") or []
    # The model reports a wrong type; this function uses only valid parts.
    constants = dict(constants) if isinstance(constants, dict) else {}
    required = [r for r in required if isinstance(r, str)] if isinstance(required, list) else []
    known = fields()
    for key in dict.fromkeys([*constants, *required]):
        word = str(key)
        if not NAME.match(word):
            reason, hint = "is not a parameter name", "use letters, digits and _"
        elif word in OPTION_NAMES or word in known:
            reason, hint = "is the name of an option or of a field", f"call it my_{word}"
        else:
            continue
        section = "const_args" if key in constants else "required_args"
        problems.append(
            ConfigError(
                reason,
                field=f"parameters.{section}.{word}",
                value=word,
                allowed="letters, digits and _, and not the name of an option",
                hint=hint,
            )
        )
    return constants, required


def _given_by_run(merged: Merged) -> dict[str, Origin]:
    """What a run knows, with the first run's values until then."""
    seeds = merged.get("seeds")
    seed = seeds[0] if isinstance(seeds, list) and seeds and isinstance(seeds[0], int) else 1
    first: JsonObject = {
        "trial_id": 1,
        "trial_runner_id": 1,
        "run_id": run_id(1, seed),
        "seed": seed,
    }
    where = {
        "trial_id": "the trial",
        "trial_runner_id": "the trial",
        "run_id": "each run",
        "seed": "each run's seed",
    }
    inputs = merged.get("inputs")
    for name in inputs if isinstance(inputs, dict) else ():
        # Known when the stage begins; until then, the reference itself.
        first[str(name)], where[str(name)] = f"${{{name}}}", "another child"
    return {k: (Late(v, f"${{{k}}}"), Place(where[k])) for k, v in first.items()}


def _tunables(
    active: Sequence[str],
    groups: Mapping[str, Json],
    outside: Outside,
    merged: Merged,
    problems: list[ConfigError],
) -> dict[str, Origin]:
    found: dict[str, Origin] = {}
    group_of: dict[str, str] = {}
    for group in active:
        body = groups[group]
        params = body.get("params") if isinstance(body, dict) else None
        for name, raw in params.items() if isinstance(params, dict) else ():
            path = ("parameters", "tunables", group, "params", name)
            place = merged.place(path) or Place("")
            if name in found:
                problems.append(
                    ConfigError(
                        f"tunable {name!r} is in two active groups, {group_of[name]!r} and "
                        f"{group!r}",
                        field=".".join(path),
                        value=name,
                        allowed="one group for each tunable",
                        hint="rename one of them",
                    )
                )
                continue
            group_of[name] = group
            found[name] = _value_of(name, raw, group, place, outside, problems)
    return found


def _inactive(groups: Mapping[str, Json], active: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for group, body in groups.items():
        params = body.get("params") if isinstance(body, dict) else None
        if group not in active and isinstance(params, dict):
            found.update({str(name): group for name in params})
    return found


def _value_of(
    name: str, raw: Json, group: str, place: Place, outside: Outside, problems: list[ConfigError]
) -> Origin:
    default = raw.get("default") if isinstance(raw, dict) else None
    origin = Place(place.file, place.line, None, f"the default of {group}.{name}")
    try:
        tunable = Tunable.model_validate(raw)
    except ValidationError:
        return default, origin  # the experiment's model reports the error
    if name not in outside.assigned:
        return tunable.take(name, default), origin
    value, where = outside.assigned[name]
    try:
        return tunable.take(name, value), where
    except ConfigError as error:
        field = f"parameters.tunable_values.{name}"
        problems.append(error.but(file=where.file, line=where.line, field=field))
        return default, where
