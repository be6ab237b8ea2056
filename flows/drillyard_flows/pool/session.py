"""Drives the machine of one flow run, and settles it: the state, the cost, the reservation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from drillyard.driver.compose import driver_of
from drillyard.driver.outcome import Kind, outcome_of
from drillyard.driver.six_phases import drive
from drillyard.errors import AlreadyDriven, DrillyardError, NotFound
from drillyard.leases.ledger import Ledger
from drillyard.leases.places import Places
from drillyard.leases.spending import Spending, spending, text_of
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import driven
from drillyard.runs.code_archive import install
from drillyard.spec.load import Loaded, load_resolved
from drillyard_flows.pool.account import Account, Entry
from drillyard_flows.pool.flow_run_api import FlowRunApi
from drillyard_flows.pool.request import Request
from drillyard_flows.pool.workload import PATH, report
from drillyard_flows.stopping import end_leases

Say = Callable[[str], None]
BEGUN_S = 120.0
"""Seconds after which a reservation without an experiment is of a worker that was killed."""
log = logging.getLogger(__name__)


class Session:
    """One flow run on machines of its own.

    Args:
        loaded: Its experiment.
        mailbox: Where.
        flow_run: Id of the flow run.
        account: The account of the pool.
        api: Prefect's API, as this machine sees it.
        say: Gets sentences for the log of the flow run.
    """

    def __init__(
        self,
        loaded: Loaded,
        mailbox: Mailbox,
        flow_run: str,
        account: Account,
        api: FlowRunApi,
        say: Say,
    ) -> None:
        self._loaded = loaded
        self.mailbox = mailbox
        self._flow_run = flow_run
        self._account = account
        self._api = api
        self._say = say

    def drive(self) -> None:
        """Rent, watch, end what was rented, and settle; nothing if another worker does this."""
        error: DrillyardError | None = None
        undecided = False
        order = self.mailbox.cancelled()
        if order is not None and not order.drain:  # opening it would take the order back
            with contextlib.suppress(NotFound):  # it was never opened
                end_leases(self.mailbox)
            return self.settle(order.reason)
        try:
            driver = driver_of(self._loaded, self.mailbox.store.url, say=self._say)
            if driver.open():
                outcome = drive(driver, say=self._say, report=False, mirror_patience_s=0.0)
            else:
                outcome = outcome_of(driver, None, None)
            error, undecided = outcome.error, outcome.kind is Kind.UNDECIDED
        except AlreadyDriven as other:
            log.info("%s: %s", self.mailbox.experiment, other)
            return
        except DrillyardError as refusal:
            error = refusal
        if undecided or any(entry.unseen for entry in Ledger(self.mailbox).entries()):
            self._say(f"not decided: {error}; what was rented may be alive")
            return  # and the next look adopts it
        self.settle(f"{error}" if error else "the machine ended without a state of the flow run")

    def settle(self, why: str) -> None:
        """Set the state that the machine could not, show the cost, and close the reservation.

        Args:
            why: Message of a flow run that has not ended by itself.

        Raises:
            ControlPlaneError: Prefect's API does not answer.
        """
        report(self._api, self._flow_run, self.mailbox.experiment, why)
        try:
            spent = spending(self.mailbox)
        except NotFound:  # it was refused before its record was written
            spent = Spending(self.mailbox.experiment, (), None)
        machines = "; ".join(
            f"{i.machines} on {i.backend} for {i.seconds:.0f} s" for i in spent.intervals
        )
        place = f"`drillyard status {self.mailbox.store.url}/{self.mailbox.experiment}`"
        text = f"{text_of(spent)}: {machines or 'nothing was rented'}.\n\nSee {place}."
        self._api.show(self._flow_run, "drillyard-cost", text)
        self.mailbox.store.delete(self.mailbox.key(PATH))
        self._account.settle(self.mailbox.experiment, spent.total, spent.currency)


def begin(request: Request, account: Account, api: FlowRunApi, say: Say, scratch: Path) -> Session:
    """Checks a flow run and reserves its cost; nothing is rented.

    Args:
        request: The flow run.
        account: The account of the pool.
        api: Prefect's API, as this machine sees it.
        say: Gets sentences for the log of the flow run.
        scratch: An empty folder, which outlives the session.

    Raises:
        UserError: The flow run is refused.
    """
    loaded, store = request.loaded(scratch)
    Places.of_spec(loaded.spec).prepare_store(store)
    mailbox = Mailbox(open_store(store), request.name)
    if _settled(mailbox):  # it was lost before the flow began, so Prefect has not counted it
        again = replace(request, attempt=request.attempt + 1)
        return begin(again, account, api, say, scratch)
    entry = Entry(
        experiment=request.name,
        store=mailbox.store.url,
        flow_run=request.flow_run,
        most=request.most,
        written_at=account.folder.store.now(),
    )
    account.reserve(entry, request.limit)
    mailbox.write(PATH, request.order())
    return Session(loaded, mailbox, request.flow_run, account, api, say)


def _settled(mailbox: Mailbox) -> bool:
    def has(name: str) -> bool:
        return mailbox.store.stat(mailbox.key(name)) is not None

    return not has(PATH) and (has("experiment.json") or has("control/cancel.json"))


def adopted(
    account: Account, entry: Entry, api: FlowRunApi, say: Say, scratch: Path
) -> Session | None:
    """Returns the session of a flow run whose worker was killed; None: it has a living driver.

    Args:
        account: The account of the pool.
        entry: The flow run in it.
        api: Prefect's API, as this machine sees it.
        say: Gets sentences for a log.
        scratch: An empty folder, which outlives the session.

    Raises:
        DrillyardError: The store does not answer, or the record cannot be read.
    """
    mailbox = Mailbox(open_store(entry.store), entry.experiment)
    if driven(mailbox):
        return None
    if mailbox.store.stat(mailbox.key("experiment.json")) is None:
        if mailbox.store.now() - entry.written_at > BEGUN_S:  # nothing can have been rented
            mailbox.store.delete(mailbox.key(PATH))
            account.settle(entry.experiment, 0.0)
        return None
    record = mailbox.experiment_record()
    # The files that the first worker packed, so that the identity is the same.
    paths = install(mailbox, record.code, [], scratch)
    folder = paths[0] if paths else scratch
    loaded = load_resolved(record.spec, folder=folder, provenance=record.provenance)
    loaded = replace(loaded, whole=bool(paths))
    return Session(loaded, mailbox, entry.flow_run, account, api, say)
