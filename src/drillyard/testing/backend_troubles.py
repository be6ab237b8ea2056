"""No verb raises anything but our own errors, and nothing that failed is taken for gone.

What lies below the verbs is broken in several ways, one after the other, and each verb is called.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NoReturn

import pytest

from drillyard.backend import (
    Backend,
    CanBeIdle,
    ExplainsLosses,
    ExplainsWaits,
    FindsLeases,
    HasClock,
    HasConsole,
    HasDelays,
    Lease,
    Liveness,
    Order,
    ProtectsLeases,
    ProvidesStore,
    SimulatesPreemption,
    TendsLeases,
    Trait,
)
from drillyard.errors import DrillyardError
from drillyard.testing.backend_base import BackendTests

TICKET = "t0001-s1.train"


class ForeignError(Exception):
    """An error of a library that the backend does not know."""


@dataclass(frozen=True)
class Trouble:
    """One way in which a provider lets its callers down.

    Attributes:
        name: In words.
        around: While it is entered, the trouble is there.
        denies: It may report that things do not exist, so that GONE is correct.
    """

    name: str
    around: AbstractContextManager[None]
    denies: bool = False


class TroubleTests(BackendTests):
    """Override ``broken`` where the provider is reached by other ways, and extend ``troubles``."""

    def troubles(self, backend: Backend) -> Iterator[Trouble]:
        """What is tried; a backend adds the errors that its provider really answers with."""
        for error in (ForeignError("boo"), OSError(5, "Input/output error")):
            yield Trouble(repr(error), self.broken(error))

    @contextlib.contextmanager
    def broken(self, error: Exception) -> Iterator[None]:
        """Everything below the verbs raises an error: connections, processes, files."""
        with breaking(
            error,
            (socket.socket, "connect"),
            (socket, "create_connection"),
            (subprocess, "Popen"),
            (builtins, "open"),
            (io, "open"),
        ):
            yield

    def calls(self, backend: Backend, lease: Lease) -> dict[str, Callable[[], object]]:
        """Each verb that the backend has, as a call; those that end something come last."""
        order = lease.order
        found: dict[str, Callable[[], object]] = {
            "probe": lambda: backend.probe(lease),
            "leases": lambda: self.listed(backend, order),
            "check": lambda: backend.check(order),
            "estimate": lambda: backend.estimate(order),
            "provision": lambda: backend.provision(order),
            "probe a ticket": lambda: backend.probe(lease, TICKET),
            "logs": lambda: list(backend.logs(lease, None)),
        }
        if Trait.PULLS not in backend.traits:
            found["launch"] = lambda: backend.launch(lease, TICKET)
        if isinstance(backend, HasDelays):
            found["delays"] = backend.delays
        if isinstance(backend, TendsLeases):
            found["tend"] = lambda: backend.tend(lease, order.workers)
        if isinstance(backend, ProvidesStore):
            found["store_url"] = backend.store_url
            found["prepare_store"] = lambda: backend.prepare_store(order.store_url)
        if isinstance(backend, FindsLeases):
            found["listed"] = lambda: backend.listed(lease)
        if isinstance(backend, HasClock):
            found["now"] = backend.now
        if isinstance(backend, HasConsole):
            found["console"] = lambda: backend.console(lease)
        if isinstance(backend, ProtectsLeases):
            found["protect"] = lambda: backend.protect(lease, None)
        if isinstance(backend, CanBeIdle):
            found["idle"] = lambda: backend.idle(lease)
        if isinstance(backend, ExplainsLosses):
            found["lost_to"] = lambda: backend.lost_to(lease, TICKET)
        if isinstance(backend, ExplainsWaits):
            found["reasons"] = lambda: backend.reasons(lease)
        if isinstance(backend, SimulatesPreemption):
            found["simulate_preemption"] = lambda: backend.simulate_preemption(
                lease, "no-such-run"
            )
        found["cancel"] = lambda: backend.cancel(lease, TICKET)
        found["teardown"] = lambda: backend.teardown(lease)
        return found

    def test_no_verb_raises_outside_the_tree(self, backend: Backend, order: Order) -> None:
        """Whatever happens below it; and what cannot be found out is neither gone nor empty."""
        for trouble in self.troubles(backend):
            lease = backend.provision(order)
            self.found(backend, order)
            answers: dict[str, object] = {}
            with trouble.around:
                for verb, call in self.calls(backend, lease).items():
                    try:
                        answers[verb] = call()
                    except DrillyardError as error:
                        answers[verb] = error
                    except Exception as error:
                        pytest.fail(f"{trouble.name}: {verb} lets {error!r} out")
            noticed = [v for v, said in answers.items() if isinstance(said, DrillyardError)]
            assert noticed, f"{trouble.name}: no verb noticed; override `broken`"
            assert trouble.denies or answers["probe"] is not Liveness.GONE, trouble.name
            assert trouble.denies or answers["leases"] != [], f"{trouble.name}: an empty listing"
        # Over, as if nothing had been.
        backend.teardown(lease)
        self.gone(backend, order)


@contextlib.contextmanager
def breaking(error: Exception, *places: tuple[object, str]) -> Iterator[None]:
    """Let calls raise an error.

    Args:
        error: What is raised.
        *places: (object, name of its attribute) of each call.
    """

    def refuse(*_args: object, **_more: object) -> NoReturn:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        for place, name in places:
            patch.setattr(place, name, refuse)
        yield
