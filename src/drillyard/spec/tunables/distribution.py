"""The distribution of a tunable's values, and the base of the models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue


def number(value: Json) -> Json:
    """Refuses ``true``, which Python counts as 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValue("expected a number", allowed="a number", hint="write it without quotes")
    return value


Number = Annotated[int | float, BeforeValidator(number)]


Weight = Annotated[float, Field(ge=0), BeforeValidator(number)]


Positive = Annotated[float, Field(gt=0), BeforeValidator(number)]


class Model(BaseModel):
    """Refuses what it does not know; written back as it was written, without defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        whole: dict[str, Any] = handler(self)
        return {key: value for key, value in whole.items() if key in self.model_fields_set}


class Distribution(Model):
    """How probable the values of a range are."""

    type: Literal["uniform", "normal", "beta"] = Field(description="The shape.")
    mu: Number | None = Field(None, description="normal: the middle, in the tunable's unit.")
    sigma: Positive | None = Field(
        None,
        description="normal: the spread, in the tunable's unit; natural logarithms with "
        "`log: true`.",
    )
    alpha: Positive | None = Field(None, description="beta: first shape, over the whole range.")
    beta: Positive | None = Field(None, description="beta: second shape.")

    @model_validator(mode="after")
    def _own_settings(self) -> Distribution:
        needed = {"uniform": (), "normal": ("mu", "sigma"), "beta": ("alpha", "beta")}[self.type]
        for name in ("mu", "sigma", "alpha", "beta"):
            if (getattr(self, name) is not None) != (name in needed):
                raise BadValue(
                    f"a {self.type} distribution takes {' and '.join(needed) or 'no settings'}",
                    key=name,
                    allowed=f"type, {', '.join(needed)}" if needed else "type alone",
                    hint=f"add `{name}: …`" if name in needed else f"delete `{name}:`",
                )
        return self
