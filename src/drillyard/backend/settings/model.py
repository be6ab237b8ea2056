"""The settings of a backend as its model: every fault of them in one error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ValidationError

from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import nearest

M = TypeVar("M", bound=BaseModel)


@runtime_checkable
class FindsSettings(Protocol):
    """A ``Config`` that reads what a provider's own tools keep on this machine."""

    @classmethod
    def found_here(cls) -> dict[str, dict[str, str]]:
        """Where it was found, in words -> settings by name; nothing where nothing was found."""


def configured(kind: str, model: type[M], given: Mapping[str, Any]) -> M:
    """A backend's ``Config`` made of values, for its constructor.

    Args:
        kind: The backend's name.
        model: Its ``Config``. A check of the whole model that blames one field raises
            ``ValueError("field: what is wrong")``.
        given: Values by name.

    Raises:
        ConfigError: One fault, as a field ``backends.<kind>.<name>``.
        ConfigErrors: Several.
    """
    try:
        return model(**given)
    except ValidationError as error:
        found = error.errors()
        # A misspelt name is often why another one is missing: it is told first.
        unknown = [e for e in found if e["type"] == "extra_forbidden"]
        kept = [e for e in found if e["type"] != "missing"] if unknown else found
        problems = [_problem(kind, model, e) for e in kept]
    raise problems[0] if len(problems) == 1 else ConfigErrors(problems)


def _problem(kind: str, model: type[BaseModel], error: Any) -> ConfigError:
    fields = model.model_fields
    message = str(error["msg"]).removeprefix("Value error, ")
    name, value = ".".join(str(part) for part in error["loc"]), error.get("input")
    if not name:  # of the whole: the message may begin with the name of a field
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
