"""Opens a backend from its text form, such as ``gcp/prod``."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard.backend.capabilities import Alternative, HasAlternatives, NeedsExtra
from drillyard.backend.port import Backend, Trait
from drillyard.backend.translation import translating
from drillyard.documents.json_types import Json
from drillyard.errors import UserError
from drillyard.registry import load
from drillyard.system.optional_packages import must_have


def is_paid(*texts: str) -> bool:
    """Returns True if one of the backends costs money; makes no request, needs no settings.

    Args:
        *texts: Backends as in an experiment: ``gcp/prod``.

    Raises:
        PluginError: No such backend.
    """
    factories = (load("backends", text.partition("/")[0]) for text in texts)
    return any(Trait.PAID in factory.traits for factory in factories)


def alternatives_of(text: str, settings: Mapping[str, Json], *, others: bool) -> list[Alternative]:
    """Returns the machines between which a backend's settings leave the choice; at least one.

    Args:
        text: The backend as in an experiment.
        settings: The experiment's own settings.
        others: True if the experiment has other backends, too.
    """
    from drillyard.backend.settings.resolve import gather  # knows this port

    factory = load("backends", text.partition("/")[0])
    if not isinstance(factory, HasAlternatives):
        return [Alternative("", {})]
    resolved, _, _ = gather(text, settings)
    return factory.alternatives(resolved.values, others)


def open_backend(text: str, settings: Mapping[str, Json] | None = None) -> Backend:
    """Returns a backend from its text form.

    Args:
        text: ``local``, ``gcp``, or ``gcp/prod`` (settings from a Prefect block of that name).
        settings: The experiment's own settings; ``backend.settings.resolve`` merges them over the
            other sources.

    Raises:
        PluginError: No such backend, or its packages are not installed.
        ConfigError: Unknown or missing settings.
    """
    from drillyard.backend.settings.resolve import blamed, resolve  # knows this port

    kind = text.partition("/")[0]
    factory: type[Backend] = load("backends", kind)
    # A missing package must show up now, not in the middle of a run or of a search for leaks. A
    # backend that can list and end its leases without its packages has no extra; its `check`
    # reports what is missing.
    if isinstance(factory, NeedsExtra):
        must_have(factory.extra(), f"backend {kind}")
    resolved = resolve(text, settings)
    try:
        # Decorated here too, so that an undecorated plug-in keeps the contract.
        return translating()(factory)(**resolved.revealed())
    except UserError as error:
        raise blamed(error, resolved) from error.__cause__
