"""Computes the values of a run and of a composite's child from constants and tunables.

These are pure functions of a resolved experiment, the same on every worker.
``drillyard.spec.parameters`` reads files and tracks where values come from.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError
from drillyard.spec.references import PER_RUN, as_word, fill, names_of
from drillyard.spec.tunables import Group, Space
from drillyard.spec.tunables.space import no_such_group

if TYPE_CHECKING:
    from drillyard.mailbox.records import RunRecord
    from drillyard.spec.experiment import ExperimentSpec, Parts

ALWAYS = ("experiment_id", "trial_id", "trial_runner_id")
"""Parameters that every run has, declared or not."""


def space(spec: Parts) -> Space:
    """Returns the active tunables of the experiment and of its children.

    Args:
        spec: A resolved experiment or child.

    Raises:
        ConfigError: A group that is not there, or one name with two meanings.
    """
    groups: dict[str, Group] = {}
    for part in _with_children(spec):
        for name in part.parameters.tunable_params:
            declared = part.parameters.tunables
            if name not in declared:
                raise no_such_group(name, declared, "parameters.tunable_params")
            if groups.setdefault(name, declared[name]) != declared[name]:
                raise ConfigError(
                    f"the group {name!r} is declared twice, differently",
                    field=f"parameters.tunables.{name}",
                    allowed="the same declaration in both",
                    hint="put it in one file and name that in include_tunables of both",
                )
    return Space(groups)


def run_parameters(
    spec: ExperimentSpec,
    *,
    run: str,
    seed: int,
    trial: int = 1,
    runner: int = 1,
    assignment: Mapping[str, Json] | None = None,
) -> JsonObject:
    """Returns the parameters of one run: constants, tunables, and the names that drillyard sets.

    Args:
        spec: The resolved experiment.
        run: The run's id.
        seed: Its seed. ``seed`` and ``run_id`` are passed on only where they are declared or
            referenced.
        trial: Its trial, from 1.
        runner: Whose turn it is among the workers, from 1.
        assignment: The trial's tunables; those left out keep the experiment's values.

    Returns:
        Name -> value: JSON.

    Raises:
        ConfigError: An assignment that a tunable does not take.
    """
    tunables = space(spec).assign({**spec.parameters.tunable_values, **(assignment or {})})
    known = {"trial_id": trial, "trial_runner_id": runner, "run_id": run, "seed": seed, **tunables}
    bound = bind(spec, {**known, **_awaited(spec)})
    read = {name for part in _with_children(spec) for name in part.parameters.required_args}
    read.update(name for late in spec.parameters.per_run or () for name in names_of(late.text))
    values = {"experiment_id": spec.name, **bound.parameters.const_args, **tunables}
    values |= {name: known[name] for name in ("trial_id", "trial_runner_id")}
    return values | {name: known[name] for name in PER_RUN if name in read}


def bind(spec: ExperimentSpec, values: Mapping[str, Json]) -> ExperimentSpec:
    """Returns the experiment as one run sees it, with the run's values filled in.

    Args:
        spec: The resolved experiment.
        values: The run's parameters (``RunRecord.parameters``).

    Raises:
        ConfigError: A value that its field does not take.
    """
    late = spec.parameters.per_run
    if not late:
        return spec
    tree = spec.model_dump(mode="json", by_alias=True)
    for value in late:
        try:
            _put(tree, value.at, as_word(value.at, fill(value.text, values)))
        except KeyError as error:
            raise ConfigError(
                f"the run has no parameter {error.args[0]!r}",
                field=_dotted(value.at),
                value=value.text,
                hint="name it under parameters.required_args",
            ) from None
    texts = {_dotted(value.at): value.text for value in late}
    return _validated(
        spec,
        tree,
        "refuses the value of this run",
        lambda field: f"it reads {texts.get(field, 'a parameter')}",
    )


def _validated(
    spec: ExperimentSpec, tree: JsonObject, refusal: str, hint: Callable[[str], str]
) -> ExperimentSpec:
    try:
        return type(spec).model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = _dotted(first["loc"])
        raise ConfigError(
            f"{refusal}: {first['msg']}", field=field, value=first["input"], hint=hint(field)
        ) from None


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path)


def with_parts(spec: ExperimentSpec, parts: Mapping[str, Json]) -> ExperimentSpec:
    """Returns the experiment with whole parts replaced, as a listed trial has it.

    Args:
        spec: The resolved experiment.
        parts: ``simulator``, ``learner`` …: whole, as JSON.

    Raises:
        ConfigError: A part that no experiment has.
    """
    if not parts:
        return spec
    tree = {**spec.model_dump(mode="json", by_alias=True), **parts}
    refusal = "a listed experiment cannot be"
    return _validated(spec, tree, refusal, lambda _: "see study.experiments")


def bound(spec: ExperimentSpec, run: RunRecord) -> ExperimentSpec:
    """Returns the experiment as the worker of a run sees it.

    Args:
        spec: As ``experiment.json`` has it.
        run: ``run.json``.

    Raises:
        ConfigError: A value that its field does not take.
    """
    whole = with_parts(spec, run.parts)
    return bind(whole, {**run.parameters, "run_id": run.run, "seed": run.seed})


def bound_tree(spec: Mapping[str, Json], run: RunRecord) -> dict[str, Any]:
    """The same as ``bound`` for readers of records: JSON in, JSON out, never an error.

    Args:
        spec: ``ExperimentRecord.spec``.
        run: ``run.json``.
    """
    tree: dict[str, Any] = copy.deepcopy({**spec, **run.parts})
    values = {**run.parameters, "run_id": run.run, "seed": run.seed}
    section = tree.get("parameters")
    for late in (section.get("per_run") if isinstance(section, dict) else None) or ():
        # Another version or a person wrote it: a value that cannot be filled in stays.
        with contextlib.suppress(LookupError, TypeError):
            _put(tree, late["at"], as_word(late["at"], fill(late["text"], values)))
    return tree


def child_parameters(parent_values: Mapping[str, Json], child: Parts) -> JsonObject:
    """Returns the parameters of a composite's child: those that it declares, and common ones.

    The parent wins over the child's constants. Children do not see each other's values: each call
    starts from the parent's values.

    Args:
        parent_values: The parent's parameters in this run. Of a child that was resolved with its
            parent's file, constants are settled already; its tunables are taken from here.
        child: The child.

    Returns:
        Name -> value.

    Raises:
        ConfigError: Required parameters have no value (all of them are listed), or a tunable
            refuses its assignment.
    """
    constants, required = child.parameters.const_args, child.parameters.required_args
    tunables = space(child)
    assigned = {k: v for k, v in parent_values.items() if k in tunables}
    values = tunables.assign({**child.parameters.tunable_values, **assigned})
    settled = child.parameters.per_run is not None
    given = constants if settled else {**constants, **parent_values}
    values |= {name: given[name] for name in constants if name not in values}
    missing = [n for n in required if n not in values and n not in parent_values]
    if missing:
        raise ConfigError(
            f"missing required parameter{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
            field="parameters.required_args",
            allowed="a value from the parent, globals, const_args or a tunable",
            hint=f"declare {', '.join(missing)} in the parent, or give a default in const_args",
        )
    values |= {name: parent_values[name] for name in required if name not in values}
    return values | {name: parent_values[name] for name in ALWAYS if name in parent_values}


def _awaited(spec: ExperimentSpec) -> dict[str, Json]:
    """What stages are given when they begin: until then, a reference stands for itself."""
    names = [name for child in spec.children for name in child.inputs or ()]
    names += spec.stage_of.inputs if spec.stage_of is not None else []
    return {name: f"${{{name}}}" for name in names}


def _with_children(spec: Parts) -> Iterator[Parts]:
    """Yields the experiment and its children at every depth, in the order of the file."""
    yield spec
    for child in spec.children:
        yield from _with_children(child)


def _put(tree: Any, path: Sequence[str | int], value: Json) -> None:
    for part in path[:-1]:
        tree = tree[part]
    tree[path[-1]] = value
