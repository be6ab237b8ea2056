"""Copies of the simulator on other machines: whether they can join, and whether they help."""

from __future__ import annotations

import contextlib

from drillyard.errors import DrillyardError, InfrastructureError
from drillyard.findings import Finding, passed, problem
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs.parallelism import hosts
from drillyard.spec import ExperimentSpec

FIELD = "simulator.copies_on"


def listens(spec: ExperimentSpec, store: str) -> list[Finding]:
    """Finds out whether a training of this experiment could listen here.

    Args:
        spec: The experiment.
        store: URL of the mailbox's store.

    Raises:
        ConfigError: There is no invitation.
    """
    if spec.simulator is None or spec.simulator.copies_on != "hosts":
        return []
    from drillyard.simulators.hosts.listener import listen
    from drillyard.simulators.hosts.providers import EVERYWHERE, read_listening

    port = read_listening()[1].place[1]
    try:
        listen((EVERYWHERE, port)).close()
    except InfrastructureError as error:
        if _trains(spec, store):
            return [passed(FIELD, f"a training of this experiment has port {port}")]
        return [problem(FIELD, str(error), error.hint)]
    return [passed(FIELD, f"hosts join this machine at port {port}")]


def compared(spec: ExperimentSpec) -> list[Finding]:
    """Compares copies on other workers with copies in one process.

    Args:
        spec: The experiment.
    """
    train, simulator, number = spec.train, spec.simulator, hosts(spec)
    if train is None or simulator is None or not number:
        return []
    from drillyard.simulators.hosts.measure import comparison

    return [comparison(simulator, train.n_envs, number)]


def _trains(spec: ExperimentSpec, store: str) -> bool:
    """Whether a training of this experiment runs; it goes on without a driver."""
    with contextlib.suppress(DrillyardError):
        states = ticket_states(Mailbox(open_store(store), spec.name))
        return any(s.status is Status.RUNNING for s in states.values())
    return False
