"""A lease of which nothing is known for minutes, and one that is gone: what the driver does."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from drillyard.backend import Lease, Liveness, Order, Trait
from drillyard.driver.launcher import Launcher
from drillyard.driver.lease_supervisor import LeaseSupervisor
from drillyard.errors import ControlPlaneError
from drillyard.mailbox.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from tests.helpers.records import ticket_of
from tests.helpers.tiny_backend import ThreadBackend


class Refusing(ThreadBackend):
    """Refuses every launch; its lease is in the state that the test sets."""

    traits: ClassVar[frozenset[Trait]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.state: Liveness | None = Liveness.ALIVE
        self.asked = 0

    def launch(self, lease: Lease, ticket_id: str) -> None:
        self.asked += 1
        raise ControlPlaneError("the cluster is being deleted")

    def probe(self, lease: Lease, ticket_id: str | None = None) -> Liveness:
        if self.state is None:
            raise ControlPlaneError("no answer")
        return self.state


LEASE = "dy-0123456789"
RECORD = ticket_of(order=1)
READY = TicketState(RECORD, Status.READY, claimable=1)
RUNNING = TicketState(RECORD, Status.RUNNING, attempt=1)


def tended(
    backend: Refusing, state: TicketState = READY, holder: str | None = None
) -> list[Lease | None]:
    """Tends a lease with one ticket; returns the leases that were replaced.

    Args:
        backend: Has the lease.
        state: Of the ticket.
        holder: Lease of the worker that has claimed it.
    """
    order = Order(lease_id=LEASE, experiment="s", store_url="memory://supervised")
    lease = Lease(lease_id=order.lease_id, backend="thread", order=order, created_at=0.0)
    states = {RECORD.ticket: state}
    replaced: list[Lease | None] = []
    mailbox = Mailbox(MemoryStore("memory://supervised"), "s")
    parts: Any = SimpleNamespace(
        lease=lease,
        over=lambda lease, late_s=0.0: False,
        backend_of=lambda lease: backend,
        of=lambda states: states,
        close_lost=lambda states: {RECORD.ticket: holder} if state is RUNNING else {},
        given=False,
        read=lambda: states,
        must_drive=lambda: None,
        replace=lambda: replaced.append(lease),
    )
    supervisor = LeaseSupervisor(
        parts,
        parts,
        parts,
        parts,
        parts,
        Launcher(mailbox, backend, lambda lease: nullcontext()),
        parts,
        parts,
        say=lambda text: None,
    )
    supervisor.set_up = True
    supervisor.tend(states)
    return replaced


@pytest.mark.parametrize("state", [Liveness.UNKNOWN, Liveness.PENDING])
def test_a_launch_is_refused_without_harm_while_the_lease_is_not_known_to_live(state):
    """A cluster takes minutes to be deleted; then its lease is gone, and is replaced."""
    backend = Refusing()
    backend.state = state
    tended(backend)
    assert backend.asked == 1


@pytest.mark.parametrize("state", [Liveness.ALIVE, None], ids=["alive", "no answer"])
def test_a_launch_that_a_living_lease_refuses_is_a_failure(state):
    """So is one whose provider does not answer: after some minutes the command says so."""
    backend = Refusing()
    backend.state = state
    with pytest.raises(ControlPlaneError, match="being deleted"):
        tended(backend)


@pytest.mark.parametrize(
    ("state", "holder", "times"),
    [
        pytest.param(READY, None, 1, id="a run waits for a worker"),
        pytest.param(RUNNING, LEASE, 1, id="its own workers were lost with it"),
        pytest.param(RUNNING, None, 1, id="it is not known whose worker it was"),
        pytest.param(RUNNING, "dy-9999999999", 0, id="a worker of an earlier lease works"),
    ],
)
def test_a_lease_that_is_gone_is_replaced_only_for_work_that_nothing_else_does(
    state, holder, times
):
    """A machine that its provider calls gone may work on: others would be idle and end."""
    backend = Refusing()
    backend.state = Liveness.GONE
    assert len(tended(backend, state, holder)) == times
