"""Settings of a backend for display: description, value and source of each."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard.backend.settings.resolve import environment_name, fields_of, gather
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError
from drillyard.system.redaction import MASK

MISSING = "missing"


def rows(
    text: str, given: Mapping[str, Json] | None = None
) -> tuple[list[JsonObject], list[ConfigError]]:
    """Returns every setting of a backend.

    Args:
        text: ``gcp``, or ``gcp/prod`` with the name of a Prefect block.
        given: The experiment's ``backends:`` section for it.

    Returns:
        (one object for each setting, with ``name``, ``value`` (a secret as its reference),
        ``required``, ``from``, ``environment`` and ``help``; their errors without those for
        missing settings).

    Raises:
        ConfigError: A Prefect block or the settings file cannot be read.
        PluginError: No such backend.
    """
    resolved, problems, _ = gather(text, given)
    wrong = {(error.field or "").rpartition(".")[2] for error in problems}
    described: list[JsonObject] = []
    for name, field in fields_of(resolved.kind).items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        value = MASK if name in wrong else resolved.values.get(name, default)
        described.append(
            {
                "name": name,
                "value": value,
                "required": field.is_required(),
                "from": resolved.origins.get(name, MISSING if field.is_required() else "default"),
                "environment": environment_name(resolved.kind, name),
                "help": field.description or "",
            }
        )
    return described, problems
