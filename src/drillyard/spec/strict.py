"""What every model of the experiment file shares."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from drillyard.errors import BadValue

MAX_SEED = 2**32 - 1


def _no_boolean(value: Any) -> Any:
    """Python counts ``true`` as 1; a person who writes it meant something else."""
    if isinstance(value, bool):
        raise BadValue(f"expected a number, found {str(value).lower()}", hint="write a number")
    return value


NotBool = BeforeValidator(_no_boolean)
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), NotBool]
PositiveInt = Annotated[int, Field(ge=1), NotBool]
PositiveFloat = Annotated[float, Field(gt=0), NotBool]


class Strict(BaseModel):
    """Refuses what it does not know, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
