"""What happens when a flow run ends badly: nothing rented may stay behind.

Prefect calls a hook by position in the process that ran the flow and by keyword in a worker, so
the parameters must have exactly these names. In a worker it is another process than the one that
held the driver, and possibly the only one left. So the ledger in the mailbox says what to end.
"""

from __future__ import annotations

import logging
from typing import Any

from drillyard.errors import UserError
from drillyard_flows.stopping import end_leases, order_stop

log = logging.getLogger(__name__)


def tear_down(flow: Any, flow_run: Any, state: Any) -> None:
    """Give back what a failed or crashed flow run rented, where the outcome is decided."""
    _end(flow_run, stop=False)


def stop_and_tear_down(flow: Any, flow_run: Any, state: Any) -> None:
    """Stop the work of a cancelled flow run, then give back what it rented."""
    _end(flow_run, stop=True)


def _end(flow_run: Any, *, stop: bool) -> None:
    from drillyard.mailbox import Mailbox, open_store
    from drillyard_flows.form import asked
    from drillyard_flows.request import loaded_of

    try:
        request = asked(flow_run.parameters or {})
        loaded = loaded_of(request)
    except UserError as error:
        # It failed for this very reason, before anything was created.
        log.info("nothing to give back: %s", error)
        return
    name = request.name or loaded.spec.name
    mailbox = Mailbox(open_store(request.store_url(loaded)), name)
    if stop:
        order_stop(mailbox, reason="cancelled in Prefect", by="prefect")
    # A flow run that failed because Prefect or the store was away has decided nothing: the
    # machines go on with what is posted, and end by themselves after it.
    for lease in end_leases(mailbox, only_decided=not stop):
        log.info("lease %s is gone", lease)
