"""Prefect for ``drillyard.run``, which a program calls beside its own threads.

A program has one server, which later calls use again. Terminal and signals belong to the program,
so nothing is drawn and no signal is handled.
"""

from __future__ import annotations

import atexit
import logging
import threading

from drillyard.driver.view import View
from drillyard.errors import ControlPlaneError
from drillyard.spec.load import Loaded
from drillyard_flows import server as prefect_server
from drillyard_flows.prefect_view import PrefectView, still_answers
from drillyard_flows.request import Request

log = logging.getLogger("drillyard")
_lock = threading.Lock()
_server: prefect_server.Server | None = None


def view_of(loaded: Loaded) -> View:
    """Returns the view of one call of ``drillyard.run``.

    Args:
        loaded: The experiment, whose parameters Prefect's UI shows.
    """
    given = loaded.asked
    request = Request(
        file=str(loaded.file),
        sets=given.sets,
        globals_=given.globals_,
        values=given.values,
        tunables=given.tunables,
    )
    return PrefectView(request, acquire=_signed_in, release=lambda server: None, say=log.info)


def _signed_in() -> prefect_server.Server:
    """Returns the server of this program, which the first call starts.

    Prefect reads its address once, at import, so a server that stopped is not replaced.

    Raises:
        ControlPlaneError: It could not be started, or no longer answers.
    """
    global _server
    with _lock:
        if _server is None:
            _server = prefect_server.acquire()
            atexit.register(_server.release)
        elif not still_answers(_server):
            raise ControlPlaneError(f"{_server.api_url} no longer answers")
        return _server
