"""Prefect for ``drillyard.run``: called from a program, beside its own threads.

One server for the life of the program: a second call starts none. Nothing is drawn and no signal
is handled, because both belong to the program.
"""

from __future__ import annotations

import atexit
import logging
import threading

from drillyard.driver.stage import Stage
from drillyard.errors import ControlPlaneError
from drillyard.spec.load import Loaded
from drillyard_flows import server as prefect_server
from drillyard_flows.request import Request
from drillyard_flows.stage import PrefectStage, still_answers

log = logging.getLogger("drillyard")
_lock = threading.Lock()
_server: prefect_server.Server | None = None


def stage_of(loaded: Loaded) -> Stage:
    """The stage of one call of ``drillyard.run``.

    Args:
        loaded: For the parameters that Prefect's UI shows.
    """
    asked = loaded.asked
    request = Request(
        file=str(loaded.file),
        sets=asked.sets,
        globals_=asked.globals_,
        values=asked.values,
        tunables=asked.tunables,
    )
    return PrefectStage(request, acquire=_signed_in, release=lambda server: None, say=log.info)


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
        elif not still_answers(_server):
            raise ControlPlaneError(f"{_server.api_url} does not answer any more")
        return _server
