"""One value that trials vary: its type, its allowed values, and how they are drawn."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from statistics import NormalDist
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue, ConfigError, nearest
from drillyard.spec.tunables.distribution import Distribution, Model, Number, Weight, number

MAX_BINS = 1_000_000
_BEYOND = 2**53


class Tunable(Model):
    """One value that trials vary."""

    type: Literal["int", "float", "categorical"] = Field(description="The kind of value.")
    default: Any = Field(description="The value until a trial gives another.")
    description: str | None = Field(None, description="Description for people.")
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Lowest and highest value of an int or float, both included."
    )
    values: Annotated[list[str | bool | int | float], Field(min_length=1)] | None = Field(
        None, description="All values of a categorical."
    )
    special: list[Number] = Field(
        default_factory=list,
        description="Values with a special meaning, also outside the range: `-1` for off.",
    )
    special_weights: list[Weight] | None = Field(
        None, description="How often each special value is drawn, beside `range_weight`."
    )
    range_weight: Weight | None = Field(
        None, description="How often a value of the range is drawn, beside `special_weights`."
    )
    values_weights: list[Weight] | None = Field(
        None, description="How often each of `values` is drawn."
    )
    log: bool = Field(False, description="Draw on a logarithmic scale.")
    bins: Annotated[int, Field(ge=2, le=MAX_BINS), BeforeValidator(number)] | None = Field(
        None, description="Draw only this many evenly spaced values of the range."
    )
    distribution: Distribution | None = Field(None, description="Default: uniform.")
    meta: dict[str, Any] = Field(default_factory=dict, description="Notes for other programs.")

    @model_validator(mode="before")
    @classmethod
    def _shape_by_name(cls, value: Json) -> Json:
        if isinstance(value, Mapping) and isinstance(value.get("distribution"), str):
            return {**value, "distribution": {"type": value["distribution"]}}
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Tunable:
        for problem in self._problems():
            raise problem
        try:
            self.take("default", self.default)
        except ConfigError as error:
            raise BadValue(
                f"its default {self.default!r} {error.message}",
                key="default",
                allowed=error.allowed,
                hint=error.hint,
            ) from None
        return self

    def _problems(self) -> Iterator[BadValue]:
        if self.type == "categorical":
            yield from self._categorical_problems()
            return
        for name in ("values", "values_weights"):
            if getattr(self, name) is not None:
                yield BadValue(
                    f"`{name}` belongs to a categorical",
                    key=name,
                    allowed="range: [low, high]",
                    hint="write `type: categorical`, or a range",
                )
        if self.range is None:
            yield BadValue(
                f"{self.type} needs a range",
                allowed="range: [low, high]",
                hint="add `range: [0, 1]` with its two ends",
            )
            return
        yield from self._range_problems(*self.range)
        yield from self._special_problems()

    def _range_problems(self, low: float, high: float) -> Iterator[BadValue]:
        if not low < high:
            yield BadValue(
                f"its range is empty: {low:g} is not below {high:g}",
                key="range",
                allowed="[low, high], low below high",
                hint=f"write [{high:g}, {low:g}]"
                if low > high
                else f"write {low:g} instead of a tunable",
            )
        for key, numbers in (("range", self.range or []), ("special", self.special)):
            if self.type == "int" and not all(float(v).is_integer() for v in numbers):
                yield BadValue(
                    "an int needs whole numbers",
                    key=key,
                    allowed="whole numbers",
                    hint="write `type: float`, or round them",
                )
        if max(abs(low), abs(high)) > _BEYOND and self.type == "int":
            yield BadValue(
                "its range goes beyond 2^53",
                key="range",
                allowed=f"from {-_BEYOND} to {_BEYOND}",
                hint="write `type: float`",
            )
        if self.log and low <= 0:
            yield BadValue(
                f"`log: true` needs a range above 0, and it begins at {low:g}",
                key="range",
                allowed="a low end above 0",
                hint="write log: false, or begin at 1.0e-6",
            )
        if self.type == "int" and self.bins is not None and self.bins > high - low + 1:
            yield BadValue(
                f"its range has {high - low + 1:g} values and cannot have {self.bins} bins",
                key="bins",
                allowed=f"from 2 to {high - low + 1:g}",
                hint="delete `bins:`",
            )

    def _special_problems(self) -> Iterator[BadValue]:
        if len(set(self.special)) != len(self.special):
            yield BadValue(
                "a special value is listed twice",
                key="special",
                allowed="each value once",
                hint="delete one of them",
            )
        if (self.special_weights is None) != (self.range_weight is None):
            yield BadValue(
                "give `special_weights` and `range_weight` together",
                key="range_weight" if self.special_weights is None else "special_weights",
                allowed="both or none",
                hint="add the other one, or delete this one",
            )
        weights, rest = self.special_weights, self.range_weight or 0
        yield from _weight_problems(
            "special_weights", "special values", self.special, weights, rest
        )

    def _categorical_problems(self) -> Iterator[BadValue]:
        if self.values is None:
            yield BadValue(
                "a categorical needs values",
                allowed="values: [a, b]",
                hint="add `values: [a, b]` with all of them",
            )
            return
        if len({(type(v), v) for v in self.values}) != len(self.values):
            yield BadValue(
                "a value is listed twice",
                key="values",
                allowed="each value once",
                hint="delete one of them",
            )
        yield from _weight_problems("values_weights", "values", self.values, self.values_weights)
        for name in (
            "range",
            "special",
            "special_weights",
            "range_weight",
            "log",
            "bins",
            "distribution",
        ):
            if name in self.model_fields_set and getattr(self, name):
                yield BadValue(
                    f"`{name}` belongs to an int or float, not to a categorical",
                    key=name,
                    allowed="values, values_weights",
                    hint=f"delete `{name}:`",
                )

    # -- one value ----------------------------------------------------------------------------

    @property
    def allowed(self) -> str:
        """Describes the allowed values."""
        if self.values is not None:
            return ", ".join(map(str, self.values))
        assert self.range is not None
        low, high = self.range
        kind = "a whole number" if self.type == "int" else "a number"
        also = f", or {', '.join(f'{s:g}' for s in self.special)}" if self.special else ""
        return f"{kind} from {low:g} to {high:g}{also}"

    def take(self, name: str, value: Json) -> Json:
        """Returns a value with the tunable's type.

        Text is read as a number if the tunable is numeric (``"42"`` is 42). Nothing is rounded.

        Args:
            name: Name of the tunable, for the message.
            value: The given value.

        Raises:
            ConfigError: It would lose precision, or is not allowed.
        """
        if self.values is not None:
            return self._one_of(name, value)
        number = self._as_number(name, value)
        assert self.range is not None
        if number not in self.special and not self.range[0] <= number <= self.range[1]:
            raise self._refusal(name, value, "is out of range")
        return number

    def _one_of(self, name: str, value: Json) -> Json:
        assert self.values is not None
        same = [v for v in self.values if type(v) is type(value) and v == value]
        if not same:  # what came as text from a command line
            same = [v for v in self.values if _text(v) == _text(value)]
        if not same:
            hint = nearest(str(value), [str(v) for v in self.values])
            raise self._refusal(name, value, "is not one of its values", hint)
        return same[0]

    def _as_number(self, name: str, value: Json) -> int | float:
        number = _parsed(value) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self._refusal(name, value, "is not a number")
        if not math.isfinite(number):
            raise self._refusal(name, value, "is not finite")
        if self.type == "float":
            return float(number)
        if float(number) != int(number):
            raise self._refusal(name, value, "is not a whole number and would lose its fraction")
        return int(number)

    def _refusal(self, name: str, value: Json, why: str, hint: str | None = None) -> ConfigError:
        return ConfigError(
            why,
            field=name,
            value=value,
            allowed=self.allowed,
            hint=hint or self._nearest(value),
        )

    def _nearest(self, value: Any) -> str:
        """The allowed value that is nearest to one that is not."""
        if self.range is None:
            return "choose one of them"
        low, high = self.range
        number = _parsed(value) if isinstance(value, str) else value
        if not isinstance(number, int | float) or low <= number <= high or math.isnan(number):
            return f"write a number from {low:g} to {high:g}"
        return f"the nearest is {low if number < low else high:g}"

    # -- drawing ------------------------------------------------------------------------------

    def draw(self, random: Random) -> Json:
        """Draws a value: special values and weights first, then the distribution.

        Args:
            random: The generator; the same state gives the same value.
        """
        if self.values is not None:
            return random.choices(self.values, self.values_weights)[0]
        if self.special:
            # Without weights, a special value is as probable as any one of as many equal parts.
            weights = self.special_weights or [0.1 / len(self.special)] * len(self.special)
            rest = 0.9 if self.range_weight is None else self.range_weight
            choice = random.choices([*self.special, None], [*weights, rest])[0]
            if choice is not None:
                return self.take("special", choice)
        return self.at(random.random())

    def at(self, u: float) -> bool | int | float | str:
        """The value of the range below which a share ``u`` of all draws lies.

        Args:
            u: From 0 to 1; grids and Latin hypercubes come from here.
        """
        if self.values is not None:
            return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
        low, high = self._scaled()
        share = self._share(u, low, high)
        if self.bins is not None:
            share = min(int(share * self.bins), self.bins - 1) / (self.bins - 1)
        elif self.type == "int" and not self.log:
            count = high - low + 1
            return int(low + min(math.floor(share * count), count - 1))
        return self.inside(share)

    def bin(self, number: int) -> int | float:
        """The value of a bin: evenly spaced over the range, both ends included.

        Args:
            number: From 0 to ``bins - 1``.
        """
        assert self.bins is not None
        return self.inside(number / (self.bins - 1))

    def inside(self, share: float) -> int | float:
        """The value at a share of the range, from 0 to 1; by magnitude where it is ``log``."""
        low, high = self._scaled()
        value = low + share * (high - low)
        value = math.exp(value) if self.log else value
        assert self.range is not None
        value = min(max(value, self.range[0]), self.range[1])
        return round(value) if self.type == "int" else float(value)

    def _scaled(self) -> tuple[float, float]:
        assert self.range is not None
        low, high = self.range
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def _share(self, u: float, low: float, high: float) -> float:
        """Where in the (scaled) range, from 0 to 1, the quantile ``u`` lies."""
        shape = self.distribution
        if shape is None or shape.type == "uniform":
            return u
        if shape.type == "beta":
            from scipy.special import betaincinv  # only such tunables need scipy

            assert shape.alpha is not None and shape.beta is not None
            return float(betaincinv(shape.alpha, shape.beta, u))
        assert shape.mu is not None and shape.sigma is not None
        middle = math.log(max(shape.mu, math.ulp(0.0))) if self.log else shape.mu
        bell = NormalDist(middle, shape.sigma)
        below, above = bell.cdf(low), bell.cdf(high)
        inside = min(max(below + u * (above - below), 1e-300), 1 - 1e-16)
        return min(max((bell.inv_cdf(inside) - low) / (high - low), 0.0), 1.0)

    def unit(self, value: Any) -> float:
        """A value as a number from 0 to 1: its place in the range or among the values.

        Args:
            value: A value of this tunable; special values are clipped to the range.
        """
        if self.values is not None:
            values: list[Json] = [*self.values]
            index = values.index(self.take("value", value))
            return index / (len(values) - 1) if len(values) > 1 else 0.0
        assert self.range is not None
        low, high = self.range
        return min(max((float(value) - low) / (high - low), 0.0), 1.0)


def _parsed(text: str) -> int | float | None:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None


def _text(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _weight_problems(
    key: str, what: str, values: Sequence[Json], weights: Sequence[float] | None, rest: float = 0
) -> Iterator[BadValue]:
    if weights is not None and len(weights) != len(values):
        yield BadValue(
            f"it has {len(values)} {what} and {len(weights)} weights",
            key=key,
            allowed="one weight for each value",
            hint=f"write {len(values)} numbers",
        )
    if weights is not None and not sum(weights) + rest:
        yield BadValue(
            "its weights are all 0",
            key=key,
            allowed="at least one weight above 0",
            hint="delete them to make all values equally likely",
        )
