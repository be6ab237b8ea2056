"""Lessons: what the keys of ``reset(options=…)`` are drawn from at each episode.

A lesson is a mapping from reset key to one of

    {min: 0, max: 20}      a float, uniform between the two
    {values: [1, 2, 3]}    one of them, each as likely
    7, "text", true        always this

A draw is a pure function of (seed, copy, episode), so that a resume needs the episode counter
only and copies never share their draws.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from drillyard.errors import ConfigError
from drillyard.registry import nearest

Lesson = Mapping[str, Any]
_FORMS = "{min, max}, {values: […]} or a constant"


def validate_lesson(
    lesson: Lesson, known_keys: Collection[str] | None = None, field: str = "simulator.lesson"
) -> None:
    """Check a lesson before anything runs.

    Args:
        lesson: Reset key -> what to draw.
        known_keys: Keys that the simulator's reset understands; None when it does not say.
        field: Where the lesson stands in the experiment file.

    Raises:
        ConfigError: A form other than the three, both forms at once, a range upside down, or a
            key that the simulator does not know; names the key.
    """
    for key, rule in lesson.items():
        where = f"{field}.{key}"
        if known_keys is not None and key not in known_keys:
            raise ConfigError(
                f"the simulator has no reset key {key!r}",
                field=where,
                allowed=", ".join(sorted(known_keys)) or "none",
                hint=nearest(key, sorted(known_keys)),
            )
        if isinstance(rule, Mapping):
            _validate_rule(rule, where)
        elif isinstance(rule, list | tuple):
            raise ConfigError(
                "a list alone is ambiguous", field=where, value=rule, allowed=_FORMS,
                hint=f"write {{values: {list(rule)}}} to draw one of them",
            )  # fmt: skip
        elif isinstance(rule, float) and not math.isfinite(rule):
            raise ConfigError("not a finite number", field=where, value=rule,
                              allowed="a finite number", hint="write a finite number")  # fmt: skip


def _validate_rule(rule: Mapping[str, Any], where: str) -> None:
    names = set(rule)
    if "values" in names and names & {"min", "max"}:
        raise ConfigError(
            "has `values` and `min`/`max` at once", field=where, value=dict(rule), allowed=_FORMS,
            hint="keep one of the two",
        )  # fmt: skip
    if names == {"values"}:
        values = rule["values"]
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError("`values` is a list of at least one", field=where, value=values,
                              allowed=_FORMS, hint="write {values: [1, 2]}")  # fmt: skip
        return
    if names != {"min", "max"}:
        raise ConfigError(
            f"unknown form with {', '.join(sorted(map(str, names))) or 'nothing'}",
            field=where, value=dict(rule), allowed=_FORMS,
            hint="write {min: 0, max: 1} with both ends, or {values: [1, 2]}",
        )  # fmt: skip
    for end in ("min", "max"):
        number = rule[end]
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ConfigError("a number is expected", field=f"{where}.{end}", value=number,
                              allowed="a finite number", hint="write no quotes")  # fmt: skip
        if not math.isfinite(number):
            raise ConfigError("not a finite number", field=f"{where}.{end}", value=number,
                              allowed="a finite number", hint="write a finite number")  # fmt: skip
    if rule["min"] > rule["max"]:
        raise ConfigError(
            "min is larger than max",
            field=where,
            value=dict(rule),
            allowed="min below max",
            hint="swap the two",
        )


def draw(lesson: Lesson, seed: int, copy: int, episode: int) -> dict[str, Any]:
    """The reset values of one training episode.

    Args:
        lesson: A valid lesson.
        seed: Seed of the run (or of the last seeded reset).
        copy: Index of the simulator's copy, from 0.
        episode: Episodes that this copy has begun before, from 0.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, copy, episode]))
    # In the order of the names, so that the order in a file changes nothing.
    return {key: _draw_one(lesson[key], rng) for key in sorted(lesson)}


def draw_in_order(lesson: Lesson, seed: int, episode: int) -> dict[str, Any]:
    """The reset values of one evaluation episode: ``values`` are gone through in order.

    With several lists every combination comes, the first key of the file changing fastest.

    Args:
        lesson: A valid lesson.
        seed: Of the evaluation, for what is drawn from a range.
        episode: Index of the episode, from 0.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, episode]))
    drawn = {key: _draw_one(lesson[key], rng) for key in sorted(lesson) if not listed(lesson[key])}
    rest = episode
    for key, rule in lesson.items():
        if listed(rule):
            rest, index = divmod(rest, len(rule["values"]))
            drawn[key] = rule["values"][index]
    return drawn


def listed(rule: Any) -> bool:
    """True for ``{values: […]}``."""
    return isinstance(rule, Mapping) and "values" in rule


def _draw_one(rule: Any, rng: np.random.Generator) -> Any:
    if not isinstance(rule, Mapping):
        return rule
    if "values" in rule:
        return rule["values"][int(rng.integers(len(rule["values"])))]
    return float(rng.uniform(rule["min"], rule["max"]))
