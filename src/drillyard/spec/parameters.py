"""Named values of an experiment: declared in the file, set by command line, globals or trials.

An experiment, and each child of a composite, receives only what it declares (``const_args``,
``required_args``, active tunables); globals may hold more, for other experiments. All of them are
a ``Parameter`` of the same table, ``Names``: a value, and the space of those that trials vary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from drillyard.documents.document import Document
from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.yaml_safe import typed
from drillyard.errors import ConfigError
from drillyard.mailbox.mailbox import run_id
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.names import Late, Names, Parameter
from drillyard.spec.parameter_errors import (
    GIVEN,
    clashes,
    missing_required,
    set_by_runs,
    undeclared_parameter,
)
from drillyard.spec.precedence import Merged, Place
from drillyard.spec.tunable_groups import active_groups, all_groups, tunables_of
from drillyard.spec.tunables import NAME, Tunable
from drillyard.spec.tunables.space import in_two_groups, not_active

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
        globals: Values of the files of globals; later files have won.
        line: ``--name value`` of the command line, as typed.
        assigned: Values of tunables: ``tunable_values``, ``--tunable``.
        parent: What a composite passes to its children.
    """

    globals: Mapping[str, Parameter] = field(default_factory=dict)
    line: Mapping[str, Parameter] = field(default_factory=dict)
    assigned: Mapping[str, Parameter] = field(default_factory=dict)
    parent: Mapping[str, Parameter] = field(default_factory=dict)


def outside_of(globals_: Sequence[Document], values: Mapping[str, str], merged: Merged) -> Outside:
    """Collects the values of globals and command line, and the assigned tunables.

    Args:
        globals_: Globals in order; later wins.
        values: ``--name value`` of the command line.
        merged: The experiment's values, for its ``tunable_values``.
    """
    known = fields()
    of_globals = {
        key: Parameter(value, Place(document.file, document.line((key,))))
        for document in globals_
        for key, value in document.mapping.items()
        if key not in known
    }
    line = {
        text.replace("-", "_"): Parameter(typed(word), Place(f"--{text}"))
        for text, word in values.items()
    }
    return Outside(of_globals, line, written(merged, "tunable_values"))


def written(merged: Merged, section: str) -> dict[str, Parameter]:
    """Returns the values of a section of ``parameters``, with their places.

    Args:
        merged: The experiment's values.
        section: ``const_args`` or ``tunable_values``.
    """
    values = merged.get("parameters", section)
    return {
        key: Parameter(value, merged.place(("parameters", section, key)) or Place(""))
        for key, value in (values.items() if isinstance(values, dict) else ())
    }


def resolve_parameters(merged: Merged, outside: Outside, folder: Path) -> Names:
    """Gives every declared name its value.

    Args:
        merged: The experiment's values; ``include_tunables`` are merged into it here.
        outside: What comes from elsewhere.
        folder: Where included files are looked for.
    """
    problems: list[ConfigError] = []
    constants, required = written(merged, "const_args"), _required(merged)
    problems += _misnamed(constants, required)
    groups = all_groups(merged, folder, problems)
    mapping = outside.globals.get("tunable_params_map", Parameter({}, Place(""))).value
    active = active_groups(merged, groups, mapping, problems)
    varied = _varied({name: groups[name] for name in active}, outside, merged, problems)
    declared = {*constants, *required}
    outer = {**outside.globals, **outside.line}
    given = {**outside.parent, **outer}
    table = constants | {k: p for k, p in given.items() if k in declared}
    table |= {k: p for k, p in outer.items() if k == "experiment_id"}
    problems += clashes(given | table, varied) + set_by_runs(outer | table)
    table = {k: replace(p, declared=True) for k, p in table.items() if k not in GIVEN} | varied
    of_run = _given_by_run(merged)
    name = Parameter(merged.get("name"), Place("the experiment's name"))
    known = {"experiment_id": name, **of_run}
    missing = [k for k in required if k not in table and k not in known]
    if missing:
        problems.append(missing_required(missing))
    # A child has its parent's experiment id; only runs set the other names.
    others = {k: p for k, p in {**known, **given}.items() if k not in table}
    runs = {k: replace(varied.get(k, p), value=p.value, place=p.place) for k, p in of_run.items()}
    known = {**table, **others, **{k: runs[k] for k in GIVEN}}
    inactive = {name: g for g, name, _ in tunables_of(groups) if g not in active}
    return Names(known, problems, options=declared, inactive=inactive)


def fields() -> set[str]:
    """Top-level keys of an experiment file."""
    return {
        f.alias or name for name, f in ExperimentSpec.model_fields.items() if name not in NEVER
    }


def expand(merged: Merged, names: Names) -> None:
    """Replaces every reference, and writes the constants as this experiment has them.

    Args:
        merged: The values; changed in place, except for ``children``.
        names: Parameters of these values; keeps the values of runs.
    """
    names.expand(merged, skip=("parameters", "name", "children"))
    _expand_name(merged, names)
    constants = names.constants
    below = merged.tree.setdefault("parameters", {}) if constants else {}
    if not isinstance(below, dict) or not isinstance(below.get("const_args", {}), dict):
        return
    resolved: JsonObject = {}
    for key, constant in constants.items():
        path = ("parameters", "const_args", key)
        merged.places[path] = constant.place
        resolved[key] = names.walk(constant.value, path, merged, (key,))
    if resolved:
        below["const_args"] = resolved


def _expand_name(merged: Merged, names: Names) -> None:
    name = merged.tree.get("name")
    if not isinstance(name, str) or "$" not in name:
        return
    known = dict(names.values)
    if known.get("experiment_id", Parameter(None, Place(""))).value is name:
        del known["experiment_id"]  # it is this name
    alone = Names(known)
    place = merged.place(("name",)) or Place("")
    resolved = alone.resolve(str(name), ("name",), place)
    merged.tree["name"] = resolved.value
    if resolved.late:
        alone.note_late(("name",), resolved.text, place)
    merged.places[("name",)] = resolved.origin or place
    names.problems += alone.problems
    names.used |= alone.used


def undeclared(values: Mapping[str, str], scopes: Sequence[Names]) -> list[ConfigError]:
    """Returns an error for each parameter that neither the experiment nor a child declares.

    Args:
        values: ``--name value`` as typed.
        scopes: The experiment's parameters and its children's.
    """
    options: set[str] = set().union(*(s.options for s in scopes))
    known = {*GIVEN, "experiment_id", *options, *(name for s in scopes for name in s.varied)}
    return [
        undeclared_parameter(text, word, options)
        for text, word in values.items()
        if text.replace("-", "_") not in known
    ]


def unknown_tunables(outside: Outside, scopes: Iterable[Names]) -> list[ConfigError]:
    """Returns an error for each assignment to a tunable that is not active."""
    known = {name for s in scopes for name in s.varied}
    return [
        not_active(name, known, f"parameters.tunable_values.{name}", p.value).but(
            file=p.place.file, line=p.place.line
        )
        for name, p in outside.assigned.items()
        if name not in known
    ]


# -- steps ----------------------------------------------------------------------------------------


def _required(merged: Merged) -> list[str]:
    # The model reports a wrong type; this function uses only valid parts.
    names = merged.get("parameters", "required_args")
    return [n for n in names if isinstance(n, str)] if isinstance(names, list) else []


def _misnamed(
    constants: Mapping[str, Parameter], required: Sequence[str]
) -> Iterator[ConfigError]:
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
        yield ConfigError(
            reason,
            field=f"parameters.{section}.{word}",
            value=word,
            allowed="letters, digits and _, and not the name of an option",
            hint=hint,
        )


def _given_by_run(merged: Merged) -> dict[str, Parameter]:
    """What a run knows, with the first run's values until then."""
    seeds = merged.get("seeds")
    seed = seeds[0] if isinstance(seeds, list) and seeds and isinstance(seeds[0], int) else 1
    first: JsonObject = {
        "trial_id": 1,
        "trial_runner_id": 1,
        "run_id": run_id(1, seed),
        "seed": seed,
    }
    known = {k: Parameter(Late.of(k, first[k]), Place(where)) for k, where in GIVEN.items()}
    inputs = merged.get("inputs")
    for name in inputs if isinstance(inputs, dict) else ():
        # Known when the stage begins; until then, the reference itself.
        text = f"${{{name}}}"
        known[str(name)] = Parameter(Late(text, text), Place("another child"))
    return known


def _varied(
    groups: Mapping[str, Json], outside: Outside, merged: Merged, problems: list[ConfigError]
) -> dict[str, Parameter]:
    """The tunables of the active groups, with the values that they have until a trial."""
    varied: dict[str, Parameter] = {}
    for group, name, body in tunables_of(groups):
        if name in varied:
            problems.append(in_two_groups(name, str(varied[name].group), group))
            continue
        place = merged.place(("parameters", "tunables", group, "params", name)) or Place("")
        default = body.get("default") if isinstance(body, dict) else None
        through = f"the default of {group}.{name}"
        chosen = usual = Parameter(default, replace(place, raw=None, through=through))
        with contextlib.suppress(ValidationError):  # the experiment's model reports the error
            tunable = Tunable.model_validate(body)
            chosen = outside.assigned.get(name, usual)
            try:
                chosen = replace(chosen, value=tunable.take(name, chosen.value))
            except ConfigError as error:
                where, field = chosen.place, f"parameters.tunable_values.{name}"
                problems.append(error.but(file=where.file, line=where.line, field=field))
                chosen = replace(usual, place=where)
        value = Late.of(name, chosen.value)
        varied[name] = Parameter(value, chosen.place, group, declared=True)
    return varied
