"""Tunables as Optuna's parameters, or SMAC's, and back.

A number is a number (by magnitude where it is ``log``), a category a category. ``bins`` become the
number of the bin. A tunable with special values gets a second parameter ``name:special`` that says
which of them, or ``range``. Weights and distributions say how chance draws; a model replaces them
by what it learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from drillyard.spec.tunables import Space, Tunable

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace
    from optuna.distributions import BaseDistribution

RANGE = "range"


class Suggesting(Protocol):
    """Optuna's trial, as far as it is asked here."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""


def suggest(space: Space, trial: Suggesting) -> dict[str, Any]:
    """An assignment as a model suggests it."""
    return {name: _suggest(name, tunable, trial) for name, tunable in space.tunables.items()}


def _suggest(name: str, tunable: Tunable, trial: Suggesting) -> Any:
    if tunable.values is not None:
        return tunable.take(name, trial.suggest_categorical(name, tunable.values))
    if tunable.special:
        choices = [RANGE, *map(str, tunable.special)]
        chosen = trial.suggest_categorical(f"{name}:special", choices)
        if chosen != RANGE:
            return tunable.take(name, tunable.special[choices.index(chosen) - 1])
    assert tunable.range is not None
    low, high = tunable.range
    if tunable.bins is not None:
        return tunable.bin(trial.suggest_int(name, 0, tunable.bins - 1))
    if tunable.type == "int":
        return trial.suggest_int(name, int(low), int(high), log=tunable.log)
    return float(trial.suggest_float(name, low, high, log=tunable.log))


def params(
    space: Space, assignment: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Optuna's parameters of an assignment, and their distributions."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    values: dict[str, Any] = {}
    shapes: dict[str, BaseDistribution] = {}
    for name, tunable in space.tunables.items():
        value = assignment[name]
        if tunable.values is not None:
            values[name], shapes[name] = value, CategoricalDistribution(tunable.values)
            continue
        assert tunable.range is not None
        low, high = tunable.range
        if tunable.special:
            texts = [str(s) for s in tunable.special]
            here = next(
                (t for t, s in zip(texts, tunable.special, strict=True) if s == value), None
            )
            values[f"{name}:special"] = here or RANGE
            shapes[f"{name}:special"] = CategoricalDistribution([RANGE, *texts])
            if here is not None:
                continue
        if tunable.bins is not None:
            values[name] = min(range(tunable.bins), key=lambda n: abs(tunable.bin(n) - value))
            shapes[name] = IntDistribution(0, tunable.bins - 1)
        elif tunable.type == "int":
            values[name] = value
            shapes[name] = IntDistribution(int(low), int(high), log=tunable.log)
        else:
            values[name] = value
            shapes[name] = FloatDistribution(low, high, log=tunable.log)
    return values, shapes


class Given:
    """Answers with the values of a configuration of SMAC's; of a category it has the place.

    Args:
        values: By name.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
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
    """SMAC's space: categories by their places, ``name`` only where ``name:special`` is none."""
    from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer

    found = ConfigurationSpace()
    for name, tunable in space.tunables.items():
        if tunable.values is not None:
            found.add(Categorical(name, _places(tunable.values)))
            continue
        assert tunable.range is not None
        low, high = tunable.range
        if tunable.bins is not None:
            made = Integer(name, (0, tunable.bins - 1))
        elif tunable.type == "int":
            made = Integer(name, (int(low), int(high)), log=tunable.log)
        else:
            made = Float(name, (float(low), float(high)), log=tunable.log)
        found.add(made)
        if tunable.special:
            which = Categorical(f"{name}:special", _places([RANGE, *tunable.special]))
            found.add(which)
            found.add(EqualsCondition(made, which, "0"))
    return found


def configured(
    space: Space, known: ConfigurationSpace, assignment: dict[str, Any]
) -> Configuration:
    """An assignment as a configuration of SMAC's."""
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


def _places(values: Sequence[Any]) -> list[str]:
    return [str(place) for place, _ in enumerate(values)]
