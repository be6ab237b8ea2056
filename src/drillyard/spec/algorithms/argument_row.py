"""A row of the table of arguments, and short forms to write one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drillyard.documents.json_types import Json, JsonObject
from drillyard.spec.algorithms.argument_rules import Rule


@dataclass(frozen=True)
class Argument:
    """An argument of Stable-Baselines3's or sb3-contrib's algorithms.

    Args:
        meaning: What it does, for people.
        rule: The values that it takes.
        defaults: Algorithm that has it -> its default.
        unit: The unit of its values.
        searched: Algorithm -> what a file would say to tune it, for ``tune: default``.
        ignored: Engine -> algorithms that lack it there, or take it and do not use it.
        kept: Algorithms for which it decides what a checkpoint holds.
        in_steps: Whether a file can write it as a number of steps: ``50k``.
        in_trial: Its highest value in a trial training, which a higher one would only prolong.
    """

    meaning: str
    rule: Rule
    defaults: Mapping[str, Any]
    unit: str = ""
    searched: Mapping[str, JsonObject] = field(default_factory=dict)
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    in_steps: bool = False
    in_trial: int | None = None


def of(*groups: tuple[tuple[str, ...] | str, Any]) -> dict[str, Any]:
    """Returns algorithm -> value; a later group wins.

    Args:
        *groups: Names of algorithms, and their value.
    """
    return {
        name: value
        for names, value in groups
        for name in ((names,) if isinstance(names, str) else names)
    }


def between(low: float, high: float, *, log: bool = False) -> JsonObject:
    """Returns what a file writes to tune an argument in a range."""
    return {"tune": [low, high], "log": True} if log else {"tune": [low, high]}


def choices(*values: Json) -> JsonObject:
    """Returns what a file writes to tune an argument over some values."""
    return {"tune": {"choices": list(values)}}
