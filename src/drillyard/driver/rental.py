"""Rents the lease of one experiment."""

from __future__ import annotations

from drillyard.backend import Backend, Lease, Order
from drillyard.backend.settings.experiment import settings_of
from drillyard.driver.work_list import WorkList
from drillyard.leases.manager import LeaseManager
from drillyard.leases.orders import order_of
from drillyard.mailbox import Mailbox
from drillyard.spec import ExperimentSpec


class Rental:
    """Rents and replaces the lease of one experiment.

    Args:
        spec: The experiment.
        mailbox: Its mailbox; the order contains its URL.
        backend: Where capacity is rented.
        leases: The leases of the experiment.
        work: Gives the number of open runs.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        mailbox: Mailbox,
        backend: Backend,
        leases: LeaseManager,
        work: WorkList,
    ) -> None:
        self._spec = spec
        self._mailbox = mailbox
        self._backend = backend
        self._leases = leases
        self._work = work

    def rent(self) -> Lease:
        """Adopt a living lease, or rent one; returns at once."""
        return self._leases.rent(self._spec, self._order)

    def replace(self) -> Lease:
        """Write off the present lease, which is gone, and rent another one."""
        return self._leases.replace(self._spec, self._order)

    def _order(self, lease_id: str) -> Order:
        return order_of(
            self._spec,
            lease=lease_id,
            store_url=self._mailbox.store.url,
            runs=self._work.remaining_runs(),
            settings=settings_of(self._spec, self._backend.kind),
            code=self._mailbox.experiment_record().code,
        )
