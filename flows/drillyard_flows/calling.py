"""The flow ``experiment`` for ``drillyard.run``: called from a program, beside its own threads.

One server for the life of the program: a second call starts none. Nothing is drawn and no signal
is handled, because both belong to the program.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from typing import TYPE_CHECKING

from drillyard.driver.driver import Driver
from drillyard.errors import ControlPlaneError
from drillyard_flows import server as prefect_server
from drillyard_flows import settings
from drillyard_flows.opening import Request
from drillyard_flows.session import AFTERMATH_S, DECIDED, FlowThread, still_answers

if TYPE_CHECKING:
    from drillyard.spec.load import Loaded

POLL_S = 0.2
log = logging.getLogger("drillyard")
_lock = threading.Lock()
_server: prefect_server.Server | None = None


def through_prefect(driver: Driver, loaded: Loaded) -> bool:
    """Drive an open driver by the flow, up to and including its teardown.

    Args:
        driver: Open, with tickets to do.
        loaded: For the parameters that Prefect's UI shows.

    Returns:
        False when Prefect's API was not to be had: go on without it, the mailbox knows how far
        it is.

    Raises:
        DrillyardError: What decided the experiment.
    """
    try:
        server = _signed_in()
    except ControlPlaneError as error:
        log.warning("going on without Prefect's pages, results are not affected (%s)", error)
        return False
    log.info("Prefect: %s", server.ui_url)
    asked = loaded.asked
    request = Request(
        file=str(loaded.file), sets=asked.sets, globals_=asked.globals_, values=asked.values,
        tunables=asked.tunables,
    )  # fmt: skip
    driver.provision()  # beside Prefect's import, not after it; the task adopts this lease
    flow = FlowThread(driver, request, server)
    flow.start()
    ended_at: float | None = None
    while flow.is_alive():
        flow.join(POLL_S)
        if not driver.over:
            ended_at = None
            continue
        ended_at = ended_at or time.monotonic()
        waited = time.monotonic() - ended_at
        gone = waited > 5.0 and flow.reached and not still_answers(server)
        if waited > AFTERMATH_S or gone:
            # A task that ended while the API was away hangs for minutes; the work is over.
            log.warning("Prefect's API went away; results are not affected")
            return True
    if isinstance(flow.error, DECIDED):
        raise flow.error
    if flow.error is not None:
        log.warning("going on without Prefect's pages (%s)", flow.error)
    return flow.returned


def _signed_in() -> prefect_server.Server:
    """The server that this program uses, started at the first call.

    Prefect reads its address once, when it is imported: one that went away is not replaced.

    Raises:
        ControlPlaneError: None could be started, or it does not answer any more.
    """
    global _server
    with _lock:
        if _server is None:
            _server = prefect_server.acquire()
            atexit.register(_server.release)
            settings.use_api(_server.api_url, folder=_server.home if _server.ours else None)
        elif not still_answers(_server):
            raise ControlPlaneError(f"{_server.api_url} does not answer any more")
        return _server
