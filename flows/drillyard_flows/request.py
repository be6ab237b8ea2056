"""From what a person typed, or a form of Prefect's UI sent, to a driver that has its tickets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.driver.driver import Driver
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import TicketRecord

if TYPE_CHECKING:
    from drillyard.spec.load import Loaded


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Args:
        file: The experiment file.
        store: Where the mailbox is; None: DRILLYARD_STORE or ``./drillyard-runs``.
        sets: ``a.b=1`` each.
        globals_: Globals files, later wins.
        values: Parameters that the file declares, by name.
        tunables: ``name=value`` each.
        backend: Instead of the file's.
        name: Instead of the file's.
        allow_change: Go on under the same name although results will differ.
        offline_ok: Go on when a server that is only shown to does not answer.
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

    def store_url(self, loaded: Loaded) -> str:
        """Where the mailbox is.

        Args:
            loaded: The experiment: some backends name a store of their own.

        Raises:
            ConfigError: A URL that is dangerous or of an unknown scheme.
        """
        from drillyard.runs.locate import store_url

        return store_url(self.store, loaded.spec)

    @property
    def overrides(self) -> list[str]:
        """``--name`` and ``--on`` are ``--set`` by other words."""
        extra = [f"name={self.name}"] if self.name else []
        extra += [f"backend={self.backend}"] if self.backend else []
        return [*self.sets, *extra]


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Parameters as a form of Prefect's UI has them: one text each.

    Args:
        words: ``name=value`` each.

    Raises:
        ConfigError: Not of that form.
    """
    from drillyard.errors import ConfigError

    found: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name.strip():
            raise ConfigError(
                f"{word!r} is not name=value",
                file="parameters",
                value=word,
                allowed="name=value",
                hint="for example size=2000",
            )
        found[name.strip()] = value
    return found


def words(values: Mapping[str, str]) -> list[str]:
    """``pairs`` the other way round, for people to read: secrets are not shown."""
    from drillyard.system.redaction import redact_tree

    return [f"{name}={redact_tree(value, name)}" for name, value in values.items()]


def loaded_of(request: Request) -> Loaded:
    """The experiment as its file and the command line say; the world is not asked.

    Raises:
        UserError: What is wrong, with file, line and field.
    """
    from drillyard.spec.load import load

    return load(
        Path(request.file),
        sets=request.overrides,
        globals_=list(request.globals_),
        values=dict(request.values),
        tunables=list(request.tunables),
    )


def checked(request: Request) -> Loaded:
    """Load and check everything that can be checked for free; nothing is created.

    Raises:
        UserError: What is wrong, with file, line and field.
        ControlPlaneError: Nothing but a server that is away.
    """
    from drillyard.checks.experiment import check
    from drillyard.checks.refusal import refuse

    loaded = loaded_of(request)
    store = request.store_url(loaded)
    refuse(check(loaded, store=store, offline_ok=request.offline_ok))
    return loaded


def opened(
    loaded: Loaded,
    request: Request,
    on_line: Callable[[str], None] | None = None,
) -> tuple[Driver, list[TicketRecord]]:
    """Make a driver and open it.

    Args:
        loaded: The experiment, checked.
        request: Where, and whether a change is allowed.
        on_line: Gets what the driver has to say.

    Returns:
        The driver, and the tickets that are still open.

    Raises:
        UserError: Driven by another process, or changed under the same name.
    """
    from drillyard.backend import open_backend

    spec = loaded.spec
    backend = open_backend(spec.backend, spec.backends.get(spec.backend.partition("/")[0]))
    mailbox = Mailbox(open_store(request.store_url(loaded)), spec.name)
    driver = Driver(loaded, mailbox, backend, on_line=on_line, allow_change=request.allow_change)
    return driver, driver.open()
