"""The identity of an experiment: a hash over everything that changes its results.

It has four parts. A difference under the same name has another consequence in each:

``training``    simulator, learner, width of training, checkpoints, code, threads, device: another
                experiment. Refused with the difference, unless ``--allow-change``.
``budget``      steps, episodes, max_time_s: may grow; finished trainings continue from their last
                checkpoint. It may not shrink, nor change its unit.
``evaluation``  episodes, seeds, lesson, which policy, baselines: evaluations are repeated.
``storing``     targets of the store phase: results are stored again.

Everything else (seeds, backend, resources.workers, tracking, report, limits) changes no result.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drillyard.documents.json_types import Json, JsonObject, as_object
from drillyard.errors import IdentityChanged
from drillyard.mailbox.records import Phase
from drillyard.spec import ExperimentSpec
from drillyard.system.lists import few

_MODULE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
_MISSING = "(missing)"
_IGNORE = (
    "; list a file that is not part of the program in .drillyardignore, so that it does not count "
    "again"
)
_NO_RESULT = ("copies_on", "return_range")
_FILES = 8
"""Files of code that a refusal names."""

Parts = dict[str, JsonObject]


@dataclass(frozen=True)
class Change:
    """One value that differs.

    Attributes:
        part: ``training``, ``budget``, ``evaluation``, ``storing``.
        field: Dotted path.
        before: Value in the experiment.
        now: Value in the file.
    """

    part: str
    field: str
    before: Json
    now: Json

    def __str__(self) -> str:
        return f"{self.field}: {_show(self.before)} -> {_show(self.now)}"


def parts(spec: ExperimentSpec, code: str | None) -> Parts:
    """What the comparison is based on, as JSON.

    Args:
        spec: The resolved experiment.
        code: sha256 of the code bundle.
    """
    whole = as_written(spec)
    train, resources = dict(as_object(whole["train"])), as_object(whole["resources"])
    budget = {name: train.pop(name, None) for name in ("steps", "episodes", "max_time_s")}
    for name in ("log_interval", "keep_checkpoints"):  # change no result
        train.pop(name, None)
    evaluation = dict(as_object(whole["evaluate"]))
    every = evaluation.pop("every")
    while_training: JsonObject = {"every": every}
    if every is not None:  # these choose the best policy, which is a result of training
        while_training |= {k: evaluation[k] for k in ("seeds", "deterministic", "lesson")}
    training: JsonObject = {
        "workload": spec.workload,
        "simulator": _same_anywhere(whole["simulator"]),
        "learner": whole["learner"],
        "train": train,
        "parameters": whole["parameters"],
        "threads": spec.resources.threads,
        "device": device(spec),
        "code": code,
        "requirements": [*sorted(spec.requirements)],
        "evaluate": while_training,
    }
    # Older experiments of other kinds did not record these.
    sections = ("script", "service", "mock", "children")
    training |= {k: whole[k] for k in sections if whole.get(k)}
    # Recorded only where they are not the default.
    numerics = ("precision", "deterministic", "runs_per_process")
    training |= {k: resources[k] for k in numerics if k in resources}
    evaluation["baselines"] = [*sorted(spec.baselines)]
    # Baselines are evaluated by the run of the first seed only.
    evaluation["baseline_seed"] = spec.seeds[0] if spec.baselines else None
    storing: JsonObject = {"store": whole["store"]}
    return {
        "training": training,
        "budget": budget,
        "evaluation": evaluation,
        "storing": storing,
    }


def _same_anywhere(simulator: Json) -> Json:
    """``simulator:`` without what changes no result."""
    if not isinstance(simulator, dict):
        return simulator
    return {name: value for name, value in simulator.items() if name not in _NO_RESULT}


def as_written(spec: ExperimentSpec) -> JsonObject:
    """The experiment as JSON, with references for the values of each run: ``out/${seed}``.

    So another list of seeds does not make another experiment.
    """
    whole = spec.model_dump(mode="json", by_alias=True)
    for late in spec.parameters.per_run or ():
        _replaced(whole, late.at, late.text)
    for child in whole["children"]:
        # As those of an experiment.
        for name in ("backend", "elsewhere", "workers", "seeds", "resources"):
            child.pop(name, None)
    del whole["parameters"]["per_run"]
    if not whole["parameters"]["tunable_values"]:
        del whole["parameters"]["tunable_values"]  # older experiments did not record it
    return whole


def identity(parts: Parts) -> str:
    """sha256 of the training part, hexadecimal."""
    text = json.dumps(parts["training"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def device(spec: ExperimentSpec) -> str:
    """The device that the file asks for. A worker measures what ``auto`` really gives.

    Returns:
        For ``auto``: ``cuda`` if GPUs are requested, else ``cpu``.
    """
    if spec.resources.device != "auto":
        return spec.resources.device
    return "cuda" if spec.resources.gpus else "cpu"


def needs_code(spec: ExperimentSpec) -> bool:
    """Whether an experiment uses anything from the user's folder.

    An ``rl`` experiment does if a value has the form ``module:Class``, or if its simulator is not
    an environment, because it may be a program in the folder. A ``mock`` never does. Other kinds
    of work always do.
    """
    if spec.workload == "mock":
        return False
    if spec.workload != "rl":
        return True
    if spec.files or (spec.simulator is not None and spec.simulator.agent is not None):
        return True
    if spec.learner is not None and spec.learner.clone_from is not None:
        return True  # the demonstrations are in the folder
    looked_at = spec.model_dump(
        mode="json",
        include={"simulator", "learner", "baselines", "parameters", "evaluate", "study"},
    )
    return any(_MODULE.match(text) for text in _texts(looked_at))


def difference(before: JsonObject, now: Parts) -> list[Change]:
    """Every value that differs, in the order of the parts.

    Args:
        before: From ``experiment.json``; parts and fields that an older version did not record
            are not compared.
        now: The parts of the file.
    """
    changes = []
    for part, values in now.items():
        if part in before:
            changes += [Change(part, *c) for c in _compare("", before[part], values)]
    return changes


def refuse(
    name: str,
    changes: list[Change],
    *,
    allow_change: bool = False,
    where: Callable[[str], str | None] = lambda _: None,
    code: Callable[[], Sequence[str]] = tuple,
) -> None:
    """Refuse to mix two experiments under one name.

    Args:
        name: The experiment.
        changes: From ``difference``.
        allow_change: The user allows another training.
        where: Field -> file and line of its value, where known.
        code: Returns the files of code that differ, as text; called only if the code differs.

    Raises:
        IdentityChanged: Training differs, or the budget shrank or changed its unit.
    """
    training = [c for c in changes if c.part == "training"]
    of_code = any(c.field == "code" for c in training)
    if training and not allow_change:
        raise IdentityChanged(
            f"experiment {name!r} exists with other settings:\n"
            + "\n".join(f"  {_plain(c, code)}{_at(where(c.field))}" for c in training),
            hint="choose a new name (--set name=…), or continue from the last checkpoints with "
            "the new settings: --allow-change" + _IGNORE * of_code,
        )
    smaller = [c for c in changes if c.part == "budget" and not _grew(c)]
    if smaller:
        raise IdentityChanged(
            f"experiment {name!r}: its budget can grow, but not shrink or change its unit:\n"
            + "\n".join(f"  train.{c}{_at(where(f'train.{c.field}'))}" for c in smaller),
            hint="choose a new name (--set name=…)",
        )


def first_to_repeat(changes: list[Change]) -> Phase | None:
    """The first phase whose accepted results no longer fit; None if all fit.

    An allowed change of training repeats nothing: finished results stay as they are.
    """
    touched = {c.part for c in changes}
    if "budget" in touched:
        return Phase.TRAIN
    if "evaluation" in touched:
        return Phase.EVALUATE
    return Phase.STORE if "storing" in touched else None


def _at(place: str | None) -> str:
    return f"  ({place})" if place else ""


def _plain(change: Change, code: Callable[[], Sequence[str]]) -> str:
    if change.field == "code":
        files = list(code())
        named = f": {few(files, _FILES)}" if files else ""
        return f"the code in the experiment's folder changed{named}"
    return str(change)


def _grew(change: Change) -> bool:
    before, now = change.before, change.now
    if change.field == "max_time_s" and now is None:
        return True  # without a limit there is more time
    return isinstance(before, int | float) and isinstance(now, int | float) and now > before


def _compare(path: str, before: Json, now: Json) -> list[tuple[str, Json, Json]]:
    if isinstance(before, dict) and isinstance(now, dict):
        changes = []
        for key in sorted({*before, *now}):
            below = f"{path}.{key}" if path else key
            changes += _compare(below, before.get(key, _MISSING), now.get(key, _MISSING))
        return changes
    return [] if before == now else [(path, before, now)]


def _show(value: Json, limit: int = 120) -> str:
    text = value if value == _MISSING else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _replaced(tree: Json, path: Sequence[str | int], value: str) -> Json:
    """The tree with another value at a path that exists in it."""
    if not path:
        return value
    first, *rest = path
    if isinstance(tree, dict) and isinstance(first, str):
        tree |= {first: _replaced(tree[first], rest, value)}
    elif isinstance(tree, list) and isinstance(first, int):
        tree[first] = _replaced(tree[first], rest, value)
    return tree


def _texts(value: Json) -> list[str]:
    if isinstance(value, dict):
        return [t for v in value.values() for t in _texts(v)]
    if isinstance(value, list):
        return [t for v in value for t in _texts(v)]
    return [value] if isinstance(value, str) else []
