"""Inline search spaces: ``learning_rate: {tune: [1.0e-4, 1.0e-2], log: true}`` instead of a value.

Each one becomes a tunable of the group ``inline`` and its field a reference to it, before anything
else is resolved. What follows (records, choosers, reports) knows declared groups only.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.scalars import dotted
from drillyard.errors import ConfigError, nearest
from drillyard.registry import names
from drillyard.spec import listed
from drillyard.spec.algorithms.argument_table import ARGUMENTS, SPACES
from drillyard.spec.algorithms.arguments import misnamed
from drillyard.spec.algorithms.signatures import ON_POLICY
from drillyard.spec.inline_forms import DEFAULT, EXAMPLE, TUNE, Form, read_form
from drillyard.spec.parameter_errors import GIVEN
from drillyard.spec.precedence import Merged, Place, item_at
from drillyard.spec.presets import find as find_preset

GROUP = "inline"
WHERE = (
    "values in `learner.args`, in `simulator` (not its `id`), in `script` and `mock`, and "
    "`train.n_envs`"
)
_SKIPPED = ("parameters", "backends", "children", "study")
"""Sections whose keys are names: one of them may be `tune`."""
_CONTAINERS = ("args", "lesson", "metrics", "policy_kwargs", "rename", "environment", "info")
"""Mappings whose keys are names, too."""
_FREE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class _Found:
    """A field that a file tunes."""

    path: KeyPath
    form: Form
    place: Place


def expand(
    merged: Merged, problems: list[ConfigError], *, searched: bool, child: str = ""
) -> None:
    """Turns every ``{tune: …}`` into an active tunable, and its field into a reference.

    Args:
        merged: The file, or a child's part; changed.
        problems: Gets what is wrong, all at once.
        searched: Whether the experiment has a ``study:``.
        child: Name of the composite's child, which its tunables' names begin with.
    """
    before = len(problems)
    spaces = _whole_space(merged, problems)
    found = [*_tunes(merged, problems)]
    found += [one for one in spaces if one.path not in {f.path for f in found}]
    if found and not searched:
        problems.append(_no_study(merged, found))
    if len(problems) > before:
        _without_spaces(merged)
        return
    if not found:
        return
    group = _unused(GROUP + (f"-{child}" if child else ""), merged.get("parameters", "tunables"))
    taken = _taken(merged)
    known = _Known.of(merged)
    for one in found:
        name = _name(one.path, [f.path for f in found], taken, child)
        body = one.form.tunable(known.value(one.path))
        path: KeyPath = ("parameters", "tunables", group, "params", name)
        merged.put(path, body, one.place)
        merged.put(one.path, f"${{{name}}}", one.place)
    active = merged.tree["parameters"].setdefault("tunable_params", [])
    if isinstance(active, list):
        merged.put(("parameters", "tunable_params"), [*active, group], found[0].place)
    _whole_minibatches(merged, [one.path for one in found], known, taken, child)


# -- what a file tunes ----------------------------------------------------------------------------


def _tunes(merged: Merged, problems: list[ConfigError]) -> Iterator[_Found]:
    algorithm = merged.get("learner", "algorithm")
    for path, node in _nodes({k: v for k, v in merged.tree.items() if k not in _SKIPPED}):
        if not _tunable(path):
            problems.append(_not_tunable(path, node))
            continue
        form = _read(path, node, str(algorithm).lower(), problems)
        if form is not None:
            yield _Found(path, form, merged.place(path) or Place(""))
    for number, item in enumerate(merged.get("study", "experiments") or ()):
        if not isinstance(item, dict):
            continue
        for path, node in _nodes({k: v for k, v in item.items() if k in listed.PARTS}):
            whole: KeyPath = (*listed.AT, number, *path)
            problems.append(_not_tunable(whole, node))


def _nodes(tree: Json, path: KeyPath = ()) -> Iterator[tuple[KeyPath, JsonObject]]:
    """Yields every mapping that stands for a value to tune."""
    if isinstance(tree, dict):
        if len(path) > 1 and path[-1] not in _CONTAINERS and _is_tune(tree):
            yield path, tree
            return
        for key, value in tree.items():
            yield from _nodes(value, (*path, key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _nodes(value, (*path, number))


def _is_tune(node: JsonObject) -> bool:
    return TUNE in node


def _tunable(path: KeyPath) -> bool:
    section, field = path[0], path[1]
    if section == "learner":
        return field == "args"
    if section == "simulator":
        return field not in ("id", "agent", "curriculum")
    return section in ("script", "mock") or path == ("train", "n_envs")


def _read(
    path: KeyPath, node: JsonObject, algorithm: str, problems: list[ConfigError]
) -> Form | None:
    """The form of a field, or None when it is wrong."""
    own = path[:2] == ("learner", "args") and len(path) == 3
    argument = str(path[2]) if own else None
    if node[TUNE] == DEFAULT:
        ready = SPACES.get(algorithm, {}).get(argument or "")
        if not isinstance(ready, dict):
            problems.append(_no_range(path, algorithm))
            return None
        node = {**node, **copy.deepcopy(ready)}
    if argument is not None and algorithm in ARGUMENTS:
        problems += misnamed(algorithm, {argument: node})
    refused, form = read_form(node, algorithm, path)
    problems += [e.but(field=f"{dotted(path)}.{e.field or TUNE}") for e in refused]
    return form


def _whole_space(merged: Merged, problems: list[ConfigError]) -> list[_Found]:
    """The space of ``learner: {tune: default}``: the arguments that the file does not set."""
    learner = merged.get("learner")
    if not isinstance(learner, dict) or learner.get(TUNE) is None:
        return []
    asked, place = learner.pop(TUNE), merged.place(("learner", TUNE)) or Place("")
    algorithm = str(learner.get("algorithm")).lower()
    if asked != DEFAULT:
        problems.append(
            ConfigError(
                "is not a search space",
                field="learner.tune",
                value=asked,
                allowed=DEFAULT,
                hint=f"write `tune: {DEFAULT}`; to tune one argument, write it in `args:`: "
                f"`learning_rate: {EXAMPLE}`",
            )
        )
        return []
    if algorithm not in SPACES:
        problems.append(
            ConfigError(
                f"there is no ready-made space for {algorithm!r}",
                field="learner.tune",
                value=algorithm,
                allowed=", ".join(sorted(SPACES)),
                hint=f"tune arguments one by one: `args: {{learning_rate: {EXAMPLE}}}`"
                if algorithm in names("learners")
                else nearest(algorithm, sorted(SPACES)),
            )
        )
        return []
    args = learner.setdefault("args", {})
    if not isinstance(args, dict):
        return []  # the model reports the error
    found = []
    for name, node in SPACES[algorithm].items():
        if name not in args and isinstance(node, dict):
            path: KeyPath = ("learner", "args", name)
            _, form = read_form(node, algorithm, path)
            assert form is not None, (algorithm, name)  # a test reads them all
            found.append(_Found(path, form, Place(place.file, place.line)))
    return found


def _without_spaces(merged: Merged) -> None:
    """Gives fields that are tuned wrongly their usual values, so that the rest can be checked."""
    known = _Known.of(merged)
    parts = {k: v for k, v in merged.tree.items() if k not in _SKIPPED}
    for path, _ in [*_nodes(parts)]:
        holder, value = item_at(merged.tree, path[:-1]), known.value(path)
        if not _tunable(path) or not isinstance(holder, dict):
            continue
        if value is None:
            del holder[path[-1]]
        else:
            holder[path[-1]] = value


# -- names and values -----------------------------------------------------------------------------


def _taken(merged: Merged) -> set[str]:
    """Names that mean something else in this file."""
    section = merged.get("parameters")
    section = section if isinstance(section, dict) else {}
    groups = section.get("tunables")
    declared = [section.get("const_args"), section.get("required_args")]
    declared += [
        body.get("params")
        for body in (groups.values() if isinstance(groups, dict) else ())
        if isinstance(body, dict)
    ]
    return {
        *GIVEN,
        "experiment_id",
        *(str(n) for part in declared if isinstance(part, dict | list) for n in part),
    }


def _name(path: KeyPath, all_paths: list[KeyPath], taken: set[str], child: str) -> str:
    """The name of a field's tunable: its key, or its whole path where the key is not enough."""
    keys = [str(p[-1]) for p in all_paths]
    key = str(path[-1])
    if not _FREE.match(key) or keys.count(key) > 1 or key in taken:
        key = re.sub(r"\W", "_", "_".join(str(p) for p in path))
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', child)}_{key}" if child else key


def _unused(name: str, groups: Json) -> str:
    known = groups if isinstance(groups, dict) else {}
    number, found = 1, name
    while found in known:
        number += 1
        found = f"{name}-{number}"
    return found


@dataclass(frozen=True)
class _Known:
    """What fields have without a trial: from the file, its preset, or the algorithm."""

    merged: Merged
    preset: Mapping[str, Any]
    algorithm: Mapping[str, Any]

    @classmethod
    def of(cls, merged: Merged) -> _Known:
        algorithm = merged.get("learner", "algorithm")
        wanted = (merged.get("learner") or {}).get("preset", "auto")
        layer = None
        if wanted is None or isinstance(wanted, str):
            with contextlib.suppress(ConfigError):  # reported where presets are laid
                layer = find_preset(wanted, algorithm, merged.get("simulator", "id"))
        known = ARGUMENTS.get(str(algorithm).lower(), {})
        return cls(merged, layer.mapping if layer else {}, known)

    def value(self, path: KeyPath) -> Json:
        """The value that a field would have if it were not tuned; None where it is not known."""
        own = item_at(self.preset, path)
        if own is None and path[:2] == ("learner", "args") and len(path) == 3:
            own = self.algorithm.get(str(path[2]))
        return 1 if own is None and path == ("train", "n_envs") else own

    def word(self, path: KeyPath) -> str | None:
        """A field as a constraint has it: its tunable's name, or a number; None: neither."""
        own = item_at(self.merged.tree, path)
        own = self.value(path) if own is None else own
        if isinstance(own, str) and (held := re.fullmatch(r"\$\{(\w+)\}", own)):
            return held[1]
        return str(own) if isinstance(own, int) and not isinstance(own, bool) else None


def _whole_minibatches(
    merged: Merged, tuned: list[KeyPath], known: _Known, taken: set[str], child: str
) -> None:
    """Keeps trials from minibatches that do not divide a rollout, which no learner takes."""
    of_learner: KeyPath = ("learner", "args")
    paths: list[KeyPath] = [
        (*of_learner, "n_steps"),
        ("train", "n_envs"),
        (*of_learner, "batch_size"),
    ]
    algorithm = str(merged.get("learner", "algorithm")).lower()
    study = merged.get("study")
    if algorithm not in ON_POLICY or "batch_size" not in known.algorithm or child:
        return
    words = [known.word(path) for path in paths]
    declared = taken & {word for word in words if word}
    if not set(paths) & set(tuned) or None in words or declared or not isinstance(study, dict):
        return
    steps, copies, batch = words
    constraints = study.setdefault("constraints", [])
    text = f"{steps} * {copies} % {batch} == 0"
    if isinstance(constraints, list) and text not in constraints:
        place = merged.place(paths[0]) or merged.place(paths[2]) or Place("")
        merged.put(("study", "constraints"), [*constraints, text], place)


# -- what is refused ------------------------------------------------------------------------------


def _not_tunable(path: KeyPath, node: JsonObject) -> ConfigError:
    hints = {
        "algorithm": "to compare algorithms, write `bench: {algorithms: [ppo, a2c], …}`",
        "id": "to compare simulators, write `bench: {simulators: […], …}`",
    }
    reason = "cannot be tuned: it is the same in all trials"
    if path[:2] == listed.AT:
        reason = "cannot be tuned: a listed experiment has fixed values"
    return ConfigError(
        reason,
        field=dotted(path),
        value=node,
        allowed=WHERE,
        hint=hints.get(str(path[-1]), "write one value"),
    )


def _no_range(path: KeyPath, algorithm: str) -> ConfigError:
    known = sorted(SPACES.get(algorithm, {}))
    return ConfigError(
        f"there is no ready-made range for it and {algorithm!r}",
        field=dotted((*path, TUNE)),
        value=DEFAULT,
        allowed=", ".join(known) if known else f"an algorithm of {', '.join(sorted(SPACES))}",
        hint=f"give a range yourself: `{EXAMPLE}`",
    )


def _no_study(merged: Merged, found: list[_Found]) -> ConfigError:
    fields = ", ".join(dict.fromkeys(dotted(one.path) for one in found))
    whole = merged.places.get(("learner", TUNE))
    return ConfigError(
        f"the file tunes {fields}, but it has no `study:`",
        field="learner.tune" if whole else dotted(found[0].path),
        value=DEFAULT if whole else item_at(merged.tree, found[0].path),
        allowed="a `study:` with a number of trials beside it",
        hint="add `study: {trials: 30}`, or write one value",
    )
