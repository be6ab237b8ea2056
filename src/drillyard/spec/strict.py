"""Base of every model of the experiment file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue

MAX_SEED = 2**32 - 1


def _no_boolean(value: Json) -> Json:
    """Refuses ``true``, which Python counts as 1."""
    if isinstance(value, bool):
        raise BadValue(f"expected a number, found {str(value).lower()}", hint="write a number")
    return value


NotBool = BeforeValidator(_no_boolean)
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), NotBool]
PositiveInt = Annotated[int, Field(ge=1), NotBool]
PositiveFloat = Annotated[float, Field(gt=0), NotBool]


class Strict(BaseModel):
    """Refuses unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
