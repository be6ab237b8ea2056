"""Tears down the machines of a flow run that failed, crashed or was cancelled.

Prefect calls a hook by position in the process that ran the flow and by keyword in a worker, so
the parameters must have exactly these names. The worker is not the process that held the driver,
which may no longer exist. So the ledger in the mailbox lists what to tear down.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from drillyard.errors import UserError
from drillyard_flows.stopping import end_leases, order_stop

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

log = logging.getLogger(__name__)


def tear_down(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tears down the machines of a failed or crashed flow run whose outcome is decided."""
    _end(flow_run, stop=False)


def stop_and_tear_down(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Stops the work of a cancelled flow run, then tears down its machines."""
    _end(flow_run, stop=True)


def _end(flow_run: FlowRun, *, stop: bool) -> None:
    from drillyard.mailbox import Mailbox, open_store
    from drillyard_flows.form import request_of
    from drillyard_flows.request import loaded_of

    try:
        request = request_of(
            flow_run.parameters or {}, flow_run.expected_start_time, flow_run.tags
        )
        loaded = loaded_of(request)
    except UserError as error:
        # The flow run failed for the same reason, before it created anything.
        log.info("nothing to tear down: %s", error)
        return
    name = request.name or loaded.spec.name
    mailbox = Mailbox(open_store(request.store_url(loaded)), name)
    if stop:
        order_stop(mailbox, reason="cancelled in Prefect", by="prefect")
    # If Prefect or the store was unavailable, the outcome is not decided: the machines finish the
    # posted tickets and then shut down by themselves.
    for lease in end_leases(mailbox, only_decided=not stop):
        log.info("lease %s was torn down", lease)
