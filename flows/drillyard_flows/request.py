"""Turns a command line, or a form of Prefect's UI, into an open driver with its tickets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.mailbox.records import TicketRecord

if TYPE_CHECKING:
    from drillyard.driver.driver import Driver
    from drillyard.spec.load import Loaded


@dataclass(frozen=True)
class Request:
    """A request to run an experiment.

    Args:
        file: The experiment file.
        store: URL of the store; None: DRILLYARD_STORE or ``./drillyard-runs``.
        sets: ``a.b=1`` each.
        globals_: Globals files; the last one wins.
        values: Parameters that the file declares, by name.
        tunables: ``name=value`` each.
        backend: Backend that replaces the file's.
        name: Name that replaces the file's.
        allow_change: Continue under the same name although results will differ.
        offline_ok: Continue if a server that only displays results does not answer.
        prefect: Show the work in Prefect.
    """

    file: str
    store: str | None = None
    sets: Sequence[str] = ()
    globals_: Sequence[str] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    tunables: Sequence[str] = ()
    backend: str | None = None
    name: str | None = None
    allow_change: bool = False

    offline_ok: bool = False
    prefect: bool = True

    def store_url(self, loaded: Loaded) -> str:
        """Returns the URL of the store.

        Args:
            loaded: The experiment, whose backend may define the store.

        Raises:
            ConfigError: The URL is dangerous or has an unknown scheme.
        """
        from drillyard.runs.locate import store_of

        return store_of(loaded, self.store)

    @property
    def overrides(self) -> list[str]:
        """Returns ``sets`` with ``--name`` and ``--on``, which are short forms of ``--set``."""
        extra = [f"name={self.name}"] if self.name else []
        extra += [f"backend={self.backend}"] if self.backend else []
        return [*self.sets, *extra]


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Parses parameters as Prefect's form has them, one text each.

    Args:
        texts: ``name=value`` each.

    Raises:
        ConfigError: A text does not have that form.
    """
    from drillyard.errors import ConfigError

    values: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise ConfigError(
                f"{text!r} is not name=value",
                file="parameters",
                value=text,
                allowed="name=value",
                hint="for example size=2000",
            )
        values[name.strip()] = value
    return values


def assignments(values: Mapping[str, str]) -> list[str]:
    """Returns ``name=value`` for each parameter, with secrets masked; the inverse of ``pairs``."""
    from drillyard.system.redaction import redact_tree

    return [f"{name}={redact_tree(value, name)}" for name, value in values.items()]


def loaded_of(request: Request) -> Loaded:
    """Loads the experiment from its file and the command line, without further checks.

    Raises:
        UserError: The file or the command line is wrong; names file, line and field.
    """
    from drillyard.spec.load import load

    return load(
        Path(request.file),
        sets=request.overrides,
        globals_=list(request.globals_),
        values=dict(request.values),
        tunables=list(request.tunables),
    )


def checked(request: Request, began: Callable[[Loaded], None] | None = None) -> Loaded:
    """Loads the experiment and checks everything that costs nothing; creates nothing.

    Args:
        request: The request.
        began: Called once the file is read, before the checks, which can take seconds.

    Raises:
        UserError: The file or the command line is wrong; names file, line and field.
        ControlPlaneError: The only problem is a server that does not answer.
    """
    from drillyard.checks.experiment import check
    from drillyard.checks.refusal import refuse

    loaded = loaded_of(request)
    if began is not None:
        began(loaded)
    store = request.store_url(loaded)
    refuse(check(loaded, store=store, offline_ok=request.offline_ok))
    return loaded


def opened(
    loaded: Loaded,
    request: Request,
    on_line: Callable[[str], None] | None = None,
) -> tuple[Driver, list[TicketRecord]]:
    """Creates a driver and opens it.

    Args:
        loaded: The checked experiment.
        request: The request, which has the store and whether a change is allowed.
        on_line: Receives the driver's messages.

    Returns:
        The driver and the tickets that are still open.

    Raises:
        UserError: Another driver runs, or the experiment was changed under the same name.
    """
    from drillyard.driver.compose import driver_of

    driver = driver_of(
        loaded, request.store_url(loaded), say=on_line, allow_change=request.allow_change
    )
    return driver, driver.open()
