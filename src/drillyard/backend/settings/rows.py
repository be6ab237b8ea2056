"""Settings of a backend for people to read: what each is, its value, where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drillyard.backend.settings.resolve import environment_name, fields_of, gather
from drillyard.errors import ConfigError
from drillyard.system.redaction import MASK

MISSING = "missing"


def rows(
    text: str, given: Mapping[str, Any] | None = None
) -> tuple[list[dict[str, Any]], list[ConfigError]]:
    """Every setting of a backend.

    Args:
        text: ``gcp``, or ``gcp/prod`` with the name of a Prefect block.
        given: The experiment's ``backends:`` section for it.

    Returns:
        (one mapping a setting: ``name``, ``value`` (a secret as its reference), ``required``,
        ``from``, ``environment``, ``help``; what is wrong with them, missing ones apart).

    Raises:
        ConfigError: A Prefect block or the settings file cannot be read.
        PluginError: No such backend.
    """
    found, problems, _ = gather(text, given)
    wrong = {(error.field or "").rpartition(".")[2] for error in problems}
    made = []
    for name, field in fields_of(found.kind).items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        value = MASK if name in wrong else found.values.get(name, default)
        made.append(
            {
                "name": name,
                "value": value,
                "required": field.is_required(),
                "from": found.origins.get(name, MISSING if field.is_required() else "default"),
                "environment": environment_name(found.kind, name),
                "help": field.description or "",
            }
        )
    return made, problems
