"""The set-up: waits for the workers, and replaces a lease that dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from drillyard.backend import Backend, Lease, Liveness, delays_of
from drillyard.driver.lease_supervisor import LeaseSupervisor, limit_reached
from drillyard.driver.work_list import WorkList
from drillyard.errors import Bug, NoCapacity, SearchEnded, Stopped, WorkerLost
from drillyard.leases.lost_attempts import probe
from drillyard.leases.manager import LeaseManager
from drillyard.leases.places import Places
from drillyard.leases.setup_wait import SetupWait
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import WorkerRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState

SETUP_TIMEOUT_S = 1800.0
"""Time limit of the set-up, in seconds, in addition to the backend's own set-up time."""
SETUP_REPLACEMENTS = 2
"""Number of leases that may die before they are ready. After that, another one would die too."""
SILENT_REPLACEMENTS = 1
"""Number of leases that are replaced because they run and no worker has started in time."""


class Setup:
    """The set-up of one experiment, in steps.

    Args:
        mailbox: Where workers report that they are ready.
        places: Have the backend of each lease.
        leases: The leases of the experiment; one is rented already.
        supervisor: Replaces a lease that died.
        work: Ends the wait if workers that were ready early have done everything.
        check_stopped: Raises if the experiment was asked to stop.
        timeout_s: Time limit in seconds, in addition to the backend's own set-up time.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        places: Places,
        leases: LeaseManager,
        supervisor: LeaseSupervisor,
        work: WorkList,
        check_stopped: Callable[[], None],
        timeout_s: float = SETUP_TIMEOUT_S,
    ) -> None:
        if leases.lease is None:
            raise Bug("setup before provision")
        self._mailbox = mailbox
        self._places = places
        self._leases = leases
        self._supervisor = supervisor
        self._work = work
        self._check_stopped = check_stopped
        self._timeout_s = timeout_s
        self._deadline: float | None = None
        self._lease: Lease | None = None
        self._wait: SetupWait | None = None
        self.ready: list[WorkerRecord] = []
        """The workers that are ready, once it has finished."""

    def step(self, now: float) -> float | None:
        """Check once; None once the workers are ready.

        Raises:
            RunFailed: A worker could not be set up; with its message.
            TimedOut: The time of the lease is over, and nothing is being worked on.
            WorkerLost: Leases died repeatedly, or were not ready in time.
            InfrastructureError: The provider or the store did not answer; call again.
            Stopped: The experiment was asked to stop, and nothing is being worked on.
        """
        try:
            self._check_stopped()
        except Stopped:
            if not _is_worked_on(self._work.read()):
                raise
            self._begin_early()
            return None
        lease = self._leases.lease
        if lease is None:
            return self._rented_again()
        if self._deadline is None:
            self._deadline = now + self._timeout_s + delays_of(self._backend(lease)).setup_s
        if self._leases.over(lease):
            self._out_of_time(lease)
            return None
        if self._wait is None or lease is not self._lease:
            self._lease = lease
            left_s = self._deadline - now
            self._wait = SetupWait(
                self._mailbox,
                self._backend(lease),
                lease,
                left_s,
                self._work.done_early,
                self._leases.only_open,
                self._leases.explain,
            )
        try:
            pause_s = self._wait.step(now)
        except NoCapacity as full:
            return self._moved(lease, full)
        except WorkerLost as error:
            return self._replaced(lease, error)
        if pause_s is None:
            self._supervisor.set_up = True
            self.ready = self._wait.ready
        return pause_s

    def _out_of_time(self, lease: Lease) -> None:
        """End the wait, and ask for no more machines: a provider would have none to give."""
        states = self._work.read()
        if not _is_worked_on(states) and not self._work.decided:
            raise limit_reached(self._backend(lease), lease, states)
        self._begin_early()

    def _begin_early(self) -> None:
        """Ends the wait: those that were ready early have done everything, or save their work."""
        self._supervisor.set_up = True
        self.ready = self._wait.ready if self._wait is not None else []

    def _backend(self, lease: Lease) -> Backend:
        return self._places.backend_of(lease)

    def _moved(self, lease: Lease, full: NoCapacity) -> float:
        with self._supervisor.ending:
            # It was torn down meanwhile, or there is no other place: the error decides.
            if self._leases.lease is not lease or not self._supervisor.move(lease, full):
                raise SearchEnded(full.message, hint=full.hint) from full
        # The machines of another place get the same time.
        self._deadline = None
        return 0.0

    def _rented_again(self) -> float | None:
        """Rent after an error in the middle of renting, which was taken back."""
        if self._work.decided:
            return None  # the machines of the lease before had done everything
        with self._supervisor.ending:
            if self._supervisor.torn_down:
                raise WorkerLost("the lease was torn down", hint="run the command again")
            self._supervisor.replace(None)
        return 0.0

    def _replaced(self, lease: Lease, lost: WorkerLost) -> float | None:
        state = probe(self._backend(lease), lease)
        gone = state is Liveness.GONE
        if gone and self._work.decided:
            return None  # its machines had done everything, and ended themselves
        if gone and self._places.elsewhere(lease):
            return self._moved(lease, NoCapacity(lost.message, hint=lost.hint))
        # A machine that runs and never started its worker: another one may start it. If not, it
        # is the image or the network, and each try costs as much as the whole wait.
        silent = state is Liveness.ALIVE and not any(
            worker.lease == lease.lease_id for worker in self._mailbox.each_worker()
        )
        most = SETUP_REPLACEMENTS if gone else SILENT_REPLACEMENTS
        if not (gone or silent) or self._supervisor.replaced >= most:
            raise lost
        with self._supervisor.ending:
            # It was torn down meanwhile, and the teardown decides.
            if self._leases.lease is not lease:
                raise lost
            self._supervisor.replace(lease)
        if silent:
            self._deadline = None  # the new machine gets the same time
        return 0.0


def _is_worked_on(states: Mapping[str, TicketState]) -> bool:
    return any(state.status is Status.RUNNING for state in states.values())
