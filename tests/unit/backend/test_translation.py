"""Nothing but errors of our tree leaves a backend, whatever its provider's library raises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from drillyard.backend import Cost, Lease, Liveness, Order, Trait, open_backend
from drillyard.backend.translation import VERBS, translating
from drillyard.errors import (
    AccessDenied,
    ConfigError,
    ControlPlaneError,
    DrillyardError,
    NoCapacity,
    SignInRefused,
)
from drillyard.findings import Finding
from drillyard.registry import names, register

ORDER = Order(lease_id="dy-0000000001", experiment="e", store_url="memory://x")
LEASE = Lease(lease_id=ORDER.lease_id, backend="rude", order=ORDER, created_at=0.0)
CALLS: dict[str, tuple[Any, ...]] = {
    "check": (ORDER,),
    "provision": (ORDER,),
    "probe": (LEASE,),
    "launch": (LEASE, "t"),
    "logs": (LEASE, None),
    "cancel": (LEASE, "t"),
    "teardown": (LEASE,),
    "leases": (),
    "listed": (LEASE,),
    "idle": (LEASE,),
    "estimate": (ORDER,),
    "delays": (),
    "tend": (LEASE, 1),
    "store_url": (),
    "prepare_store": ("x://y",),
    "now": (),
    "console": (LEASE,),
    "protect": (LEASE, None),
    "simulate_preemption": (LEASE, "m"),
    "lost_to": (LEASE, "t"),
    "reasons": (LEASE,),
    "egress": (),
}


class LibraryError(Exception):
    """Of nobody that we know."""


class Rude:
    """Every verb raises ``error``."""

    kind = "rude"
    traits: ClassVar[frozenset[Trait]] = frozenset()
    error: ClassVar[Exception] = LibraryError("boo")

    def _raise(self, *_: Any) -> Any:
        raise self.error

    check = provision = probe = launch = cancel = teardown = _raise
    estimate = delays = tend = store_url = prepare_store = now = _raise
    console = protect = simulate_preemption = lost_to = listed = egress = idle = _raise
    reasons = _raise

    def logs(self, lease: Lease, handle: Any, since: int = 0) -> Iterator[str]:
        yield "one line"
        raise self.error

    def leases(self) -> Iterator[Lease]:
        return iter([self._raise()])


if "rude" not in names("backends"):
    register("backends", "rude", "tests.unit.backend.test_translation:Rude")


def called(backend: Any, verb: str) -> Any:
    found = getattr(backend, verb)(*CALLS[verb])
    return list(found) if verb in ("logs", "leases") else found


def raised(backend: Any, verb: str, error: Exception) -> DrillyardError:
    type(backend).error = error
    with pytest.raises(DrillyardError) as caught:
        called(backend, verb)
    return caught.value


@pytest.fixture
def backend():
    """A plug-in whose author has decorated nothing."""
    return open_backend("rude")


def test_each_verb_is_tried():
    assert set(CALLS) == VERBS


@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize("error", [LibraryError("boo"), OSError("disk"), KeyError("id")], ids=repr)
def test_what_nobody_knows_decides_nothing(backend, verb, error):
    found = raised(backend, verb, error)
    assert type(found) is ControlPlaneError and found.retryable
    assert f"rude: {verb.replace('_', ' ')}: {type(error).__name__}" in found.message
    assert found.__cause__ is error and found.hint


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_errors_of_the_tree_stay_as_they_are(backend, verb):
    for error in (NoCapacity("full"), ConfigError("no"), AccessDenied("no right")):
        assert raised(backend, verb, error) is error


def test_a_sign_in_that_ends_decides_nothing_while_machines_work(backend):
    """Who gives machines back, or lists them, is told at once; so is who only looks."""
    error = SignInRefused("who are you?", hint="log in")
    seen = {verb: type(raised(backend, verb, error)) for verb in VERBS}
    at_work = {"provision", "probe", "launch", "tend", "cancel", "logs", "now", "lost_to"}
    assert {v for v, kind in seen.items() if kind is ControlPlaneError} == at_work
    assert all(kind is SignInRefused for v, kind in seen.items() if v not in at_work)
    hint = str(raised(backend, "probe", error).hint)
    assert hint.startswith("log in; ") and "continue" in hint


def test_a_backend_names_what_its_library_means():
    def known(error: Exception, what: str) -> DrillyardError | None:
        return NoCapacity(f"{what}: {error}") if isinstance(error, LibraryError) else None

    @translating(known)
    class Polite(Rude):
        kind = "polite"

        def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
            raise self.error

        def estimate(self, order: Order) -> Cost:
            return Cost(note="free")

        def check(self, order: Order | None = None) -> list[Finding]:
            return []

    backend = Polite()
    assert type(raised(backend, "probe", LibraryError("full"))) is NoCapacity
    assert type(raised(backend, "probe", ValueError("full"))) is ControlPlaneError
    # What it does not raise comes through as it is.
    assert called(backend, "estimate") == Cost(note="free") and called(backend, "check") == []
