"""Base of every model of the experiment file."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue

MAX_SEED = 2**32 - 1


def _no_boolean(value: Json) -> Json:
    """Refuses ``true``, which Python counts as 1."""
    if isinstance(value, bool):
        raise BadValue(f"expected a number, found {str(value).lower()}", hint="write a number")
    return value


_SUFFIXED = re.compile(r"(?P<number>[0-9][0-9_]*(?:\.[0-9]+)?)(?P<unit>[A-Za-z]+)\Z")
_UNITS = {"k": 1_000, "m": 1_000_000}
STEPS_PATTERN = r"^[0-9][0-9_]*(\.[0-9]+)?[kKmM]$"


def read_steps(value: Json) -> Json:
    """Reads ``50k`` and ``1.5M`` as 50,000 and 1,500,000; leaves everything else as it is.

    Args:
        value: As a file or an option has it.

    Raises:
        BadValue: Another unit, or a fraction of a step.
    """
    match = _SUFFIXED.match(value) if isinstance(value, str) else None
    if match is None:
        return value
    unit = _UNITS.get(match["unit"].lower())
    steps = Decimal(match["number"].replace("_", "")) * (unit or 1)
    if unit is None or steps != int(steps):
        raise BadValue(
            "expected a whole number of steps",
            allowed="a whole number, also with k (thousand) or M (million): 50_000, 50k, 1.5M",
            hint=f"write {int(steps)}, {int(steps)}k or {int(steps)}M"
            if unit is None
            else f"write {round(steps)}",
        )
    return int(steps)


def later(default: Any = None, **more: Any) -> Any:
    """Returns a field that came later: a record leaves it out where it has its default.

    So the experiments of older versions keep their identity.

    Args:
        default: The default, or a class that makes it.
        more: See ``pydantic.Field``.
    """
    if isinstance(default, type):
        return Field(default_factory=default, exclude_if=lambda value: not value, **more)
    return Field(default, exclude_if=lambda value: value == default, **more)


def exactly_one(model: BaseModel, first: str, second: str, example: str) -> None:
    """Refuses a model that has both of two fields, or none of them.

    Raises:
        BadValue: See above.
    """
    if (getattr(model, first) is None) == (getattr(model, second) is None):
        raise BadValue(
            f"give exactly one of `{first}` and `{second}`",
            allowed=f"{first}: …, or {second}: …",
            hint=f"write `{first}: {example}`, or delete one of the two",
        )


NotBool = BeforeValidator(_no_boolean)
StepCount = BeforeValidator(read_steps)
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), NotBool]
PositiveInt = Annotated[int, Field(ge=1), NotBool]
PositiveFloat = Annotated[float, Field(gt=0), NotBool]


class Strict(BaseModel):
    """Refuses unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
