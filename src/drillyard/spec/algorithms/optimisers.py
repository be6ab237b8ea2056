"""Checks of an optimiser's settings, without torch.

Source of the ranges: the constructors in ``torch.optim`` of torch 2.13, which raise for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from drillyard.errors import ConfigError, nearest
from drillyard.spec.algorithms.signatures import OPTIMISER_SETTINGS, OPTIMISERS, class_name

_SWITCHES = frozenset(
    {
        "amsgrad",
        "decoupled_weight_decay",
        "capturable",
        "fused",
        "nesterov",
        "centered",
        "foreach",
        "maximize",
        "differentiable",
    }
)
_PAIRS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "betas": ("two numbers of at least 0 and below 1", lambda a, b: 0 <= a < 1 and 0 <= b < 1),
    "etas": ("one number between 0 and 1, and one above 1", lambda a, b: 0 < a < 1 < b),
    "step_sizes": ("two numbers above 0, the smaller one first", lambda a, b: 0 < a <= b),
}
"""Setting of an optimiser -> its values in words, and as a condition."""
_NOT_NEGATIVE = frozenset(
    {
        "eps",
        "weight_decay",
        "momentum",
        "momentum_decay",
        "alpha",
        "rho",
        "lr_decay",
        "initial_accumulator_value",
    }
)
"""Settings of optimisers for which torch refuses a number below 0."""


def problems(field: str, name: Any, given: Mapping[str, Any]) -> Iterator[ConfigError]:
    """What cannot work in ``optimizer_kwargs``.

    Args:
        field: Where they are, in the experiment file.
        name: ``optimizer_class``; a class of the user's own takes anything.
        given: Settings by name.
    """
    known = OPTIMISER_SETTINGS.get(str(class_name(name, OPTIMISERS)))
    for key in given if known is not None else ():
        if key not in (known or ()):
            yield ConfigError(
                f"{name} has no such setting",
                field=f"{field}.{key}",
                value=given[key],
                allowed=", ".join(known or ()),
                hint="write learner.args.learning_rate"
                if key == "lr"
                else nearest(str(key), list(known or ())),
            )
        else:
            yield from _setting(f"{field}.{key}", key, given[key])


def _setting(field: str, name: str, value: Any) -> Iterator[ConfigError]:
    """What torch would refuse when the run has begun, or take and then fail on."""
    if name in _SWITCHES:
        allowed, good = "true, false", isinstance(value, bool)
        if name in ("foreach", "fused"):
            allowed, good = f"{allowed}, null", good or value is None
    elif name in _PAIRS:
        allowed, fits = _PAIRS[name]
        good = isinstance(value, list | tuple) and len(value) == 2
        good = good and all(_finite(each) for each in value) and fits(*value)
    else:
        most = 1.0 if name == "rho" else math.inf
        least = 0.0 if name in _NOT_NEGATIVE else -math.inf
        good = _finite(value) and least <= value <= most
        allowed = (
            "a number from 0 to 1"
            if name == "rho"
            else ("a finite number" + (" of at least 0" if name in _NOT_NEGATIVE else ""))
        )
    if not good:
        yield ConfigError(
            "is not a value for this setting of the optimiser",
            field=field,
            value=value,
            allowed=allowed,
            hint="leave it out to take torch's default",
        )


def _finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
