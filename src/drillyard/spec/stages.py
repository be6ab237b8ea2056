"""Stages: children of a composite with machines of their own, and what goes from one to another.

A composite is done in stages once a child says where it runs, or what it takes from another one.
Each stage is then an experiment of its own, ``<composite>.<child>``. A stage begins when every
stage that it names has succeeded; a service must only be ready, and serves until then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue, ConfigError, nearest
from drillyard.spec.strict import Strict
from drillyard.spec.tunables import NAME

if TYPE_CHECKING:
    from drillyard.spec.experiment import ChildSpec, ExperimentSpec

FIELDS = ("backend", "resources", "workers", "seeds", "after", "inputs", "outputs")
"""Fields of a child that only a stage has."""
GIVEN = {"service": ("address", "host", "port", "url"), "rl": ("policy",)}
"""Outputs that every stage of a workload has."""
SEPARATOR = "."
"""Between the name of a composite and that of its stage."""


class MetricOutput(Strict):
    """An output that is a number: a metric of each run."""

    metric: str = Field(description="Name of the metric; `return` is that of a policy.")


class InputSpec(Strict):
    """An input from every seed of another child."""

    source: str = Field(alias="from", description="`<child>.<output>`.")
    seeds: Literal["same", "all"] = Field(
        "same",
        description="`same`: from the run of the same seed, or the only run; `all`: a folder with "
        "one file for each seed, or a JSON file with their values.",
    )


class StageSpec(Strict):
    """The place of a stage in its composite."""

    of: str = Field(description="Name of the composite.")
    name: str = Field(description="Name of the child.")
    inputs: list[str] = Field(default_factory=list, description="Parameters that it waits for.")
    users: list[str] = Field(default_factory=list, description="Children that wait for it.")


def is_staged(spec: ExperimentSpec) -> bool:
    """Whether a composite is done in stages."""
    return staged_tree({"workload": spec.workload, "children": [*map(vars, spec.children)]})


def staged_tree(tree: Mapping[str, Json]) -> bool:
    """``is_staged`` for an experiment as JSON."""
    children = tree.get("children")
    return tree.get("workload") == "composite" and any(
        isinstance(child, dict) and any(child.get(field) is not None for field in FIELDS)
        for child in (children if isinstance(children, list) else ())
    )


def source_of(given: str | InputSpec) -> tuple[str, str]:
    """(child, output) of an input; the output is empty if there is no dot."""
    text = given if isinstance(given, str) else given.source
    child, _, output = text.partition(SEPARATOR)
    return child, output


def upstream(children: Sequence[ChildSpec]) -> dict[str, tuple[str, ...]]:
    """Child -> the children that it names in ``after`` and ``inputs``, each once."""
    return {
        child.name: tuple(
            dict.fromkeys(
                [
                    *(child.after or ()),
                    *(source_of(given)[0] for given in (child.inputs or {}).values()),
                ]
            )
        )
        for child in children
    }


def seeds_of(spec: ExperimentSpec, child: ChildSpec) -> list[int]:
    """The seeds of a stage. A service runs once."""
    if child.workload == "service":
        return [1]
    return child.seeds if child.seeds is not None else spec.seeds


def stage_name(spec: ExperimentSpec, child: ChildSpec) -> str:
    """The name of a stage's experiment."""
    return f"{spec.name}{SEPARATOR}{child.name}"


def outputs_of(child: ChildSpec) -> list[str]:
    """Names of the outputs of a child."""
    return [*GIVEN.get(child.workload, ()), *(child.outputs or {})]


# -- what is refused ------------------------------------------------------------------------------


def problems_of(spec: ExperimentSpec) -> Iterator[ConfigError]:
    """Yields every mistake in the stages of an experiment, with its field."""
    yield from _misplaced(spec)
    if not is_staged(spec):
        return
    if spec.study is not None:
        yield ConfigError(
            "a composite with stages has no study yet",
            field="study",
            allowed="a study of children that share one machine",
            hint="delete `study:`, or the fields of stages: " + ", ".join(FIELDS),
        )
    known = {child.name: child for child in spec.children}
    for number, child in enumerate(spec.children):
        here = f"children[{number}]"
        yield from _names(spec, child, here)
        yield from _empty(child, here)
        yield from _after(child, known, here)
        yield from _inputs(spec, child, known, here)
        yield from _outputs(child, here)
    yield from _cycles(spec)


def _misplaced(spec: ExperimentSpec) -> Iterator[ConfigError]:
    if spec.workload == "service":
        yield ConfigError(
            "is a child of a composite, because others use it while it runs",
            field="workload",
            value="service",
            allowed="rl, script, mock, composite, or a plug-in's",
            hint="write `workload: composite`, and the service below `children:`",
        )
    for path, child in _below(spec.children, ""):
        for field in FIELDS:
            if getattr(child, field) is not None:
                yield ConfigError(
                    "is for the children of the experiment, not for children of a child",
                    field=f"{path}.{field}",
                    allowed="in the first level of `children:`",
                    hint="move this child one level up, or delete the field",
                )


def _below(children: Sequence[ChildSpec], path: str) -> Iterator[tuple[str, ChildSpec]]:
    """Children of children, with their paths."""
    for number, child in enumerate(children):
        here = f"{path}children[{number}]"
        if path:
            yield here, child
        yield from _below(child.children, f"{here}.")


def _names(spec: ExperimentSpec, child: ChildSpec, here: str) -> Iterator[ConfigError]:
    name = stage_name(spec, child)
    if len(name) > 63:
        yield ConfigError(
            f"the stage would be called {name!r}, which has {len(name)} characters",
            field=f"{here}.name",
            value=child.name,
            allowed="at most 63 characters for the names of the experiment and the child together",
            hint=f"shorten one of them by {len(name) - 63}",
        )
    if child.workload == "service" and child.seeds is not None:
        yield ConfigError(
            "a service runs once",
            field=f"{here}.seeds",
            value=child.seeds,
            allowed="seeds at the children that use it",
            hint="delete `seeds:`",
        )
    for seed in sorted({s for s in child.seeds or () if (child.seeds or []).count(s) > 1}):
        yield ConfigError(
            f"seed {seed} is listed twice",
            field=f"{here}.seeds",
            value=child.seeds,
            allowed="each seed once",
            hint=f"write {list(dict.fromkeys(child.seeds or ()))}",
        )
    if (
        child.workers is not None
        and child.resources is not None
        and child.resources.workers not in (None, child.workers)
    ):
        yield ConfigError(
            f"workers is {child.workers} and resources.workers is {child.resources.workers}",
            field=f"{here}.workers",
            value=child.workers,
            allowed="one of the two",
            hint="delete one of them",
        )


def _empty(child: ChildSpec, here: str) -> Iterator[ConfigError]:
    examples = {
        "seeds": "[1, 2, 3]",
        "after": "[prepare]",
        "inputs": "{data: prepare.data}",
        "outputs": "{data: data.csv}",
    }
    for field, example in examples.items():
        value = getattr(child, field)
        if value is not None and not value:
            yield ConfigError(
                "is empty",
                field=f"{here}.{field}",
                value=value,
                allowed="at least one entry",
                hint=f"write {field}: {example}, or delete `{field}:`",
            )


def _after(child: ChildSpec, known: Mapping[str, ChildSpec], here: str) -> Iterator[ConfigError]:
    for number, name in enumerate(child.after or ()):
        if name not in known:
            yield _unknown_child(name, child, known, f"{here}.after[{number}]")


def _inputs(
    spec: ExperimentSpec, child: ChildSpec, known: Mapping[str, ChildSpec], here: str
) -> Iterator[ConfigError]:
    active = child.parameters.tunable_params
    groups = (g.params for name, g in child.parameters.tunables.items() if name in active)
    taken = {*child.parameters.const_args, *(name for params in groups for name in params)}
    for name, given in (child.inputs or {}).items():
        field = f"{here}.inputs.{name}"
        if not NAME.match(name) or name in taken:
            yield ConfigError(
                f"{name!r} is also a parameter of this child"
                if name in taken
                else f"{name!r} is not the name of a parameter",
                field=field,
                value=name,
                allowed="letters, digits and _, and a name that the child does not declare",
                hint="choose another name",
            )
        yield from _source(spec, child, known, given, field)


def _source(
    spec: ExperimentSpec,
    child: ChildSpec,
    known: Mapping[str, ChildSpec],
    given: str | InputSpec,
    field: str,
) -> Iterator[ConfigError]:
    """Yields what is wrong with the output that an input of a child names."""
    other, output = source_of(given)
    if other not in known:
        yield _unknown_child(other, child, known, field)
        return
    source = given if isinstance(given, str) else given.source
    wrong = partial(ConfigError, field=field, value=source)
    there = outputs_of(known[other])
    if output not in there:
        declare = f"declare it there: outputs: {{{output or 'data'}: data.csv}}"
        yield wrong(
            f"{other!r} has no output {output!r}" if output else "names no output",
            allowed=", ".join(f"{other}.{n}" for n in there) or f"{other!r} has no outputs",
            hint=nearest(output, there) if there else declare,
        )
    theirs = seeds_of(spec, known[other])
    if lacking := _lacking(spec, child, given, theirs):
        yield wrong(
            f"{other!r} has no run of seed {lacking[0]}",
            allowed=f"the same seeds as {other!r}: {theirs}; or one seed there",
            hint=f"write {{from: {other}.{output}, seeds: all}} to get those of all seeds",
        )


def _lacking(
    spec: ExperimentSpec, child: ChildSpec, given: str | InputSpec, theirs: Sequence[int]
) -> list[int]:
    """Seeds of a child for which an input has no run."""
    of_all = isinstance(given, InputSpec) and given.seeds == "all"
    if of_all or len(theirs) < 2 or child.workload == "service":
        return []
    return [seed for seed in seeds_of(spec, child) if seed not in theirs]


def _unknown_child(
    name: str, child: ChildSpec, known: Mapping[str, ChildSpec], field: str
) -> ConfigError:
    others = [other for other in known if other != child.name]
    return ConfigError(
        f"there is no child {name!r}",
        field=field,
        value=name,
        allowed=", ".join(others) or "there is no other child",
        hint=nearest(name, others) if others else "delete it",
    )


def _outputs(child: ChildSpec, here: str) -> Iterator[ConfigError]:
    if child.outputs and child.workload == "service":
        yield ConfigError(
            "a service has the outputs " + ", ".join(GIVEN["service"]),
            field=f"{here}.outputs",
            allowed="outputs of children that end",
            hint="delete `outputs:`",
        )
        return
    for name, given in (child.outputs or {}).items():
        field = f"{here}.outputs.{name}"
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or name in GIVEN.get(child.workload, ()):
            yield ConfigError(
                "is not the name of an output",
                field=field,
                value=name,
                allowed="letters, digits and _, and not a name that is there anyway: "
                + (", ".join(GIVEN.get(child.workload, ())) or "none"),
                hint="choose another name",
            )
        if isinstance(given, str):
            yield from _file_output(child, given, field)


def _file_output(child: ChildSpec, path: str, field: str) -> Iterator[ConfigError]:
    from drillyard.spec.work import inside

    if child.workload in ("rl", "mock"):
        metric, also = "score", ""
        if child.workload == "rl":
            metric, also = "return", ", and the output `policy`, which is there"
        yield ConfigError(
            f"a `{child.workload}` writes no files of its own",
            field=field,
            value=path,
            allowed="{metric: name}" + also,
            hint=f"write {{metric: {metric}}}",
        )
        return
    try:
        inside(path)
    except BadValue as error:
        yield ConfigError(
            str(error), field=field, value=path, allowed=error.allowed, hint=error.hint
        )


def _cycles(spec: ExperimentSpec) -> Iterator[ConfigError]:
    """One error for each cycle, at its first child in the file."""
    above = upstream(spec.children)
    numbers = {child.name: number for number, child in enumerate(spec.children)}
    reported: set[frozenset[str]] = set()
    for start in above:
        path = _way(start, start, above)
        if path is None or frozenset(path) in reported:
            continue
        reported.add(frozenset(path))
        child = spec.children[numbers[start]]
        field = "after" if path[1] in (child.after or ()) else "inputs"
        yield ConfigError(
            "waits for itself: " + " -> ".join(path),
            field=f"children[{numbers[start]}].{field}",
            value=path[1],
            allowed="children that can be done one after the other",
            hint=f"delete one of these dependencies, for example that of {start!r} on {path[1]!r}",
        )


def _way(start: str, goal: str, above: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """The shortest way from a child over what it waits for back to it; None: there is none."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for following in above.get(way[-1], ()):
            if following == goal:
                return (*way, goal)
            if following not in seen:
                seen.add(following)
                ways.append((*way, following))
    return None


def order(children: Sequence[ChildSpec]) -> list[str]:
    """The names of the children, each behind those that it waits for; in file order otherwise."""
    above, ordered = upstream(children), list[str]()
    while len(ordered) < len(above):
        ready = [n for n, names in above.items() if n not in ordered and {*names} <= {*ordered}]
        if not ready:
            raise ValueError("a cycle of stages")
        ordered.append(ready[0])
    return ordered
