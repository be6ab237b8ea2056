"""The forms of a lesson's key, checked and turned into draws.

{min: 0, max: 20}                         a float, uniform between the two
{min: 1, max: 1000, log: true}            the same for its logarithm
{min: 1, max: 6, int: true}               an integer, both ends included; also with log
{values: [1, 2, 3]}                       one of them, each as likely
{values: [1, 2], weights: [3, 1]}         one of them, the first three times as likely
{normal: {mean: 5, std: 1}, min: 3}       normal; what is below min or above max never comes
7, "text", true                           always this
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError

FORMS = "{min, max} (with log, int), {values} (with weights), {normal: {mean, std}} or a constant"
_RANGE = ("min", "max", "log", "int")
_CHOICE = ("values", "weights")
_NORMAL = ("normal", "min", "max")


class Rule(Protocol):
    """Draws the value of one reset key."""

    def draw(self, rng: np.random.Generator) -> Json:
        """A value, as the simulator's ``reset(options=…)`` is given it."""


@dataclass(frozen=True)
class Always:
    """A constant."""

    value: Json

    def draw(self, rng: np.random.Generator) -> Json:
        """The constant."""
        return self.value


@dataclass(frozen=True)
class Range:
    """Uniform between two numbers."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def draw(self, rng: np.random.Generator) -> float | int:
        """A float in [low, high], or an integer with both ends."""
        if not self.log:
            if self.integer:
                return int(rng.integers(int(self.low), int(self.high) + 1))
            return float(rng.uniform(self.low, self.high))
        top = self.high + 1 if self.integer else self.high
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(top)))
        drawn = min(max(drawn, self.low), self.high)  # exp(log(x)) may miss x by an ulp
        return math.floor(drawn) if self.integer else drawn


@dataclass(frozen=True)
class Choice:
    """One of a list."""

    values: tuple[Json, ...]
    weights: tuple[float, ...] | None = None

    def draw(self, rng: np.random.Generator) -> Json:
        """A value of the list."""
        if self.weights is None:
            return self.values[int(rng.integers(len(self.values)))]
        total = math.fsum(self.weights)
        return self.values[int(rng.choice(len(self.values), p=[w / total for w in self.weights]))]


@dataclass(frozen=True)
class Normal:
    """A normal distribution, cut at its ends where these are given."""

    mean: float
    std: float
    low: float = -math.inf
    high: float = math.inf

    def draw(self, rng: np.random.Generator) -> float:
        """By inversion of the distribution function, so that a cut one needs one draw too."""
        a, b = self.mass()
        share = min(max(rng.uniform(a, b), math.ulp(0.0)), 1.0 - 2**-53)
        drawn = NormalDist(self.mean, self.std).inv_cdf(share)
        return float(min(max(drawn, self.low), self.high))

    def mass(self) -> tuple[float, float]:
        """Distribution function at both ends."""
        curve = NormalDist(self.mean, self.std)
        return curve.cdf(self.low), curve.cdf(self.high)


def read_rule(rule: Json, where: str) -> Rule:
    """Check what a key of a lesson says.

    Args:
        rule: As written.
        where: Dotted path of the key.

    Raises:
        ConfigError: None of the forms above; names the key.
    """
    wrong = partial(ConfigError, field=where, value=rule)
    if isinstance(rule, Mapping):
        if "values" in rule:
            return _choice(rule, where)
        return _normal(rule, where) if "normal" in rule else _range(rule, where)
    if isinstance(rule, list | tuple):
        hint = f"write {{values: {list(rule)}}} to draw one of them"
        raise wrong("a plain list is ambiguous", allowed=FORMS, hint=hint)
    if isinstance(rule, float):
        _finite(rule, where)
    return Always(rule)


def _range(rule: Mapping[str, Json], where: str) -> Range:
    wrong = partial(ConfigError, field=where, value=dict(rule))
    if not {"min", "max"} <= set(rule):
        unknown = sorted(str(name) for name in rule if name not in _RANGE)
        raise wrong(
            f"unknown form with {', '.join(unknown or map(str, rule)) or 'nothing'}",
            allowed=FORMS,
            hint="write {min: 0, max: 1} with both ends, {values: [1, 2]}, or "
            "{normal: {mean: 0, std: 1}}",
        )
    _only(rule, _RANGE, where)
    low, high = _number(rule, "min", where), _number(rule, "max", where)
    if low > high:
        raise wrong("min is larger than max", allowed="min below max", hint="swap the two")
    log, integer = _flag(rule, "log", where), _flag(rule, "int", where)
    if log and low <= 0:
        raise ConfigError(
            "has no logarithm",
            field=f"{where}.min",
            value=low,
            allowed="above 0 with log: true",
            hint="remove `log`",
        )
    for end, number in (("min", low), ("max", high)):
        if integer and number != int(number):
            raise ConfigError(
                "is not an integer",
                field=f"{where}.{end}",
                value=number,
                allowed="an integer with int: true",
                hint="round it",
            )
    return Range(low, high, log, integer)


def _choice(rule: Mapping[str, Any], where: str) -> Choice:
    wrong = partial(ConfigError, field=where, allowed=FORMS)
    if set(rule) & {"min", "max", "normal"}:
        message = "has `values` and another form at once"
        raise wrong(message, value=dict(rule), hint="keep one of the two")
    _only(rule, _CHOICE, where)
    values = rule["values"]
    if not isinstance(values, list | tuple) or not values:
        message = "`values` is a list of at least one"
        raise wrong(message, value=values, hint="write {values: [1, 2]}")
    if "weights" not in rule:
        return Choice(tuple(values))
    weights = rule["weights"]
    good = isinstance(weights, list | tuple) and all(
        isinstance(w, int | float) and not isinstance(w, bool) and 0 <= w < math.inf
        for w in weights
    )
    if not good or len(weights) != len(values) or not math.fsum(weights) > 0:
        raise ConfigError(
            "must fit the values",
            field=f"{where}.weights",
            value=weights,
            allowed=f"{len(values)} numbers of 0 and above, not all 0",
            hint="write one weight for each value: {values: [1, 2], weights: [3, 1]}",
        )
    return Choice(tuple(values), tuple(float(w) for w in weights))


def _normal(rule: Mapping[str, Json], where: str) -> Normal:
    _only(rule, _NORMAL, where)
    inner, place = rule["normal"], f"{where}.normal"
    if not isinstance(inner, Mapping) or set(inner) != {"mean", "std"}:
        raise ConfigError(
            "needs mean and std",
            field=place,
            value=inner,
            allowed="{mean, std}",
            hint="write {mean: 0, std: 1}",
        )
    mean, std = _number(inner, "mean", place), _number(inner, "std", place)
    if std <= 0:
        raise ConfigError(
            "is not positive",
            field=f"{place}.std",
            value=std,
            allowed="above 0",
            hint="write a constant for no spread",
        )
    low = _number(rule, "min", where) if "min" in rule else -math.inf
    high = _number(rule, "max", where) if "max" in rule else math.inf
    drawn = Normal(mean, std, low, high)
    a, b = drawn.mass()
    if not b - a > 1e-9:
        raise ConfigError(
            "almost no value is between min and max",
            field=where,
            value=dict(rule),
            allowed="ends within some standard deviations of the mean",
            hint="move the mean, or write {min, max} alone",
        )
    return drawn


def _only(rule: Mapping[str, Json], known: Collection[str], where: str) -> None:
    for name in rule:
        if name not in known:
            raise ConfigError(
                "unknown form",
                field=f"{where}.{name}",
                value=rule[name],
                allowed=f"{', '.join(known)} here; all forms: {FORMS}",
                keys=known,
            )


def _number(rule: Mapping[str, Json], name: str, where: str) -> float:
    number = rule[name]
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ConfigError(
            "a number is expected",
            field=f"{where}.{name}",
            value=number,
            allowed="a finite number",
            hint="write no quotes",
        )
    return _finite(number, f"{where}.{name}")


def _finite(number: float, where: str) -> float:
    if not math.isfinite(number):
        raise ConfigError(
            "not a finite number",
            field=where,
            value=number,
            allowed="a finite number",
            hint="write a finite number",
        )
    return number


def _flag(rule: Mapping[str, Json], name: str, where: str) -> bool:
    value = rule.get(name, False)
    if not isinstance(value, bool):
        raise ConfigError(
            "is true or false",
            field=f"{where}.{name}",
            value=value,
            allowed="true, false",
            hint="remove it for false",
        )
    return value
