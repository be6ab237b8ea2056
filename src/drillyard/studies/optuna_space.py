"""Converts tunables to parameters of Optuna or SMAC, and back.

A number remains a number (on a log scale if it is ``log``), and a category a category. ``bins``
become the number of the bin. A tunable with special values gets a second parameter
``name:special``, which is one of them or ``range``. Weights and distributions are only for random
draws; a model replaces them by what it learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from drillyard.documents.json_types import Json, JsonObject
from drillyard.mailbox.status import Status
from drillyard.spec.study import ObjectiveSpec
from drillyard.spec.tunables import Space, Tunable

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace
    from optuna.distributions import BaseDistribution
    from optuna.trial import TrialState

RANGE = "range"
Category: TypeAlias = bool | int | float | str | None
"""A choice of a categorical parameter."""


class Suggesting(Protocol):
    """The part of Optuna's trial that is used here."""

    def suggest_categorical(self, name: str, choices: Sequence[Category]) -> Category:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""


def suggest(space: Space, trial: Suggesting) -> JsonObject:
    """The assignment that a model suggests."""
    return {name: _suggest(name, tunable, trial) for name, tunable in space.tunables.items()}


def _suggest(name: str, tunable: Tunable, trial: Suggesting) -> Json:
    value: Json
    if tunable.values is not None:
        value = tunable.take(name, trial.suggest_categorical(name, tunable.values))
        return value
    if tunable.special:
        choices: list[Category] = [RANGE, *map(str, tunable.special)]
        chosen = trial.suggest_categorical(_special(name), choices)
        if chosen != RANGE:
            value = tunable.take(name, tunable.special[choices.index(chosen) - 1])
            return value
    assert tunable.range is not None
    low, high = tunable.range
    if tunable.bins is not None:
        value = tunable.bin(trial.suggest_int(name, 0, tunable.bins - 1))
        return value
    if tunable.type == "int":
        return trial.suggest_int(name, int(low), int(high), log=tunable.log)
    return float(trial.suggest_float(name, low, high, log=tunable.log))


def shapes(space: Space) -> dict[str, BaseDistribution]:
    """The distribution of each parameter of Optuna."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    by_name: dict[str, BaseDistribution] = {}
    for name, tunable in space.tunables.items():
        if tunable.values is not None:
            by_name[name] = CategoricalDistribution(tunable.values)
            continue
        assert tunable.range is not None
        low, high = tunable.range
        if tunable.special:
            by_name[_special(name)] = CategoricalDistribution([RANGE, *map(str, tunable.special)])
        if tunable.bins is not None:
            by_name[name] = IntDistribution(0, tunable.bins - 1)
        elif tunable.type == "int":
            by_name[name] = IntDistribution(int(low), int(high), log=tunable.log)
        else:
            by_name[name] = FloatDistribution(low, high, log=tunable.log)
    return by_name


def params(
    space: Space, assignment: Mapping[str, Json]
) -> tuple[JsonObject, dict[str, BaseDistribution]]:
    """The parameters of Optuna for an assignment, and their distributions."""
    values: JsonObject = {}
    for name, tunable in space.tunables.items():
        value = assignment[name]
        if tunable.special:
            texts = [str(s) for s in tunable.special if s == value]
            values[_special(name)] = texts[0] if texts else RANGE
            if texts:
                continue
        bins = tunable.bins
        values[name] = value if bins is None else _nearest_bin(tunable, bins, value)
    known = shapes(space)
    return values, {name: known[name] for name in values}


def _special(name: str) -> str:
    return f"{name}:special"


class Given:
    """Returns the values of a configuration of SMAC, in which a category is a position.

    Args:
        values: Name -> value.
    """

    def __init__(self, values: Mapping[str, str | float]) -> None:
        self._values = values

    def suggest_categorical(self, name: str, choices: Sequence[Category]) -> Category:
        """See ``Suggesting``."""
        return choices[int(self._values[name])]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """See ``Suggesting``."""
        del log
        return min(max(int(self._values[name]), low), high)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """See ``Suggesting``."""
        del log
        return min(max(float(self._values[name]), low), high)


def configurations(space: Space) -> ConfigurationSpace:
    """The space of SMAC: categories by position, ``name`` only without a ``name:special``."""
    from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    parameters: dict[str, Any] = {}
    for name, shape in shapes(space).items():
        if isinstance(shape, CategoricalDistribution):
            places = [str(place) for place, _ in enumerate(shape.choices)]
            parameters[name] = Categorical(name, places)
        elif isinstance(shape, IntDistribution):
            parameters[name] = Integer(name, (shape.low, shape.high), log=shape.log)
        elif isinstance(shape, FloatDistribution):
            parameters[name] = Float(name, (shape.low, shape.high), log=shape.log)
    configuration_space = ConfigurationSpace()
    for name in space.tunables:
        configuration_space.add(parameters[name])
        if which := parameters.get(_special(name)):
            configuration_space.add(which)
            configuration_space.add(EqualsCondition(parameters[name], which, "0"))
    return configuration_space


def configured(
    space: Space, known: ConfigurationSpace, assignment: Mapping[str, Json]
) -> Configuration:
    """An assignment as a configuration of SMAC."""
    from ConfigSpace import Configuration

    values, shapes = params(space, assignment)
    for name, shape in shapes.items():
        choices = getattr(shape, "choices", None)
        if choices is not None:
            value = values[name]
            values[name] = str(
                next(
                    place
                    for place, choice in enumerate(choices)
                    if type(choice) is type(value) and choice == value
                )
            )
    return Configuration(known, values=values)


def _nearest_bin(tunable: Tunable, bins: int, value: Json) -> int:
    assert isinstance(value, int | float)
    return min(range(bins), key=lambda number: abs(tunable.bin(number) - value))


def result(
    status: Status, values: Mapping[str, float], objectives: Sequence[ObjectiveSpec]
) -> tuple[TrialState, list[float] | None]:
    """(state of a trial, its values) for Optuna; a trial without all values has failed."""
    from optuna.trial import TrialState

    if status is Status.PRUNED:
        return TrialState.PRUNED, None
    measured = [values[o.name] for o in objectives if o.name in values]
    if status is Status.SUCCEEDED and len(measured) == len(objectives):
        return TrialState.COMPLETE, measured
    return TrialState.FAIL, None
