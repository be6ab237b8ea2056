"""Tunables as Optuna's parameters, and back.

A number is a number (by magnitude where it is ``log``), a category a category. ``bins`` become the
number of the bin. A tunable with special values gets a second parameter ``name:special`` that says
which of them, or ``range``. Weights and distributions say how chance draws; a model replaces them
by what it learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drillyard.tunables import Space, Tunable

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

RANGE = "range"


def suggest(space: Space, trial: Trial) -> dict[str, Any]:
    """An assignment as a model suggests it."""
    return {name: _suggest(name, tunable, trial) for name, tunable in space.tunables.items()}


def _suggest(name: str, tunable: Tunable, trial: Trial) -> Any:
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
