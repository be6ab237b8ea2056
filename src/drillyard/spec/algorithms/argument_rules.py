"""The rules for single arguments in ``learner.args``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeGuard

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, nearest
from drillyard.spec.algorithms import schedules
from drillyard.spec.algorithms.signatures import NOISES

MAX_WIDTH = 65_536
Checks = Iterator[ConfigError]
Check = Callable[[str, Json], Checks]


@dataclass(frozen=True)
class Rule:
    """The values that an argument takes.

    Args:
        check: Yields what is wrong with the value of a field.
        span: The values, in the words of files that people read.
        whole: Whether they are whole numbers.
        scheduled: Whether the name of a schedule is one of them.
    """

    check: Check
    span: str
    whole: bool = False
    scheduled: bool = False


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
    also: Mapping[Json, str] | None = None,
) -> Rule:
    """Returns the rule for a finite number.

    Args:
        low: The smallest one.
        high: The largest one.
        open_low: Whether ``low`` itself is refused.
        also: Other values, and what each one means.
    """
    others = also or {}
    allowed = _span(low, high, open_low) + "".join(f" or {value!r}" for value in others)
    least, most = (-math.inf if low is None else low), (math.inf if high is None else high)

    def check(field: str, value: Json) -> Checks:
        wrong = partial(ConfigError, field=field, value=value, allowed=allowed)
        if value in [*others]:
            return
        if not _is_number(value):
            yield wrong("is not a number", hint=_unquote(value))
        elif not math.isfinite(value):
            yield wrong("is not finite")
        elif not least <= value <= most or (open_low and value == low):
            yield wrong("is out of range")

    return Rule(check, "; ".join([_ends(low, high, open_low), *_meanings(others)]))


def _ends(low: float | None, high: float | None, open_low: bool) -> str:
    """The range in the words of files that people read."""
    if low is None:
        return "any number" if high is None else f" to {high:g}"
    if open_low:
        return f"above {low:g}" + (f", to {high:g}" if high is not None else "")
    return f"{low:g} to {high:g}" if high is not None else f"{low:g} or more"


def _meanings(others: Mapping[Json, str]) -> list[str]:
    return [f"{value}: {meaning}" for value, meaning in others.items()]


def _span(low: float | None, high: float | None, open_low: bool) -> str:
    if low is not None and high is not None:
        return f"a number {'above' if open_low else 'from'} {low:g} to {high:g}"
    if low is not None:
        return f"a finite number {'above' if open_low else 'of at least'} {low:g}"
    return "a finite number"


def _unquote(value: Json) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        float(value)
    except ValueError:
        return None
    return f"write {value} without quotes"


def whole(low: int, also: Mapping[Json, str] | None = None, *, limit: str = "") -> Rule:
    """Returns the rule for a whole number.

    Args:
        low: The smallest one.
        also: Other values, and what each one means.
        limit: What else bounds it, which other checks see to.
    """
    others = also or {}
    allowed = f"a whole number of at least {low}" + "".join(f" or {value!r}" for value in others)

    def check(field: str, value: Json) -> Checks:
        wrong = partial(ConfigError, field=field, value=value, allowed=allowed)
        if value in [*others]:
            return
        if not (_is_number(value) and math.isfinite(value) and float(value).is_integer()):
            yield wrong("is not a whole number", hint=_unquote(value))
        elif value < low:
            yield wrong("is too small")
        elif value > 2**53:
            yield wrong("is too large")

    span = f"{low} or more" + (f", {limit}" if limit else "")
    return Rule(check, "; ".join([span, *_meanings(others)]), whole=True)


def or_null(rule: Rule, meaning: str) -> Rule:
    """Returns a rule that takes null too.

    Args:
        rule: For all other values.
        meaning: What null means.
    """

    def check(field: str, value: Json) -> Checks:
        if value is not None:
            for error in rule.check(field, value):
                yield error.but(allowed=f"{error.allowed} or null")

    return replace(rule, check=check, span=f"{rule.span}; null: {meaning}")


def _flag(field: str, value: Json) -> Checks:
    if not isinstance(value, bool):
        yield ConfigError("is not true or false", field=field, value=value, allowed="true, false")


def one_of(*words: str) -> Check:
    """Returns the check for one of some words."""

    def check(field: str, value: Json) -> Checks:
        if value not in words:
            yield ConfigError("is not in the list", field=field, value=value, known=words)

    return check


def widths(field: str, value: Json) -> Checks:
    """Checks a list of the widths of layers."""
    if not isinstance(value, list | tuple):
        yield ConfigError("is not a list of widths", field=field, value=value, allowed="[64, 64]")
        return
    sizes = [w for w in value if isinstance(w, int) and not isinstance(w, bool) and w > 0]
    if len(sizes) < len(value):
        yield ConfigError(
            "has a layer without a positive width",
            field=field,
            value=value,
            allowed="whole numbers of at least 1",
            hint="for example [64, 64]",
        )
    elif max(sizes, default=0) > MAX_WIDTH:
        yield ConfigError(f"has a layer wider than {MAX_WIDTH}", field=field, value=value)


def _entropy(field: str, value: Json) -> Checks:
    if isinstance(value, str):
        start = value.removeprefix("auto").removeprefix("_")
        try:
            good = value.startswith("auto") and (not start or float(start) > 0)
        except ValueError:
            good = False
        if not good:
            yield ConfigError(
                "is not an entropy coefficient",
                field=field,
                value=value,
                allowed="a number, 'auto' or 'auto_<start>'",
            )
    else:
        yield from _NOT_NEGATIVE(field, value)


def _train_freq(field: str, value: Json) -> Checks:
    pair = value if isinstance(value, list | tuple) else (value, "step")
    count, unit = pair if len(pair) == 2 else (None, None)
    counts = isinstance(count, int) and not isinstance(count, bool) and count >= 1
    if not counts or unit not in ("step", "episode"):
        yield ConfigError(
            "is not a training frequency",
            field=field,
            value=value,
            allowed="a number of steps, or [number, step|episode]",
        )


def _noise(field: str, value: Json) -> Checks:
    known = {"name", "sigma", "theta", "dt"}
    given = {"name": value} if isinstance(value, str) else value
    if value is None:
        return
    if not isinstance(given, Mapping) or given.get("name") not in NOISES:
        name = given.get("name") if isinstance(given, Mapping) else value
        yield ConfigError(
            "is not an action noise",
            field=field,
            value=value,
            allowed=f"{', '.join(NOISES)}, or {{name, sigma}}",
            hint=nearest(name, list(NOISES)) if isinstance(name, str) else None,
        )
        return
    for key in set(given) - known:
        yield ConfigError(
            "no such setting of the noise", field=f"{field}.{key}", keys=sorted(known)
        )
    for key in ("sigma", "theta", "dt"):
        if key in given:
            yield from _NOT_NEGATIVE(f"{field}.{key}", given[key])


def _replay_kwargs(field: str, value: Json) -> Checks:
    if value is None:
        return
    if not isinstance(value, Mapping) or set(value) - {"handle_timeout_termination"}:
        yield ConfigError(
            "has settings that cannot be resumed",
            field=field,
            value=value,
            allowed="{handle_timeout_termination: true|false}",
        )


_NOT_NEGATIVE = number(0).check
SCHEDULE = Rule(
    schedules.problems,
    "a number above 0, or a schedule by name such as lin_3e-4",
    scheduled=True,
)
FLAG = Rule(_flag, "true or false")
ENTROPY = Rule(_entropy, "0 or more; sac: also auto, auto_<start>")
TRAIN_FREQUENCY = Rule(_train_freq, "1 or more, or [n, episode]", whole=True)
NOISE = Rule(_noise, "null, normal, ornstein-uhlenbeck, or {name, sigma}")
REPLAY_BUFFER = Rule(_replay_kwargs, "null, or {handle_timeout_termination: true|false}")
NETWORK = Rule(
    lambda field, value: iter(()),  # depends on the algorithm: see `policy_arguments`
    "null, or a mapping such as {net_arch: [64, 64], activation_fn: relu}",
)
