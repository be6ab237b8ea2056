"""Rents the lease of one experiment."""

from __future__ import annotations

from drillyard.backend import Lease, Order
from drillyard.driver.work_list import WorkList
from drillyard.errors import NoCapacity
from drillyard.leases.manager import LeaseManager
from drillyard.leases.orders import order_of
from drillyard.leases.places import Place
from drillyard.mailbox import Mailbox
from drillyard.spec import ExperimentSpec


class Rental:
    """Rents and replaces the lease of one experiment.

    Args:
        spec: The experiment.
        mailbox: Its mailbox; the order contains its URL.
        leases: The leases of the experiment.
        work: Gives the number of open runs.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        mailbox: Mailbox,
        leases: LeaseManager,
        work: WorkList,
    ) -> None:
        self._spec = spec
        self._mailbox = mailbox
        self._leases = leases
        self._work = work

    def rent(self) -> Lease:
        """Adopt a living lease, or rent one; returns at once."""
        return self._leases.rent(self._spec, self._order)

    def replace(self) -> Lease:
        """Write off the present lease, which is gone, and rent another one."""
        return self._leases.replace(self._spec, self._order)

    def move(self, full: NoCapacity) -> bool:
        """Rent elsewhere, because the lease's place has no room; False if there is no other."""
        return self._leases.move(self._spec, self._order, full)

    def _order(self, lease_id: str, place: Place) -> Order:
        return order_of(
            place.spec or self._spec,
            lease=lease_id,
            store_url=self._mailbox.store.url,
            runs=self._work.remaining_runs(),
            settings=place.settings,
            code=self._mailbox.experiment_record().code,
        )
