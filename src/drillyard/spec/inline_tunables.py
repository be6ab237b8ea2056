"""Inline search spaces: ``learning_rate: {tune: [1.0e-4, 1.0e-2], log: true}`` instead of a value.

Each one becomes a tunable of the group ``inline`` and its field a reference to it, before anything
else is resolved. What follows (records, choosers, reports) knows declared groups only.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json, JsonObject, as_list, as_object
from drillyard.documents.scalars import dotted
from drillyard.errors import ConfigError, nearest
from drillyard.registry import names
from drillyard.spec import listed
from drillyard.spec.algorithms.argument_table import ARGUMENTS, SPACES
from drillyard.spec.algorithms.arguments import misnamed
from drillyard.spec.algorithms.signatures import ON_POLICY
from drillyard.spec.inline_forms import DEFAULT, EXAMPLE, TUNE, read_form, with_default
from drillyard.spec.parameter_errors import GIVEN
from drillyard.spec.precedence import Merged, Place, argument_at, item_at
from drillyard.spec.presets import find as find_preset
from drillyard.spec.tunable_groups import tunables_of

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
class _Tuned:
    """A field that a file tunes, and the tunable that it means."""

    path: KeyPath
    body: JsonObject
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
    tuned = [*_tunes(merged, problems)]
    written = {field.path for field in tuned}
    tuned += [field for field in spaces if field.path not in written]
    if tuned and not searched:
        problems.append(_no_study(merged, tuned))
    if len(problems) > before or not _takes_more(merged.tree.get("parameters", {})):
        _without_spaces(merged)
        return
    if not tuned:
        return
    group = _unused(GROUP + (f"-{child}" if child else ""), merged.get("parameters", "tunables"))
    paths, taken, known = [field.path for field in tuned], _taken(merged), _Known.of(merged)
    for field in tuned:
        name = _name(field.path, paths, taken, child)
        body = with_default(field.body, known.value(field.path))
        merged.put(("parameters", "tunables", group, "params", name), body, field.place)
        merged.put(field.path, f"${{{name}}}", field.place)
    active = merged.tree["parameters"].setdefault("tunable_params", [])
    if isinstance(active, list):
        merged.put(("parameters", "tunable_params"), [*active, group], tuned[0].place)
    if not child:
        _whole_minibatches(merged, paths, known, taken)


def _takes_more(section: Json) -> bool:
    """Whether tunables can be added; the model reports a section that is none."""
    return isinstance(section, dict) and isinstance(section.get("tunables", {}), dict)


# -- what a file tunes ----------------------------------------------------------------------------


def _tunes(merged: Merged, problems: list[ConfigError]) -> Iterator[_Tuned]:
    algorithm = merged.get("learner", "algorithm")
    for path, node in _nodes({k: v for k, v in merged.tree.items() if k not in _SKIPPED}):
        if not _tunable(path):
            problems.append(_not_tunable(path, node))
            continue
        body = _read(path, node, str(algorithm).lower(), problems)
        if body is not None:
            yield _Tuned(path, body, merged.place(path) or Place(""))
    for number, item in enumerate(as_list(merged.get("study", "experiments"))):
        if not isinstance(item, dict):
            continue
        for path, node in _nodes({k: v for k, v in item.items() if k in listed.PARTS}):
            whole: KeyPath = (*listed.AT, number, *path)
            problems.append(_not_tunable(whole, node))


def _nodes(tree: Json, path: KeyPath = ()) -> Iterator[tuple[KeyPath, JsonObject]]:
    """Yields every mapping that stands for a value to tune."""
    if isinstance(tree, dict):
        if len(path) > 1 and path[-1] not in _CONTAINERS and TUNE in tree:
            yield path, tree
            return
        for key, value in tree.items():
            yield from _nodes(value, (*path, key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _nodes(value, (*path, number))


def _tunable(path: KeyPath) -> bool:
    section, field = path[0], path[1]
    if section == "learner":
        return field == "args"
    if section == "simulator":
        return field not in ("id", "agent", "curriculum")
    return section in ("script", "mock") or path == ("train", "n_envs")


def _read(
    path: KeyPath, node: JsonObject, algorithm: str, problems: list[ConfigError]
) -> JsonObject | None:
    """The tunable of a field, or None when it is wrong."""
    argument = argument_at(path)
    if node[TUNE] == DEFAULT:
        ready = SPACES.get(algorithm, {}).get(argument or "")
        if not isinstance(ready, dict):
            problems.append(_no_range(path, algorithm))
            return None
        node = {**node, **copy.deepcopy(ready)}
    if argument is not None and algorithm in ARGUMENTS:
        problems += misnamed(algorithm, {argument: node})
    refused, body = read_form(node, algorithm, path)
    problems += [e.but(field=f"{dotted(path)}.{e.field or TUNE}") for e in refused]
    return body


def _whole_space(merged: Merged, problems: list[ConfigError]) -> list[_Tuned]:
    """The space of ``learner: {tune: default}``: the arguments that the file does not set."""
    learner = merged.get("learner")
    if not isinstance(learner, dict) or learner.get(TUNE) is None:
        return []
    asked, place = learner.pop(TUNE), merged.place(("learner", TUNE)) or Place("")
    algorithm = str(learner.get("algorithm")).lower()
    wrong = partial(ConfigError, field="learner.tune")
    if asked != DEFAULT:
        hint = (
            f"write `tune: {DEFAULT}`; to tune one argument, write it in `args:`: "
            f"`learning_rate: {EXAMPLE}`"
        )
        problems.append(wrong("is not a search space", value=asked, allowed=DEFAULT, hint=hint))
        return []
    if algorithm not in SPACES:
        hint = f"tune arguments one by one: `args: {{learning_rate: {EXAMPLE}}}`"
        if algorithm not in names("learners"):
            hint = nearest(algorithm, sorted(SPACES))
        message = f"there is no ready-made space for {algorithm!r}"
        allowed = ", ".join(sorted(SPACES))
        problems.append(wrong(message, value=algorithm, allowed=allowed, hint=hint))
        return []
    args = learner.setdefault("args", {})
    if not isinstance(args, dict):
        return []  # the model reports the error
    tuned = []
    for name, node in SPACES[algorithm].items():
        if name not in args and isinstance(node, dict):
            path: KeyPath = ("learner", "args", name)
            _, body = read_form(node, algorithm, path)
            assert body is not None, (algorithm, name)  # a test reads them all
            tuned.append(_Tuned(path, body, Place(place.file, place.line)))
    return tuned


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
    section = as_object(merged.get("parameters"))
    return {
        *GIVEN,
        "experiment_id",
        *map(str, as_object(section.get("const_args"))),
        *map(str, as_list(section.get("required_args"))),
        *(name for _, name, _ in tunables_of(as_object(section.get("tunables")))),
    }


def _name(path: KeyPath, all_paths: list[KeyPath], taken: set[str], child: str) -> str:
    """The name of a field's tunable: its key, or its whole path where the key is not enough."""
    keys = [str(p[-1]) for p in all_paths]
    key = str(path[-1])
    if not _FREE.match(key) or keys.count(key) > 1 or key in taken:
        key = re.sub(r"\W", "_", "_".join(str(p) for p in path))
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', child)}_{key}" if child else key


def _unused(name: str, groups: Json) -> str:
    numbered = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    return next(each for each in numbered if each not in as_object(groups))


@dataclass(frozen=True)
class _Known:
    """What fields have without a trial: from the file, its preset, or the algorithm."""

    merged: Merged
    preset: Mapping[str, Any]
    algorithm: Mapping[str, Any]

    @classmethod
    def of(cls, merged: Merged) -> _Known:
        algorithm = merged.get("learner", "algorithm")
        preset = as_object(merged.get("learner")).get("preset", "auto")
        layer = None
        if preset is None or isinstance(preset, str):
            with contextlib.suppress(ConfigError):  # reported where presets are laid
                layer = find_preset(preset, algorithm, merged.get("simulator", "id"))
        known = ARGUMENTS.get(str(algorithm).lower(), {})
        return cls(merged, layer.mapping if layer else {}, known)

    def value(self, path: KeyPath) -> Json:
        """The value that a field would have if it were not tuned; None where it is not known."""
        value = item_at(self.preset, path)
        if value is None and (argument := argument_at(path)) is not None:
            value = self.algorithm.get(argument)
        return 1 if value is None and path == ("train", "n_envs") else value

    def word(self, path: KeyPath) -> str | None:
        """A field as a constraint has it: its tunable's name, or a number; None: neither."""
        written = item_at(self.merged.tree, path)
        value = self.value(path) if written is None else written
        if isinstance(value, str) and (reference := re.fullmatch(r"\$\{(\w+)\}", value)):
            return reference[1]
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _whole_minibatches(
    merged: Merged, tuned: list[KeyPath], known: _Known, taken: set[str]
) -> None:
    """Keeps trials from minibatches that do not divide a rollout, which no learner takes."""
    steps_at, batch_at = ("learner", "args", "n_steps"), ("learner", "args", "batch_size")
    paths: list[KeyPath] = [steps_at, ("train", "n_envs"), batch_at]
    algorithm = str(merged.get("learner", "algorithm")).lower()
    study = merged.get("study")
    if algorithm not in ON_POLICY or "batch_size" not in known.algorithm:
        return
    words = [known.word(path) for path in paths]
    declared = taken & {word for word in words if word}
    if not set(paths) & set(tuned) or None in words or declared or not isinstance(study, dict):
        return
    steps, copies, batch = words
    constraints = study.setdefault("constraints", [])
    text = f"{steps} * {copies} % {batch} == 0"
    if isinstance(constraints, list) and text not in constraints:
        place = merged.place(steps_at) or merged.place(batch_at) or Place("")
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


def _no_study(merged: Merged, tuned: list[_Tuned]) -> ConfigError:
    fields = ", ".join(dict.fromkeys(dotted(field.path) for field in tuned))
    whole = merged.places.get(("learner", TUNE))
    return ConfigError(
        f"the file tunes {fields}, but it has no `study:`",
        field="learner.tune" if whole else dotted(tuned[0].path),
        value=DEFAULT if whole else item_at(merged.tree, tuned[0].path),
        allowed="a `study:` with a number of trials beside it",
        hint="add `study: {trials: 30}`, or write one value",
    )
