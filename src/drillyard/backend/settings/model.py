"""The settings of a backend as its model: all their errors in one exception."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ValidationError

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, ConfigErrors, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)


@runtime_checkable
class FindsSettings(Protocol):
    """A ``Config`` that reads the settings of a provider's own tools on this machine."""

    @classmethod
    def found_here(cls) -> dict[str, dict[str, str]]:
        """Returns the settings by name for a description of each source; may be empty."""


def configured(kind: str, model: type[M], given: Mapping[str, Json]) -> M:
    """Returns a backend's ``Config`` made from values, for its constructor.

    Args:
        kind: The backend's name.
        model: Its ``Config``. A validator of the whole model that blames one field raises
            ``ValueError("field: what is wrong")``.
        given: Values by name.

    Raises:
        ConfigError: One value is wrong; its field is ``backends.<kind>.<name>``.
        ConfigErrors: Several values are wrong.
    """
    try:
        return model(**given)
    except ValidationError as error:
        details = error.errors()
        # A misspelt name is often why another one is missing, so report it alone first.
        unknown = [e for e in details if e["type"] == "extra_forbidden"]
        reported = [e for e in details if e["type"] != "missing"] if unknown else details
        problems = [_problem(kind, model, e) for e in reported]
    raise problems[0] if len(problems) == 1 else ConfigErrors(problems)


def _problem(kind: str, model: type[BaseModel], error: ErrorDetails) -> ConfigError:
    fields = model.model_fields
    message = str(error["msg"]).removeprefix("Value error, ")
    name, value = ".".join(str(part) for part in error["loc"]), error.get("input")
    if not name:  # of the whole model: the message may begin with the name of a field
        head, _, rest = message.partition(": ")
        name, message = (head, rest) if head in fields else ("", message)
        value = value.get(name) if isinstance(value, dict) else None
    known = fields.get(name.partition(".")[0])
    hint = nearest(name, list(fields)) if error["type"] == "extra_forbidden" else None
    return ConfigError(
        message,
        field=".".join(["backends", kind, *([name] if name else [])]),
        value=value,
        hint=hint
        or (known.description if known else None)
        or f"settings of `{kind}`: {', '.join(fields)}",
    )
