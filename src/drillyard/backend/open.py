"""Open a backend by the text that a file or a person names it with."""

from __future__ import annotations

from typing import Any, cast

from drillyard.backend.capabilities import NeedsExtra
from drillyard.backend.port import Backend, Trait
from drillyard.backend.translation import translating
from drillyard.errors import UserError
from drillyard.registry import load
from drillyard.system.optional_packages import must_have


def is_paid(text: str) -> bool:
    """True for a backend that costs money; asks nobody and needs no settings.

    Args:
        text: As in an experiment: ``gcp/prod``.

    Raises:
        PluginError: No such backend.
    """
    factory = load("backends", text.partition("/")[0])
    return Trait.PAID in factory.traits


def open_backend(text: str, settings: dict[str, Any] | None = None) -> Backend:
    """A backend from its text form.

    Args:
        text: ``local``, ``gcp``, or ``gcp/prod`` (settings from a Prefect block of that name).
        settings: The experiment's own; ``backend.settings.resolve`` lays them over the other
            sources.

    Raises:
        PluginError: No such backend, or its packages are not installed.
        ConfigError: Unknown or missing settings.
    """
    from drillyard.backend.settings.resolve import blamed, resolve  # knows this port

    kind = text.partition("/")[0]
    factory = load("backends", kind)
    # In the middle of a run, or of a look for leaks, it would be found too late. A backend that
    # can list and end what it has rented without its packages names none, and says so in `check`.
    if isinstance(factory, NeedsExtra):
        must_have(factory.extra(), f"backend {kind}")
    found = resolve(text, settings)
    try:
        # A plug-in that was not decorated keeps the contract all the same.
        return translating()(cast(type[Backend], factory))(**found.revealed())
    except UserError as error:
        raise blamed(error, found) from error.__cause__
