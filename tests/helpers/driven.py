"""A user's folder, a store, and drivers on real processes, which end with the test."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drillyard.backend import Backend
from drillyard.driver.driver import Driver
from drillyard.mailbox import Mailbox, open_store
from drillyard.spec import ExperimentSpec
from drillyard.spec.load import Loaded
from drillyard.system.processes import marked, send
from drillyard_backends.local import LocalBackend
from tests.helpers.open_drivers import closing
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.toy import WORKLOAD

TOY = "toy_driven"
"""The module of the toy workload in the user's folder."""


class Place:
    """What a user has: a folder with the toy workload, a store, and a backend.

    Args:
        tmp: A folder of the test.
    """

    def __init__(self, tmp: Path) -> None:
        self.tmp, self.name = tmp, "toy"
        self.folder, self.marks, self.gate = tmp / "user", tmp / "marks", tmp / "gate"
        for path in (self.folder, self.marks):
            path.mkdir(exist_ok=True)
        (self.folder / f"{TOY}.py").write_text(WORKLOAD)
        (self.folder / "helper.py").write_text('WORD = "word"\n')

    @property
    def mailbox(self) -> Mailbox:
        """The experiment."""
        return Mailbox(open_store(str(self.tmp / "store")), self.name)

    def backend(self) -> Backend:
        """What the driver rents from."""
        return LocalBackend(runtime=self.tmp / "runtime", stop_grace_s=5.0)

    def driver(self, parameters: dict[str, Any] | None = None, **values: Any) -> Driver:
        """A driver of the toy workload, or of what ``values`` name."""
        given = {"marks": str(self.marks), "gate": str(self.gate), **(parameters or {})}
        toy = {"workload": f"{TOY}:Toy", "parameters": {"const_args": given}}
        usual = {"name": self.name, "seeds": [1, 2]}
        values = {**usual, **({} if "workload" in values else toy), **values}
        self.name = values["name"]
        file = self.folder / "it.yaml"
        file.write_text("schema: 1\n")
        spec = ExperimentSpec.model_validate(values)
        loaded = Loaded(spec=spec, provenance={}, file=file, folder=self.folder, text="")
        return Driver(loaded, self.mailbox, self.backend())

    def processes(self) -> list[Any]:
        """What runs on behalf of the experiment."""
        return list(marked(DRILLYARD_LOCAL_RUNTIME=str(self.tmp / "runtime")))

    def pid_of(self, run: str, attempt: int) -> int:
        """The process of an attempt, once it has begun."""
        mark = self.marks / f"{run}.{attempt}"
        return int(until(lambda: mark.exists() and mark.read_text()).split()[0])


@contextmanager
def lived_in(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the drivers that a test opened, and ends its processes."""
    monkeypatch.setenv("DRILLYARD_HOME", str(place.tmp / "home"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with closing(monkeypatch):
        yield
    for process in place.processes():
        send(process, signal.SIGKILL)
    for name in (TOY, "helper"):
        sys.modules.pop(name, None)


def begin(driver: Driver) -> None:
    """Open, rent, and wait until the workers are ready."""
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)


def finish(driver: Driver, place: Place) -> dict[str, int]:
    """Wait for every ticket and end the lease, of which nothing is left; attempts by ticket."""
    done = {ticket: driver.wait(ticket, PATIENCE_S).attempt for ticket in driver.states()}
    driver.teardown()
    driver.close("done")
    assert place.processes() == []
    assert all(entry.gone is not None for entry in driver.ledger.entries())
    return done
